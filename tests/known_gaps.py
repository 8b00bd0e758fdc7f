"""What does not work yet, by (op, backend); a gap that starts to work fails its test.

The name is the op's and the tag of the row, with `.grad`, `.symbolic` or `.jit` behind it where
only that is missing.
"""

_TIES = "the gradient at ties goes to the first argument alone, elsewhere to each by half"
_STATIC = "needs to know the sizes of the axes that it works on"

GAPS = {
    ("maximum[ties].grad", "tensorflow"): _TIES,
    ("minimum[ties].grad", "tensorflow"): _TIES,
    ("argmax[nan]", "tensorflow"): "NaN does not count as the largest",
    ("argmin[nan]", "tensorflow"): "NaN does not count as the smallest",
    ("argmax[nan].jit", "tensorflow"): "NaN does not count as the largest",
    ("argmin[nan].jit", "tensorflow"): "NaN does not count as the smallest",
    ("take.grad", "tensorflow"): "engine.value_and_grad gives IndexedSlices for arguments",
    ("cross.jit", "tensorflow"): _STATIC,
    ("pad[edge].jit", "tensorflow"): _STATIC,
    ("pad[wrap].jit", "tensorflow"): _STATIC,
    ("correlate.jit", "tensorflow"): _STATIC,
    ("unstack.jit", "tensorflow"): _STATIC,
    ("pinv.jit", "tensorflow"): _STATIC,
    ("lstsq.jit", "tensorflow"): _STATIC,
    ("matrix_rank.jit", "tensorflow"): _STATIC,
    ("lu_factor.jit", "tensorflow"): _STATIC,
}
