"""Model cards, and uploads to the Hub."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hub.presets.build import read_config
from hub.presets.files import PresetFiles, resolve
from hub.presets.remote import explained
from hub.tasks.registry import task_for
from hub.tasks.text.text_embedder import TextEmbedder
from hub.weights.reader import open_weights


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
    reader = "AutoProcessor" if "image" in pipeline else "AutoTokenizer"
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
        repo: such as "org/repo".
        preset_dir: the folder. Without a README.md it gets a model card.
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
        FileNotFoundError: the folder is no complete checkpoint; nothing was sent then.
        PermissionError: the token may not write there.
        ConnectionError: the Hub was not reached, or somebody else wrote there meanwhile.

    Example:
        >>> upload_preset("org/repo", "my_model", private=True)  # doctest: +SKIP
        'https://huggingface.co/org/repo/commit/...'
    """
    from huggingface_hub import HfApi

    folder = Path(preset_dir)
    _check(resolve(folder))
    card = folder / "README.md"
    if not card.exists():
        text = model_card(folder, repo, base_model=base_model, license=license, metrics=metrics)
        card.write_text(text, encoding="utf-8")
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token)
    with explained(f"cannot upload {str(folder)!r} to {repo!r}: "):
        full_name = api.create_repo(repo, private=private, exist_ok=True).repo_id
        if revision is not None and not revision.startswith("refs/"):
            api.create_branch(full_name, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=full_name, folder_path=folder, revision=revision, commit_message=message
        )
    return str(commit.commit_url)


def _check(files: PresetFiles) -> None:
    """Raise an error unless a folder opens as a checkpoint."""
    read_config(files)
    open_weights(files)
