"""Making a checkpoint ready for others: converted to safetensors, described, uploaded."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hub.presets.build import read_config, write_json
from hub.presets.files import PresetFiles, resolve
from hub.presets.remote import explained
from hub.weights.reader import open_weights
from keraslite.saving import save_safetensors

# What is read of a checkpoint beside its weights. The config is the last: with it, it is whole.
KEPT = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt",
    "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model",
    "generation_config.json", "modules.json", "1_Pooling/config.json",
    "sentence_bert_config.json", "preprocessor_config.json", "processor_config.json",
    "config.json",
)  # fmt: skip

# What config.json's architecture ends with -> the Hub's pipeline, transformers' class, our task.
_USES = {
    "ForSequenceClassification": (
        "text-classification", "AutoModelForSequenceClassification", "TextClassifier",
    ),
    "ForTokenClassification": (
        "token-classification", "AutoModelForTokenClassification", "TokenClassifier",
    ),
    "ForMaskedLM": ("fill-mask", "AutoModelForMaskedLM", "MaskedLM"),
    "ForCausalLM": ("text-generation", "AutoModelForCausalLM", "CausalLM"),
    "LMHeadModel": ("text-generation", "AutoModelForCausalLM", "CausalLM"),
    "ForConditionalGeneration": ("text2text-generation", "AutoModelForSeq2SeqLM", "Seq2SeqLM"),
    "CLIPModel": (
        "zero-shot-image-classification", "AutoModelForZeroShotImageClassification",
        "ZeroShotImageClassifier",
    ),
    "Model": ("feature-extraction", "AutoModel", "TextEmbedder"),
}  # fmt: skip


def convert(source: PresetFiles, target: Path) -> list[tuple[str, tuple[int, ...], str]]:
    """Writes the weights of a checkpoint as safetensors, with its other files beside them.

    Args:
        source: what `hub.presets.resolve` returned; weights in any format that is read.
        target: a folder, made if need be; must hold no checkpoint.

    Returns:
        Name, shape and dtype of every tensor.

    Raises:
        FileExistsError: the folder holds a checkpoint.
        ValueError: a file is damaged.

    Example:
        >>> convert(resolve("minilm_l6_en"), Path("minilm"))[0]  # doctest: +SKIP
        ('embeddings.LayerNorm.bias', (384,), 'float32')
    """
    check_target(target)
    config = read_config(source)
    weights = open_weights(source)
    others = source.paths(name for name in KEPT if name in source)
    target.mkdir(parents=True, exist_ok=True)
    save_safetensors(target / "model.safetensors", weights, {"format": "pt"})
    for name, path in others.items():
        (target / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(path, target / name)
    if "config.json" not in others:  # a built-in row stood in for it
        write_json(target / "config.json", config)
    return [(name, weights.shape(name), weights.dtype(name)) for name in weights]


def check_target(target: Path) -> None:
    """Raises FileExistsError if a folder to be written holds a checkpoint.

    Args:
        target: the folder.
    """
    if any((target / name).exists() for name in ("config.json", "model.safetensors")):
        raise FileExistsError(f"{target} holds a checkpoint; give another folder")


def model_card(
    preset_dir: str | os.PathLike,
    repo: str = "org/repo",
    *,
    base_model: str | None = None,
    license: str | None = None,
    metrics: Mapping[str, float] | None = None,
) -> str:
    """Returns the text of a README.md for a checkpoint.

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
    stated = (config.get("architectures") or ["Model"])[0]
    ending = next((e for e in _USES if stated.endswith(e)), "Model")
    pipeline, auto, task = _USES[ending]
    reader = "AutoProcessor" if "image" in pipeline else "AutoTokenizer"
    made = reader.removeprefix("Auto").lower()
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
        f'model = hub.{task}.from_preset("{repo}")\n```\n\n'
        f"With transformers:\n\n```python\nfrom transformers import {reader}, "
        f'{auto}\n\nmodel = {auto}.from_pretrained("{repo}")\n'
        f'{made} = {reader}.from_pretrained("{repo}")\n```\n'
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
    """Uploads a folder that `save_to_preset` wrote; makes the repository if need be.

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
        there = api.create_repo(repo, private=private, exist_ok=True).repo_id
        if revision is not None and not revision.startswith("refs/"):
            api.create_branch(there, branch=revision, exist_ok=True)
        done = api.upload_folder(
            repo_id=there, folder_path=folder, revision=revision, commit_message=message
        )
    return str(done.commit_url)


def _check(files: PresetFiles) -> None:
    """A folder must open as a checkpoint before anything of it is sent."""
    read_config(files)
    open_weights(files)
