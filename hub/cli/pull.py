"""`hub pull`: download what a preset needs."""

import argparse

from hub.cli.common import add_checkpoint_options, networks, preset_files
from hub.convert.safetensors import KEPT
from hub.presets.files import PIPELINE
from hub.weights.reader import open_weights

add_arguments = add_checkpoint_options


def run(options: argparse.Namespace) -> None:
    """Download weights and the files beside them, and print the folder."""
    files = preset_files(options)
    folders = []
    for network in networks(files, options.safety_checker):
        folders.append(open_weights(network).files[0].path.parent)
        network.paths(name for name in KEPT if name in network)
    if PIPELINE in files:
        beside = ("tokenizer/", "scheduler/", "feature_extractor/")
        files.paths(n for n in files.names if n == PIPELINE or n.startswith(beside))
        folders = [files.path(PIPELINE).parent]
    print(folders[0])
