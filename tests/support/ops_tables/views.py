"""Cases of unique, view and rearrange, by jnp."""

import jax
import jax.numpy as jnp
import numpy as np
from ops_cases import row

rng = np.random.default_rng(9)
CUBE = rng.normal(size=(4, 6, 3)).astype("float32")
LINE = np.arange(12, dtype="int32")
REPEATED = rng.integers(0, 4, (5, 4)).astype("int32")
ROWS_OF = REPEATED[[0, 1, 0, 2, 1, 3]] % 2
ALL_OF_IT = {"return_index": True, "return_inverse": True, "return_counts": True}


def unique(x, **kwargs):
    """jnp's, with 0 for what is missing."""
    kwargs.setdefault("fill_value", 0)
    return jnp.unique(x, **kwargs)


def reshaped(shape, axes, last):
    return lambda x, pattern, **sizes: x.reshape(shape).transpose(axes).reshape(last)


ROWS = [
    *(row("unique", x, oracle=unique, size=size, **more)
      for x in (REPEATED, REPEATED.astype("float32"), REPEATED > 1) for size in (2, 6)
      for more in ({}, ALL_OF_IT)),
    row("unique", REPEATED, size=6, fill_value=9, oracle=unique),
    row("unique", ROWS_OF, size=5, axis=0, oracle=unique, **ALL_OF_IT),
    row("unique", ROWS_OF, size=4, axis=-1, fill_value=7, oracle=unique, **ALL_OF_IT),
    row("unique", ROWS_OF.reshape(3, 2, 4), size=3, axis=1, oracle=unique, unknown=(), **ALL_OF_IT),
    row("view", CUBE, "int32", oracle=lambda x, d: jax.lax.bitcast_convert_type(x, d), wide=False),
    row("view", LINE, "int8", oracle=lambda x, d: x.view(d), unknown=(), wide=False),
    row("view", LINE, "float16", oracle=lambda x, d: x.view(d), unknown=(), wide=False),
    row("view", CUBE.astype("float16"), "bfloat16", oracle=lambda x, d: x.view(d), wide=False),
    row("view", LINE.astype("int8").reshape(3, 4), "int32", oracle=lambda x, d: x.view(d), wide=False),
    row("view", LINE, oracle=lambda x: x.view("float32"), wide=False),
    row("view", LINE > 3, "uint8", oracle=lambda x, d: x.view(d), wide=False),
    row("view", (LINE > 3).astype("uint8"), "bool", oracle=lambda x, d: x.view(d), wide=False),
    row("rearrange", CUBE, "b h w -> w b h", grad=0, oracle=lambda x, p: x.transpose(2, 0, 1)),
    row("rearrange", CUBE, "b h w -> (b h) w", oracle=lambda x, p: x.reshape(24, 3)),
    row("rearrange", CUBE, "b (h p) w -> b p (h w)", p=2, grad=0,
        oracle=reshaped((4, 3, 2, 3), (0, 2, 1, 3), (4, 2, 9))),
    row("rearrange", CUBE, "(b q)(p h)w->h(q b w)p", p=3, q=4,
        oracle=reshaped((1, 4, 3, 2, 3), (3, 1, 0, 4, 2), (2, 12, 3)), unknown=()),
    row("rearrange", CUBE, "... w -> w ...", oracle=lambda x, p: x.transpose(2, 0, 1)),
    row("rearrange", CUBE, "b ... -> (b ...)", oracle=lambda x, p: x.reshape(-1)),
    row("rearrange", CUBE, "b ... w -> 1 b w () ... 1", unknown=(),
        oracle=lambda x, p: x.transpose(0, 2, 1)[None, :, :, None, :, None]),
    row("rearrange", CUBE[:, :1], "b 1 w -> w b", oracle=lambda x, p: x[:, 0].T),
    row("rearrange", LINE, "(a b) -> a b", a=3, oracle=lambda x, p, a: x.reshape(3, 4), unknown=()),
    row("rearrange", np.array(0, "int32"), " -> 1", oracle=lambda x, p: x[None], unknown=()),
]  # fmt: skip
