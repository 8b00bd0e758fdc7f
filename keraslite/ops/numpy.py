"""Ops that numpy has under the same name, by topic: one definition each.

Bodies are composite wherever a composition is as good as a native function; the arguments that
reach them are tensors of one backend, promoted by the op's rule. Constants made inside a body
are numpy arrays: literals follow the tensors beside them, whatever the current backend is.
"""

from keraslite.ops.arithmetic import *
from keraslite.ops.core import stack
from keraslite.ops.creation import *
from keraslite.ops.elementwise import *
from keraslite.ops.exponential import *
from keraslite.ops.indexing import *
from keraslite.ops.logic import *
from keraslite.ops.products import *
from keraslite.ops.reductions import *
from keraslite.ops.searching import *
from keraslite.ops.shapes import *
from keraslite.ops.slicing import get_item
from keraslite.ops.transforms import vectorize
