"""The operations, under their Keras names, on whichever backend the data belongs to."""

from keraslite.ops import image, linalg, math, nn, numpy, signal, sparse
from keraslite.ops.core import *
from keraslite.ops.ctc import *
from keraslite.ops.einops import *
from keraslite.ops.linalg import *
from keraslite.ops.math import *
from keraslite.ops.nn import *
from keraslite.ops.numpy import *
from keraslite.ops.rnn import *
from keraslite.ops.signal import *
from keraslite.ops.transforms import (
    associative_scan,
    checkpoint,
    cond,
    custom_gradient,
    grad,
    jit,
    jvp,
    scan,
    stop_gradient,
    value_and_grad,
    vjp,
    vmap,
    while_loop,
)
