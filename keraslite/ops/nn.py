"""Neural network ops: activations, losses, normalisations, convolutions, pools, attention."""

from keraslite.ops.activation import *
from keraslite.ops.attention import *
from keraslite.ops.convolution import *
from keraslite.ops.crossentropy import *
from keraslite.ops.ctc import *
from keraslite.ops.normalization import *
from keraslite.ops.rearrangement import *
