"""PRIMITIVES: what JAX answers to, op by op; where it is silent the composite body runs."""

from keraslite.backend.jax import ops_linalg, ops_nn, ops_numpy, ops_signal

PRIMITIVES = {**ops_numpy.TABLE, **ops_linalg.TABLE, **ops_nn.TABLE, **ops_signal.TABLE}
SCALARS = ops_numpy.SCALARS
