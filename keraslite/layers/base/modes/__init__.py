"""The quantization modes: what a layer makes of its large weights in each."""

from keraslite.layers.base.modes.calibrated import AWQ, GPTQ, Calibrated, observed
from keraslite.layers.base.modes.float8 import Float8
from keraslite.layers.base.modes.int4 import Int4, Int4Layout
from keraslite.layers.base.modes.int8 import Int8, int8_linear
from keraslite.layers.base.modes.mode import Mode, frozen_linear, rounded

MODES: dict[str | None, Mode] = {
    "int8": Int8(), "int4": Int4(), "float8": Float8(), "gptq": GPTQ(), "awq": AWQ(),
}  # fmt: skip

__all__ = [
    "MODES", "Calibrated", "Int4Layout", "Mode", "frozen_linear", "int8_linear", "observed",
    "rounded",
]  # fmt: skip
