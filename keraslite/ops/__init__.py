"""The operations, under their Keras names, on whichever backend the data belongs to."""

from keraslite.ops import linalg, math, nn, numpy
from keraslite.ops.core import *
from keraslite.ops.linalg import *
from keraslite.ops.math import *
from keraslite.ops.nn import *
from keraslite.ops.numpy import *
from keraslite.ops.transforms import (
    cond,
    custom_gradient,
    grad,
    jit,
    scan,
    stop_gradient,
    value_and_grad,
    vmap,
    while_loop,
)
