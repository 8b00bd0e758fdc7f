"""Process-wide settings: float type, fuzz factor, data format, and the default backend."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

_FLOAT_TYPES = ("float16", "bfloat16", "float32", "float64")


_VARIABLES = ("KERASLITE_BACKEND", "KERAS_BACKEND")


def keras_home() -> Path:
    """Return the folder of Keras's settings and downloads: KERAS_HOME, or .keras at home."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")


CONFIG_FILE = keras_home() / "keras.json"


def _config_file() -> dict[str, Any]:
    """The user's keras.json, if there is one; it is only read, never made."""
    if not CONFIG_FILE.is_file():
        return {}
    try:
        return dict(json.loads(CONFIG_FILE.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{CONFIG_FILE} is not a JSON object: {error}. Mend or remove it."
        ) from None


_FILE = _config_file()
_settings: dict[str, Any] = {
    "floatx": _FILE.get("floatx", "float32"),
    "epsilon": float(_FILE.get("epsilon", 1e-7)),
    "image_data_format": _FILE.get("image_data_format", "channels_last"),
    "flash_attention": None,
    "interactive_logging": True,
    "max_epochs": int(os.environ.get("KERAS_MAX_EPOCHS") or 0) or None,
    "max_steps_per_epoch": int(os.environ.get("KERAS_MAX_STEPS_PER_EPOCH") or 0) or None,
}


def backend_of_environment() -> tuple[str, str] | None:
    """Return the backend that an environment variable asks for, and its name; None if none does."""
    return next(((os.environ[n], n) for n in _VARIABLES if os.environ.get(n)), None)


def backend_of_config_file() -> str | None:
    """Return the backend that keras.json names; None if it names none."""
    return _FILE.get("backend")


def floatx() -> str:
    """Return the default float type, as a string.

    >>> floatx()
    'float32'
    """
    return _settings["floatx"]


def set_floatx(value: str) -> None:
    """Set the default float type: one of float16, bfloat16, float32, float64."""
    if value not in _FLOAT_TYPES:
        raise ValueError(f"floatx must be one of {_FLOAT_TYPES}, got {value!r}.")
    _settings["floatx"] = value


def epsilon() -> float:
    """Return the small number that keeps divisions and logarithms finite.

    >>> epsilon()
    1e-07
    """
    return _settings["epsilon"]


def set_epsilon(value: float) -> None:
    """Set the small number that keeps divisions and logarithms finite."""
    _settings["epsilon"] = float(value)


def image_data_format() -> str:
    """Return "channels_last" or "channels_first", the default of the image layers.

    >>> image_data_format()
    'channels_last'
    """
    return _settings["image_data_format"]


def set_image_data_format(data_format: str) -> None:
    """Set the default of the image layers: "channels_last" or "channels_first"."""
    if data_format not in ("channels_last", "channels_first"):
        raise ValueError(f"Expected channels_last or channels_first, got {data_format!r}.")
    _settings["image_data_format"] = data_format


def max_epochs() -> int | None:
    """Return the most epochs that a `fit` runs, None for no limit.

    It is set by `set_max_epochs`, or by KERAS_MAX_EPOCHS in the environment.

    >>> max_epochs()
    """
    return _settings["max_epochs"]


def set_max_epochs(max_epochs: int | None) -> None:
    """Limit the epochs of every `fit`, to try a script out quickly.

    Args:
        max_epochs: the limit; None for none.
    """
    _settings["max_epochs"] = _limit("max_epochs", max_epochs)


def max_steps_per_epoch() -> int | None:
    """Return the most batches of an epoch of `fit`, `evaluate` and `predict`, None for no limit.

    It is set by `set_max_steps_per_epoch`, or by KERAS_MAX_STEPS_PER_EPOCH in the environment.

    >>> max_steps_per_epoch()
    """
    return _settings["max_steps_per_epoch"]


def set_max_steps_per_epoch(max_steps_per_epoch: int | None) -> None:
    """Limit the batches of every `fit`, `evaluate` and `predict`, to try a script out quickly.

    Args:
        max_steps_per_epoch: the limit; None for none.
    """
    _settings["max_steps_per_epoch"] = _limit("max_steps_per_epoch", max_steps_per_epoch)


def enable_flash_attention() -> None:
    """Let attention use a fused kernel wherever the backend has one, as it does by default."""
    _settings["flash_attention"] = None


def disable_flash_attention() -> None:
    """Keep attention that is not told otherwise from using a fused kernel."""
    _settings["flash_attention"] = False


def is_flash_attention_enabled() -> bool | None:
    """Return False if fused attention is disabled, else None, as Keras does.

    >>> is_flash_attention_enabled()
    """
    return _settings["flash_attention"]


def enable_interactive_logging() -> None:
    """Print progress and messages, as is done by default."""
    _settings["interactive_logging"] = True


def disable_interactive_logging() -> None:
    """Send progress and messages to the logger "keraslite" in the place of the standard output."""
    _settings["interactive_logging"] = False


def is_interactive_logging_enabled() -> bool:
    """Return whether progress and messages are printed.

    >>> is_interactive_logging_enabled()
    True
    """
    return _settings["interactive_logging"]


def enable_traceback_filtering() -> None:
    """Warn that tracebacks are whole: they are not filtered here."""
    warnings.warn("keraslite does not filter tracebacks: they are shown whole.", stacklevel=2)


def disable_traceback_filtering() -> None:
    """Show tracebacks whole, as is always done; there for Keras code."""


def is_traceback_filtering_enabled() -> bool:
    """Return False: tracebacks are shown whole.

    >>> is_traceback_filtering_enabled()
    False
    """
    return False


def is_nnx_enabled() -> bool:
    """Return False: variables are not those of flax.nnx.

    >>> is_nnx_enabled()
    False
    """
    return False


def _limit(name: str, value: int | None) -> int | None:
    if value is not None and (not isinstance(value, int) or value < 1):
        raise ValueError(f"{name} must be a positive int or None, got {value!r}.")
    return value
