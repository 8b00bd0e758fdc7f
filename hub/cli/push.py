"""`hub push`: upload a folder to the Hub."""

import argparse

from hub.cli.common import add_remote_options
from hub.tasks.publishing import upload_preset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder, the repository, and what the model card says.

    Args:
        parser: of the command.
    """
    parser.add_argument("folder", help="what save_to_preset or `hub convert` wrote")
    parser.add_argument("repo", help="org/repo or hf://org/repo@revision, made if need be")
    add_remote_options(parser)
    parser.add_argument("--private", action="store_true", help="a new repository is private")
    parser.add_argument("--message", default="Upload a checkpoint", help="of the commit")
    parser.add_argument("--license", help="for the model card, such as apache-2.0")
    parser.add_argument("--base-model", help="for the model card: what was fine-tuned")


def run(options: argparse.Namespace) -> None:
    """Upload, and print the address of the commit."""
    url = upload_preset(
        options.repo, options.folder, private=options.private, token=options.token,
        revision=options.revision, message=options.message, license=options.license,
        base_model=options.base_model,
    )  # fmt: skip
    print(url)
