"""The parser, which leads to the file of a command, and the one place for its errors."""

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

from hub.cli.common import error_line

# Each command is a file of this package, with `add_arguments(parser)` and `run(options)`.
_COMMANDS = {
    "list": "the built-in presets",
    "info": "what is known of a preset",
    "pull": "download what a preset needs; prints the folder",
    "push": "upload a folder, with a model card if there is none",
    "verify": "read every tensor and compare it with the model",
    "run": "run a model on inputs; prints one JSON line an input",
    "convert": "write weights, KerasHub's too, as safetensors",
    "bench": "texts, images, or tokens or steps of a drawing, a second",
}
_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status.

    Whatever goes wrong is one line on stderr; where it happened is logged at the level DEBUG.

    Args:
        arguments: the words of the command line; those of the process by default.

    >>> main(["info", "opt_125m_en"])  # doctest: +ELLIPSIS
    name: opt_125m_en
    ...
    0
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser(words).parse_args(words)
    try:
        status = _command(options.name).run(options) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read our output has seen enough
        sys.stdout = None
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # a damaged file, a framework: nobody wants a traceback of it
        _log.debug("hub %s", options.name, exc_info=True)
        print(f"hub {options.name}: {error_line(error)}", file=sys.stderr)
        return 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{self.prog}: {message}; see {self.prog} --help\n")


def _command(name: str) -> object:
    return importlib.import_module(f"hub.cli.{name}")


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of a command line; only the file of its command is imported."""
    parser = _Parser(
        prog="hub", description="Presets listed, fetched and checked; models run, converted, timed."
    )
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")
    for name, text in _COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if name == next((word for word in words if not word.startswith("-")), None):
            _command(name).add_arguments(command)
    return parser
