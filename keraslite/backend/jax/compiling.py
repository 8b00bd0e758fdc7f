"""What XLA compiles for JAX is announced, whoever asks for it and however often shapes change."""

import threading
from typing import Any

import jax

from keraslite.backend.compile_notice import announce_compilation

_EVENT = "/jax/core/compile/backend_compile_duration"
_ends = threading.local()  # of the compilation that this thread waits for


def announce_compilations() -> None:
    """Announce every compilation of JAX from now on."""
    jax.monitoring.register_scalar_listener(_begins)
    jax.monitoring.register_event_duration_secs_listener(_is_done)


def _begins(event: str, value: float, fun_name: Any = "a function", **kwargs: Any) -> None:
    if event == _EVENT:
        _ends.end = announce_compilation(f"{fun_name} on jax")


def _is_done(event: str, duration: float, **kwargs: Any) -> None:
    if event == _EVENT and (end := _ends.__dict__.pop("end", None)):
        end()
