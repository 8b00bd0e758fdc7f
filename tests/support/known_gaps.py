"""What does not work yet, by (op, backend); a gap that starts to work fails its test.

The name is the op's and the tag of the row, with `.grad`, `.symbolic` or `.graph` behind it where
only that is missing.
"""

_TIES = "the gradient at ties goes to the first argument alone, elsewhere to each by half"
_STATIC = "needs to know the sizes of the axes that it works on"

GAPS = {
    ("maximum[ties].grad", "tensorflow"): _TIES,
    ("minimum[ties].grad", "tensorflow"): _TIES,
    ("cross.graph", "tensorflow"): _STATIC,
    ("correlate.graph", "tensorflow"): _STATIC,
    ("unstack.graph", "tensorflow"): _STATIC,
    ("pinv.graph", "tensorflow"): _STATIC,
    ("lstsq.graph", "tensorflow"): _STATIC,
    ("matrix_rank.graph", "tensorflow"): _STATIC,
    ("lu_factor.graph", "tensorflow"): _STATIC,
    ("affine_transform.graph", "tensorflow"): _STATIC,
    ("map_coordinates.graph", "tensorflow"): _STATIC,
}
