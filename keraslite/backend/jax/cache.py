"""JAX's cache of compiled programs on disk, which is on where the user has said nothing of it."""

import hashlib
import os
import platform
from pathlib import Path

import jax

_OWN_SETTINGS = ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE")


def keep_compiled_programs() -> Path | None:
    """Let JAX keep what took it a second or more to compile, for later processes.

    Returns:
        The folder, below `$XDG_CACHE_HOME` or `~/.cache`; None where the user has chosen one, has
        switched the cache off, or it cannot be written.
    """
    chosen = jax.config.jax_compilation_cache_dir is not None
    if chosen or any(name in os.environ for name in _OWN_SETTINGS):
        return None
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home, "keraslite", "jax", f"{jax.__version__}-{_processor()}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    return folder


def _processor() -> str:
    """Return a name of this kind of processor: programs for one may not run on another."""
    text = platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            text += next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:
        text += platform.processor()
    return hashlib.sha256(text.encode()).hexdigest()[:12]
