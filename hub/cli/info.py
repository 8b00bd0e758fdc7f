"""`hub info`: facts about a preset, without loading it."""

import argparse

from hub.cli.common import add_remote_options
from hub.presets.about import info


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_remote_options(parser)
    parser.add_argument("preset")


def run(options: argparse.Namespace) -> None:
    """Print a line a fact."""
    facts = info(options.preset, revision=options.revision, token=options.token)
    unverified = facts.pop("unverified", [])
    for key, value in facts.items():
        mark = "  (not verified)" if key in unverified else ""
        if isinstance(value, dict):
            print(f"{key}:{mark}")
            for inner, text in value.items():
                print(f"  {inner}: {text}")
        elif isinstance(value, list):
            print(f"{key}: {', '.join(map(str, value))}{mark}")
        elif value is not None:
            print(f"{key}: {value:,}{mark}" if type(value) is int else f"{key}: {value}{mark}")
    if "safetensors" in unverified:
        print("weights: safetensors (not verified; another format is read where it is there)")
