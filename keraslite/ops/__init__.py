"""The operations, under their Keras names, on whichever backend the data belongs to."""

from keraslite.ops import linalg, math, nn, numpy
from keraslite.ops.core import *  # noqa: F403
from keraslite.ops.linalg import *  # noqa: F403
from keraslite.ops.math import *  # noqa: F403
from keraslite.ops.nn import *  # noqa: F403
from keraslite.ops.numpy import *  # noqa: F403
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
