"""Programs of ExecuTorch, which runs on phones and small devices."""

import re
from typing import Any

import torch

from keraslite.backend.errors import UnsupportedOpsError
from keraslite.backend.torch.export import quiet


def lowered(program: torch.export.ExportedProgram, partitioner: Any = None) -> bytes:
    """Lower a program of torch.export.

    Args:
        program: the program, whose free axes have largest sizes.
        partitioner: a list of partitioners; XNNPACK's by default.

    Raises:
        UnsupportedOpsError: ExecuTorch lacks an operation.
    """
    with quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

    if any("scan" in str(node.target) for node in program.graph.nodes):
        raise UnsupportedOpsError(
            ["scan"], "a loop over a free axis; input_signature can fix its size"
        )
    partitioner = [XnnpackPartitioner()] if partitioner is None else partitioner
    try:
        with quiet():
            edge = to_edge_transform_and_lower(program, partitioner=partitioner)
            return edge.to_executorch().buffer
    except Exception as error:  # of many classes
        ops = re.findall(r"Operator torch\._ops\.([\w.]+) is not", str(error))
        raise UnsupportedOpsError(ops, f"{type(error).__name__}: {error}") from error
