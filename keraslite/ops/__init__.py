"""The operations, under their Keras names, on whichever backend the data belongs to."""

from keraslite.ops import image, linalg, math, nn, numpy, signal, sparse
from keraslite.ops.casting import *
from keraslite.ops.control_flow import *
from keraslite.ops.core import *
from keraslite.ops.ctc import *
from keraslite.ops.einops import *
from keraslite.ops.linalg import *
from keraslite.ops.math import *
from keraslite.ops.nn import *
from keraslite.ops.numpy import *
from keraslite.ops.rnn import *
from keraslite.ops.signal import *
from keraslite.ops.slicing import *
from keraslite.ops.transforms import *
