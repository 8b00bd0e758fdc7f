"""Cases of the ops of linear algebra, by jnp and its products."""

import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
from ops_cases import row

rng = np.random.default_rng(1)
M = rng.normal(size=(2, 3, 3)).astype("float32") + 2 * np.eye(3, dtype="float32")
SPD = M @ M.swapaxes(-1, -2) + np.eye(3, dtype="float32")
TALL = rng.normal(size=(4, 3)).astype("float32")
FLAT = np.concatenate([TALL[:, :2], TALL[:, :1] + TALL[:, 1:2]], 1)  # of rank 2
B = rng.normal(size=(2, 3, 2)).astype("float32")
V = rng.normal(size=(2, 3)).astype("float32")
LOWER = np.tril(M)
INTS = np.int32([[2, 1], [1, 3]])

ROWS = [
    row("cholesky", SPD, oracle=jnp.linalg.cholesky, grad=0),
    row("cholesky", SPD, upper=True, oracle=jnp.linalg.cholesky),
    row("cholesky_inverse", LOWER, grad=0,
        oracle=lambda x: jnp.linalg.inv(
            jnp.tril(x) @ jnp.tril(x).swapaxes(-1, -2))),
    row("cholesky_inverse", LOWER.swapaxes(-1, -2), upper=True,
        oracle=lambda x, upper: jnp.linalg.inv(x.swapaxes(-1, -2) @ x)),
    row("det", M, oracle=jnp.linalg.det, grad=0), row("det", INTS, oracle=jnp.linalg.det, unknown=()),
    row("slogdet", M, oracle=jnp.linalg.slogdet), row("slogdet", -M[0], oracle=jnp.linalg.slogdet, unknown=()),
    row("logdet", SPD, oracle=lambda x: jnp.linalg.slogdet(x)[1], grad=0),
    row("inv", M, oracle=jnp.linalg.inv, grad=0), row("inv", INTS, oracle=jnp.linalg.inv, unknown=()),
    row("pinv", TALL, oracle=jnp.linalg.pinv, grad=0), row("pinv", FLAT, oracle=jnp.linalg.pinv, wide=False),
    row("pinv", TALL.T, 0.5, oracle=jnp.linalg.pinv),
    row("matrix_rank", M, oracle=jnp.linalg.matrix_rank),
    row("matrix_rank", FLAT, oracle=jnp.linalg.matrix_rank),
    row("matrix_rank", TALL, 1.5, oracle=lambda x, t: jnp.sum(
        jnp.linalg.svd(x, compute_uv=False) > t)),
    row("lu_factor", M, oracle=jsl.lu_factor), row("lu_factor", M[0][::-1].copy(), oracle=jsl.lu_factor, unknown=()),
    *(row("norm", TALL, oracle=jnp.linalg.norm, grad=0 if order in (None, "fro", 1) else None,
          ord=order, axis=axis, keepdims=keep)
      for order, axis in ((None, None), ("fro", None), (1, None), (-1, None), (np.inf, None),
                          (-np.inf, None), (2, None), (-2, None), ("nuc", None))
      for keep in (False, True)),
    *(row("norm", B, oracle=jnp.linalg.norm, ord=order, axis=axis)
      for order, axis in ((None, 1), (2, 0), (1, -1), (3, 1), (0, 1), (np.inf, 1), (-np.inf, 1),
                          (None, (0, 2)), ("fro", (1, 2)), (1, (0, 1)), (np.inf, (-2, -1)))),
    row("norm", B, oracle=jnp.linalg.norm), row("norm", V[0], 3, oracle=jnp.linalg.norm),
    row("norm", INTS, oracle=jnp.linalg.norm),
    row("solve", M, B, oracle=jnp.linalg.solve, grad=(0, 1), unknown=(0, 1)),
    row("solve", M, V, oracle=lambda a, b: jnp.linalg.solve(a, b[..., None])[..., 0]),
    row("solve", M[0], V[0], oracle=jnp.linalg.solve),
    *(row("solve_triangular", M, b, lower=lower, grad=(0, 1),
          oracle=lambda a, b, lower: jnp.linalg.solve(
              jnp.tril(a) if lower else jnp.triu(a), b if b.ndim == 3 else b[..., None]
          ).reshape(b.shape)) for b in (B, V) for lower in (False, True)),
    row("lstsq", TALL, rng.normal(size=(4, 2)).astype("float32"), grad=(0, 1),
        oracle=lambda a, b: jnp.linalg.pinv(a) @ b),
    row("lstsq", TALL, TALL[:, 0], oracle=lambda a, b: jnp.linalg.lstsq(a, b)[0], atol=1e-5),
    row("svd", M, compute_uv=False, oracle=jnp.linalg.svd, grad=0),
    row("svd", TALL, compute_uv=False, oracle=jnp.linalg.svd),
]  # fmt: skip
