"""Model cards, and uploads to the Hub."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from hub.presets.build import read_config
from hub.presets.files import HANDLE_URL, PresetFiles, resolve
from hub.presets.remote import explained
from hub.tasks.image.image_task import ImageTask
from hub.tasks.registry import task_for
from hub.tasks.text.text_embedder import TextEmbedder
from hub.weights.reader import open_weights
from keraslite.saving import is_temporary


def model_card(
    preset_dir: str | os.PathLike,
    repo: str = "org/repo",
    *,
    base_model: str | None = None,
    license: str | None = None,
    metrics: Mapping[str, float] | None = None,
) -> str:
    """Return the text of a README.md for a checkpoint.

    Args:
        preset_dir: a folder that `save_to_preset` wrote.
        repo: the name that the checkpoint is going to have.
        base_model: what it was fine-tuned from, such as "google-bert/bert-base-uncased".
        license: an identifier such as "apache-2.0".
        metrics: names and values that it reached.

    Raises:
        FileNotFoundError: the folder has no config.json.
        ValueError: the config is none.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     config = {"model_type": "bert", "architectures": ["BertForMaskedLM"]}
        ...     _ = Path(folder, "config.json").write_text(json.dumps(config))
        ...     print(model_card(folder, license="mit").split("---")[1].strip())
        library_name: "transformers"
        pipeline_tag: "fill-mask"
        license: "mit"
        tags: ["keraslite", "bert"]
    """
    config = read_config(resolve(Path(preset_dir)))
    task = task_for(config) or TextEmbedder
    pipeline, auto = task.pipeline, task.transformers_class
    reads_images = "image" in pipeline or issubclass(task, ImageTask)
    reader = "AutoProcessor" if reads_images else "AutoTokenizer"
    variable = reader.removeprefix("Auto").lower()
    head: dict[str, Any] = {
        "library_name": "transformers", "pipeline_tag": pipeline, "base_model": base_model,
        "license": license, "tags": ["keraslite", config["model_type"]],
    }  # fmt: skip
    name = repo.rpartition("/")[2]
    if metrics:
        head["metrics"] = list(metrics)
        results = [{"type": k, "name": k, "value": float(v)} for k, v in metrics.items()]
        result = {
            "task": {"type": pipeline, "name": pipeline},
            "dataset": {"type": "custom", "name": "custom"},
            "metrics": results,
        }
        head["model-index"] = [{"name": name, "results": [result]}]
    # JSON is YAML too, and quotes what needs quotes.
    lines = [f"{key}: {json.dumps(value)}" for key, value in head.items() if value is not None]
    reached = "".join(f"- {k}: {v:g}\n" for k, v in (metrics or {}).items())
    origin = f"Fine-tuned from `{base_model}`.\n\n" if base_model else ""
    return (
        "---\n" + "\n".join(lines) + "\n---\n\n"
        f"# {name}\n\n{origin}"
        + (f"Reached:\n\n{reached}\n" if reached else "")
        + f"With JAX, PyTorch, TensorFlow or NumPy:\n\n```python\nimport hub\n\n"
        f'model = hub.{task.task}.from_preset("{repo}")\n```\n\n'
        f"With transformers:\n\n```python\nfrom transformers import {reader}, "
        f'{auto}\n\nmodel = {auto}.from_pretrained("{repo}")\n'
        f'{variable} = {reader}.from_pretrained("{repo}")\n```\n'
    )


def upload_preset(
    repo: str,
    preset_dir: str | os.PathLike,
    *,
    private: bool = False,
    token: str | None = None,
    revision: str | None = None,
    message: str = "Upload a checkpoint",
    base_model: str | None = None,
    license: str | None = None,
    metrics: Mapping[str, float] | None = None,
) -> str:
    """Upload a folder that `save_to_preset` wrote; makes the repository if need be.

    Args:
        repo: such as "org/repo", or "hf://org/repo".
        preset_dir: the folder. Without a README.md it gets a model card, once that is uploaded.
            Hidden files stay where they are.
        private: whether a new repository is private.
        token: an access token that may write; the one that is saved by default.
        revision: the branch, made if need be; the main one by default.
        message: of the commit.
        base_model: as for `model_card`.
        license: as for `model_card`.
        metrics: as for `model_card`.

    Returns:
        The address of the commit.

    Raises:
        ValueError: `repo` names no repository, or holds another revision than `revision`.
        FileNotFoundError: the folder is no complete checkpoint; nothing was sent then.
        PermissionError: the token may not write there.
        ConnectionError: the Hub was not reached, or somebody else wrote there meanwhile.

    Example:
        >>> upload_preset("org/repo", "my_model", private=True)  # doctest: +SKIP
        'https://huggingface.co/org/repo/commit/...'
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    repo, revision = target_of(repo, revision)
    folder = Path(preset_dir)
    _check(resolve(folder))
    contents: dict[str, Any] = {name: folder / name for name in _published(folder)}
    card = folder / "README.md"
    text = None
    if card.name not in contents:
        text = model_card(folder, repo, base_model=base_model, license=license, metrics=metrics)
        contents[card.name] = text.encode()
    operations = [CommitOperationAdd(name, content) for name, content in contents.items()]
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token)
    with explained(f"cannot upload {str(folder)!r} to {repo!r}: ", writing=True):
        full_name = api.create_repo(repo, private=private, exist_ok=True).repo_id
        if revision is not None and not revision.startswith("refs/"):
            api.create_branch(full_name, branch=revision, exist_ok=True)
        commit = api.create_commit(full_name, operations, revision=revision, commit_message=message)
    if text is not None:
        card.write_text(text, encoding="utf-8")
    return str(commit.commit_url)


def target_of(repo: str, revision: str | None) -> tuple[str, str | None]:
    """Return the repository and the branch that a handle names.

    Args:
        repo: "org/repo", "repo" of the user's own, or "hf://org/repo@revision".
        revision: a branch, or None.

    Raises:
        ValueError: it names no repository, or another revision.

    >>> target_of("hf://org/repo@draft", None), target_of("repo", "draft")
    (('org/repo', 'draft'), ('repo', 'draft'))
    """
    match = HANDLE_URL.fullmatch(repo)
    if match is None and not repo.startswith("hf://"):
        return repo, revision  # the client checks it
    if match is None or match["folder"]:
        raise ValueError(
            f"repo must be 'org/repo' or 'hf://org/repo@revision', got {repo!r}: a checkpoint is "
            "uploaded into the top of a repository"
        )
    named = match["revision"] and unquote(match["revision"])
    if named and revision not in (None, named):
        raise ValueError(f"{repo!r} and revision={revision!r} disagree: give one")
    return match["repo"], revision or named


def _published(folder: Path) -> list[str]:
    """Return the names of the files to upload, without hidden and temporary ones."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(
        path.as_posix()
        for path in paths
        if not is_temporary(path)
        and (path.name == ".gitattributes" or not any(p.startswith(".") for p in path.parts))
    )


def _check(files: PresetFiles) -> None:
    """Raise an error unless a folder opens as a checkpoint."""
    read_config(files)
    open_weights(files)
