"""Benchmark the rule that chooses the kernels of torch's products on this processor.

Every kernel that could run a product, on weights as checkpoints store them (outputs, inputs) and
as layers make them (inputs, outputs), against what the rule takes in a replayed step of `predict`.
The weights of a run exceed the caches, as those of a model do.

    python scripts/bench/kernels.py [--only float32 1] [--rounds 9]
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial

from common import in_process, interleaved, machine, report

SHAPES = ((768, 768), (768, 3072), (3072, 768), (2048, 8192), (768, 50257))
ROWS = (1, 8, 64, 512)
DTYPES = ("float32", "bfloat16")
_BYTES = 2**27  # of the weights of a run
_MOST = 24  # products of a run


def kernels(x, weights: list) -> dict[str, Callable[[], list]]:
    """The products of rows and each weight (outputs, inputs), by each kernel that torch has."""
    import torch

    linear = torch.nn.functional.linear
    straight = [w.t().contiguous().t() for w in weights]
    runs = {
        "torch": lambda: [linear(x, w) for w in weights],
        "torch, stored (inputs, outputs)": lambda: [linear(x, w) for w in straight],
    }
    if torch.backends.mkldnn.is_available():
        product = partial(torch.ops.mkldnn._linear_pointwise, x)
        rest = None, "none", [], ""
        runs["oneDNN"] = lambda: [product(w, *rest) for w in weights]
        runs["oneDNN, stored (inputs, outputs)"] = lambda: [product(w, *rest) for w in straight]
        packed = [torch.ops.mkldnn._reorder_linear_weight(w, x.shape[0]) for w in weights]
        runs["oneDNN, packed"] = lambda: [product(w, *rest) for w in packed]
    return runs


def compare(dtype: str, rows: int, rounds: int) -> None:
    """Report the time of the chosen kernel relative to the fastest, for each shape."""
    import torch

    from keraslite.backend.torch.fast.linear import linear
    from keraslite.backend.torch.fast.products import PRODUCTS
    from keraslite.backend.torch.fast.recording import recorded

    torch_dtype = getattr(torch, dtype)
    if dtype == "bfloat16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        print("No products of bfloat16: the processor would have to emulate them.")
        return
    for inputs, outputs in SHAPES:
        size = inputs * outputs * torch_dtype.itemsize
        weights = [torch.randn(outputs, inputs).to(torch_dtype)
                   for _ in range(max(2, min(_MOST, _BYTES // size)))]  # fmt: skip
        x = torch.randn(rows, inputs).to(torch_dtype)
        stored = {
            "(outputs, inputs)": [torch.nn.Parameter(w).t() for w in weights],
            "(inputs, outputs)": [torch.nn.Parameter(w.t().contiguous()) for w in weights],
        }
        with torch.no_grad():
            runs = kernels(x, weights)
            for layout, matrices in stored.items():
                replayed = recorded(lambda x, matrices=matrices: [linear(x, w) for w in matrices])
                for _ in range(4):
                    replayed(x)
                runs[f"ours {layout}"] = partial(replayed, x)
            medians = interleaved(runs, rounds)
        own = {name: medians.pop(f"ours {name}") for name in stored}
        fastest = min(medians, key=medians.get)
        size *= len(weights)
        for layout, spent in own.items():
            report(
                f"{dtype}, {rows} rows, weights {layout} of {inputs} x {outputs}: "
                "ours / the fastest kernel", spent / medians[fastest], "x time", "<= 1.05",
                fastest=fastest, rule=PRODUCTS.get(torch_dtype),
                gb_per_s=round(size / spent / 1e9, 1),
                gflops=round(2 * rows * size / torch_dtype.itemsize / spent / 1e9, 1),
            )  # fmt: skip


def main() -> None:
    """Run each dtype and number of rows in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs=2, metavar=("DTYPE", "ROWS"))
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    if options.only:
        dtype, rows = options.only
        compare(dtype, int(rows), options.rounds)
        return
    print(machine())
    for dtype in DTYPES:
        for rows in ROWS:
            in_process([sys.argv[0], "--rounds", str(options.rounds), "--only", dtype, str(rows)])


if __name__ == "__main__":
    main()
