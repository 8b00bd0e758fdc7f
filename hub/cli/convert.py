"""`hub convert`: write weights, those of other libraries too, as safetensors; or for KerasHub."""

import argparse
import math
from pathlib import Path

from hub.cli.common import add_remote_options, preset_files
from hub.convert.ctranslate2 import convert_ctranslate2, is_ctranslate2
from hub.convert.kerascv import convert_kerascv, is_kerascv
from hub.convert.kerashub import Converted, convert_kerashub, is_kerashub
from hub.convert.kerashub_export import export_to_kerashub
from hub.convert.openai_whisper import convert_openai_whisper
from hub.convert.safetensors import convert
from hub.presets.build import config_of_weights
from hub.presets.files import PresetFiles, resolve, resolve_file
from hub.tasks.registry import load
from hub.tokenizers import Tokenizer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_remote_options(parser)
    parser.add_argument("source", metavar="SRC")
    parser.add_argument("target", metavar="DST")
    parser.add_argument(
        "--tokenizer", metavar="PRESET", help="whose tokenizer a .pt or model.bin has"
    )
    parser.add_argument(
        "--to", choices=("safetensors", "kerashub"), default="safetensors",
        help="the layout of DST: that of transformers (default), or a preset of KerasHub",
    )  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Write the checkpoint, and print a line a tensor."""
    target = Path(options.target)
    if options.to == "kerashub":
        _report_export(_export(preset_files(options, options.source), target), target)
        return
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


def _export(files: PresetFiles, target: Path) -> list[Converted]:
    """Write a preset for KerasHub, its tokenizer too where it has no task."""
    model = load(files)
    rows = export_to_kerashub(model, target)
    if not hasattr(model, "preprocessor"):
        try:
            tokenizer = Tokenizer.from_preset(files)
        except FileNotFoundError:
            return rows
        export_to_kerashub(tokenizer, target)
    return rows


def _report_export(rows: list[Converted], target: Path) -> None:
    """Print what each tensor of a preset of KerasHub is of ours."""
    written = [row for row in rows if row.theirs]
    width = max(len(row.theirs) for row in written)
    for row in rows:
        note = f"  ({row.note})" if row.note else ""
        if row.theirs:
            print(f"{row.theirs:{width}}  {row.dtype:9}  {row.shape}  <- {row.ours}{note}")
        else:
            print(f"left: {row.ours}  {row.shape}{note}")
    count = sum(math.prod(row.shape) for row in written)
    print(f"{len(written)} tensors, {count:,} numbers, {len(rows) - len(written)} left: {target}")


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
