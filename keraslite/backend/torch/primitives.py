"""PRIMITIVES: what torch answers to, op by op; where it is silent the composite body runs."""

from keraslite.backend.torch import ops_linalg, ops_nn, ops_numpy, ops_rnn, ops_signal

PRIMITIVES = {
    **ops_numpy.TABLE,
    **ops_linalg.TABLE,
    **ops_nn.TABLE,
    **ops_rnn.TABLE,
    **ops_signal.TABLE,
}
SCALARS = ops_numpy.SCALARS
