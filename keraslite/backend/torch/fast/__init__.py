"""Faster forms of operations: without this folder results are the same to rounding.

`linear` answers the op of that name in place of `F.linear`, `recorded` is `jit(compile="record")`
in place of the function itself, and `FUSED` holds whole steps of optimizers in place of `{}`. No
other name of this folder is used outside it.
"""
