"""The tables of cases for ops, one file a topic: `TABLES[topic]` is a list of `ops_cases.Case`, and
`KERAS` has the rows (op, *arguments) that are compared with the installed Keras's op.
"""

from ops_tables import arrays, edges, image, linalg, nn, signal, views

TABLES = {
    module.__name__.rpartition(".")[2]: module.ROWS
    for module in (arrays, linalg, signal, image, nn, views, edges)
}
KERAS = [*nn.KERAS, *image.KERAS]
