"""`hub convert`: write weights, those of other libraries too, as safetensors."""

import argparse
import math
from pathlib import Path

from hub.cli.common import add_remote_options, preset_files
from hub.convert.ctranslate2 import convert_ctranslate2, is_ctranslate2
from hub.convert.kerascv import convert_kerascv, is_kerascv
from hub.convert.kerashub import Converted, convert_kerashub, is_kerashub
from hub.convert.openai_whisper import convert_openai_whisper
from hub.convert.safetensors import convert
from hub.presets.build import config_of_weights
from hub.presets.files import resolve, resolve_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_remote_options(parser)
    parser.add_argument("source", metavar="SRC")
    parser.add_argument("target", metavar="DST")
    parser.add_argument(
        "--tokenizer", metavar="PRESET", help="whose tokenizer a .pt or model.bin has"
    )


def run(options: argparse.Namespace) -> None:
    """Write the checkpoint, and print a line a tensor."""
    target = Path(options.target)
    if options.source.endswith(".pt"):
        remote = {"revision": options.revision, "token": options.token}
        files = resolve(options.source, **remote)
        if config_of_weights(files):
            rows = convert(files, target)
        else:
            file = resolve_file(options.source, **remote)
            rows = convert_openai_whisper(*file, target, options.tokenizer)
    else:
        files = preset_files(options, options.source)
        if is_kerashub(files):
            read = convert_kerascv if is_kerascv(files) else convert_kerashub
            _report(read(files, target), target)
            return
        if is_ctranslate2(files):
            rows = convert_ctranslate2(files, target, options.tokenizer)
        else:
            rows = convert(files, target)
    width = max(len(name) for name, _, _ in rows)
    for name, shape, dtype in rows:
        print(f"{name:{width}}  {dtype:9}  {shape}")
    print(
        f"{len(rows)} tensors, {sum(math.prod(s) for _, s, _ in rows):,} numbers: {options.target}"
    )


def _report(rows: list[Converted], target: Path) -> None:
    """Print what was done with each tensor of a preset of KerasHub or KerasCV."""
    width = max(len(row.ours) for row in rows)
    for row in rows:
        if row.ours:
            source = f"  <- {row.theirs}" if row.theirs else ""
            print(f"{row.ours:{width}}  {row.dtype:9}  {row.shape}{source}  ({row.note})")
    for row in rows:
        if not row.ours:
            print(f"left: {row.theirs}  {row.dtype}  {row.shape}: {row.note}")
    written = [row for row in rows if row.ours]
    count = sum(math.prod(row.shape) for row in written)
    left = len(rows) - len(written)
    print(f"{len(written)} tensors, {count:,} numbers, {left} tensors left: {target}")
