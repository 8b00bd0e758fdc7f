"""The command line: presets listed, fetched and checked; models run, converted and timed."""

from hub.cli.main import main

__all__ = ["main"]
