"""Which library runs the products of torch on a CPU: a fixed rule, so that runs repeat themselves.

torch sends float32 products to MKL, and carries oneDNN as well, with bias and activation fused in.
The processor decides. `KERASLITE_LINEAR=onednn` or `=torch` settles float32 by hand, and `=measure`
times both when the backend is loaded, after which results may differ from run to run in the last
digits. bfloat16 runs on oneDNN either way, and gains the fused activation.
"""

import os
import platform
import re
import time
from pathlib import Path

import torch
from torch.nn import functional as F

_LINEAR = getattr(getattr(torch.ops, "mkldnn", None), "_linear_pointwise", None)

# What oneDNN runs: nothing, products without gradients, or all.
TORCH, FORWARD, ONEDNN = "torch", "forward", "onednn"

# (vendor or "" for any, dtype, instruction sets and libraries that must be there, who runs it): the
# first row that holds counts. A processor that nobody has measured stays with torch's own.
RULES: tuple[tuple[str, str, frozenset, str], ...] = (
    # Zen 5: MKL reaches half the rate of the processor. oneDNN is 2.0 to 2.3 times as fast with 8
    # rows or more, forward and backward, and 0.9 to 1.6 times with one row.
    ("AuthenticAMD", "float32", frozenset({"onednn", "mkl", "avx512f"}), ONEDNN),
    # Zen 3, with AVX2 alone: oneDNN is 1.05 to 1.1 times as fast with many rows, 1.3 to 1.7 times
    # with one row or a large vocabulary, where a weight is stored (outputs, inputs), as in most
    # checkpoints.
    ("AuthenticAMD", "float32", frozenset({"onednn", "mkl", "avx2"}), FORWARD),
    # Xeon with AVX-512: the same rate on large products, and 16 against 13 GB/s of weights with one
    # row: Intel keeps torch's own.
    # bfloat16: oneDNN's product in either case. Its fused activation saves 3 to 10 %, but for
    # gradients the activation has to be apart.
    ("", "bfloat16", frozenset({"onednn", "bfloat16"}), FORWARD),
)  # fmt: skip
_LEAST_FORWARD, _LEAST_TRAINING = 1.03, 1.25  # the gains from which a measurement chooses oneDNN


def product_for(vendor: str, capabilities: frozenset, dtype: str) -> str:
    """Return who runs the products of a dtype on a processor.

    Args:
        vendor: as in /proc/cpuinfo: "AuthenticAMD", "GenuineIntel" ...
        capabilities: instruction sets as in /proc/cpuinfo, "mkl" and "onednn" where torch has them,
            and "bfloat16" where oneDNN has such products.
        dtype: the name of a dtype.

    >>> product_for("GenuineIntel", frozenset({"onednn", "mkl", "avx512f"}), "float32")
    'torch'
    """
    for maker, name, needed, product in RULES:
        if maker in ("", vendor) and name == dtype and needed <= capabilities:
            return product
    return TORCH


def processor(cpuinfo: str) -> tuple[str, frozenset]:
    """Return the vendor and the instruction sets in the text of /proc/cpuinfo; empty, where it is.

    >>> processor("vendor_id : AuthenticAMD")
    ('AuthenticAMD', frozenset())
    """
    fields = dict(re.findall(r"^(\w+)\s*:[ \t]*(.*)$", cpuinfo, re.MULTILINE))
    return fields.get("vendor_id", ""), frozenset(fields.get("flags", "").split())


def this_processor() -> tuple[str, frozenset]:
    """Return the vendor and the capabilities of the processor at hand."""
    path = Path("/proc/cpuinfo")
    vendor, sets = processor(path.read_text() if path.exists() else "")
    vendor = vendor or platform.processor().rpartition(", ")[2]  # Windows: "..., AuthenticAMD"
    capabilities = set(sets)
    if torch.backends.cpu.get_cpu_capability() == "AVX512":  # where there is no such file
        capabilities.add("avx512f")
    if torch.backends.mkl.is_available():
        capabilities.add("mkl")
    if _LINEAR is not None and torch.backends.mkldnn.is_available():
        capabilities.add("onednn")
        if torch.ops.mkldnn._is_mkldnn_bf16_supported():
            capabilities.add("bfloat16")
    return vendor, frozenset(capabilities)


def choose_products(asked: str = "") -> dict[torch.dtype, str]:
    """Return who runs the products of each dtype on this machine.

    Args:
        asked: "" for the rule; "onednn", "torch" or "measure" for float32.
    """
    if asked not in ("", "onednn", "torch", "measure"):
        raise ValueError(
            f"KERASLITE_LINEAR must be one of onednn, torch or measure, got {asked!r}."
        )
    vendor, capabilities = this_processor()
    products = {
        dtype: product_for(vendor, capabilities, str(dtype).removeprefix("torch."))
        for dtype in (torch.float32, torch.bfloat16)
    }
    if asked and "onednn" in capabilities:
        products[torch.float32] = _measured() if asked == "measure" else asked
    return products


def _measured() -> str:
    gain = measure()
    return ONEDNN if gain > _LEAST_TRAINING else FORWARD if gain > _LEAST_FORWARD else TORCH


@torch.no_grad()
def measure() -> float:
    """Return the time of torch's own product over that of oneDNN's, of 34 million multiplications.

    They run in turns, and the best time of each counts.
    """
    x, weight, bias = (
        torch.full(shape, 0.5, dtype=torch.float32, device="cpu")
        for shape in ((128, 512), (512, 512), (512,))
    )
    trials = (
        lambda: F.linear(x, weight, bias),
        lambda: _LINEAR(x, weight, bias, "none", [], ""),
    )
    best = [float("inf"), float("inf")]
    for _ in range(6):
        for i, trial in enumerate(trials):
            start = time.perf_counter()
            trial()
            best[i] = min(best[i], time.perf_counter() - start)
    return best[0] / best[1]


PRODUCTS = choose_products(os.environ.get("KERASLITE_LINEAR", ""))
# With AVX2 alone, oneDNN's exact GELU takes three times as long as torch's.
FUSES_GELU = "avx512f" in this_processor()[1]
