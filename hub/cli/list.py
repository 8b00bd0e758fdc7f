"""`hub list`: the built-in presets."""

import argparse

from hub.presets.table import list_presets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("family", nargs="?", help="only those of one family, such as bert")


def run(options: argparse.Namespace) -> None:
    """Print a line a preset."""
    rows = list_presets(options.family)
    width = max(map(len, rows))
    print(f"{'preset':{width}}  {'parameters':>14}  {'licence':10}  repository")
    for name, row in rows.items():
        print(f"{name:{width}}  {row['parameters']:14,}  {row['license']:10}  {row['repo']}")
