"""Helpers of the commands: options, files and the wording of errors."""

import argparse

from hub.presets.files import PIPELINE, PresetFiles, resolve

_OWN_ERRORS = (ValueError, TypeError, OSError, NotImplementedError, ImportError)


def error_line(error: BaseException) -> str:
    """Return the message of an error in one line, with its type where we do not raise it ourselves.

    Args:
        error: the error.

    >>> error_line(ValueError("no such preset")), error_line(KeyError("x"))
    ('no such preset', "KeyError: 'x'")
    """
    text = " ".join(str(error).split())
    if text and isinstance(error, _OWN_ERRORS):
        return text
    return f"{type(error).__name__}: {text}".rstrip(": ")


def add_remote_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for repositories.

    Args:
        parser: of the command.
    """
    parser.add_argument("--revision", help="a branch, tag or commit of a repository")
    parser.add_argument("--token", help="an access token for private repositories")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for loading a model.

    Args:
        parser: of the command.
    """
    add_remote_options(parser)
    parser.add_argument("--backend", help="jax, torch, tensorflow or numpy")
    parser.add_argument("--dtype", help="float32, bfloat16, float16, or a policy")


def add_checkpoint_options(parser: argparse.ArgumentParser) -> None:
    """Add the preset, for commands about all its weights.

    Args:
        parser: of the command.
    """
    add_remote_options(parser)
    parser.add_argument("preset")
    parser.add_argument("--safety-checker", action="store_true", help="that of a pipeline too")


def preset_files(options: argparse.Namespace, preset: str | None = None) -> PresetFiles:
    """Return the files of the preset that a command is about.

    Args:
        options: of the command.
        preset: the handle; that of the options by default.
    """
    return resolve(preset or options.preset, revision=options.revision, token=options.token)


def networks(files: PresetFiles, safety_checker: bool) -> list[PresetFiles]:
    """Return the folders with weights: several of a pipeline, else the checkpoint itself.

    Args:
        files: of the preset.
        safety_checker: whether that of a pipeline is among them.
    """
    if PIPELINE not in files:
        return [files]
    names = ("text_encoder", "unet", "vae", *(["safety_checker"] if safety_checker else []))
    return [files.folder(name) for name in names]
