"""Image ops: resizing, warps, crops and patches, colours and filters.

Images are (height, width, channels) or batches of them; channels_first is a transposition around.
What computes does so in float32 at least; the result has the images' dtype, and integers are
rounded and clipped to their range.
"""

from keraslite.ops.image import color, cropping, filters, resizing, warping
from keraslite.ops.image.color import *
from keraslite.ops.image.cropping import *
from keraslite.ops.image.filters import *
from keraslite.ops.image.resizing import *
from keraslite.ops.image.warping import *

__all__ = [n for m in (color, cropping, filters, resizing, warping) for n in m.__all__]
