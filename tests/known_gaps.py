"""What does not work yet, by (op, backend); a gap that starts to work fails its test.

The name is the op's, with `.grad`, `.symbolic` or `.jit` behind it where only that is missing.
"""

GAPS = {}
