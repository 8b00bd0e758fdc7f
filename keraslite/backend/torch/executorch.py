"""Programs of ExecuTorch, which runs on phones and small devices."""

import contextlib
import io
import logging
import re
import warnings
from typing import Any

import torch

from keraslite.backend.errors import UnsupportedOps


def lowered(program: torch.export.ExportedProgram, partitioner: Any = None) -> bytes:
    """Lower a program of torch.export.

    Args:
        program: the program, whose free axes have largest sizes.
        partitioner: a list of partitioners; XNNPACK's by default.

    Raises:
        UnsupportedOps: ExecuTorch lacks an operation.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    partitioner = [XnnpackPartitioner()] if partitioner is None else partitioner
    level = logging.root.manager.disable
    try:
        logging.disable(logging.WARNING)
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            edge = to_edge_transform_and_lower(program, partitioner=partitioner)
            return edge.to_executorch().buffer
    except Exception as error:  # of many classes
        ops = re.findall(r"Operator torch\._ops\.([\w.]+) is not", str(error))
        raise UnsupportedOps(ops, f"{type(error).__name__}: {error}") from error
    finally:
        logging.disable(level)
