"""LoRA adapters (Hu et al., 2021, arXiv:2106.09685) in files of their own, as PEFT lays them out.

An adapter is two small matrices for each weight that it changes, and the heads that were trained
with it: a file of a few megabytes beside a checkpoint that stays as it was published.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hub.families import family_of
from hub.files import Files, write_json
from hub.weights.loading import layer_storages, weight_variables
from hub.weights.reader import Weights
from hub.weights.storage import AS_IS, DENSE, Storage
from hub.weights.tables import WeightTable, name_tensors
from hub.weights.torch_files import open_torch
from keraslite.saving import open_safetensors, replacing_folder, save_safetensors

_ROOT = "base_model.model."
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_DEFAULT_TARGETS = ("query", "value", "qkv")
# Options of PEFT that change the result of an adapter, and their supported values.
_SUPPORTED = {
    "peft_type": ("LORA",), "bias": ("none", None), "use_dora": (False, None),
    "rank_pattern": ({}, None), "alpha_pattern": ({}, None), "layers_to_transform": (None,),
    "use_rslora": (False, None), "trainable_token_indices": (None,), "alora_invocation_tokens":
    (None,),
}  # fmt: skip


def _table(task: Any) -> WeightTable:
    """Return the names of a task's weights in memory of transformers."""
    return family_of(task.backbone.family).task_weights(task.task, task.backbone)


def adaptable(model: Any, table: WeightTable) -> Iterator[tuple[str, str, Any]]:
    """Yield (our path, the module in a checkpoint, the layer) of each layer that takes an update.

    Args:
        model: a backbone or a task.
        table: the names of its weights.
    """
    owners = {id(layer.base_weight): layer for layer in model.flatten_layers() if _is_dense(layer)}
    for path, variable in model.named_weights():
        layer = owners.get(id(variable))
        row = None if layer is None else table.find(path)
        if row is not None:
            yield path.removesuffix("/kernel"), row.names[0].removesuffix(".weight"), layer


def _layers(task: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield what `adaptable` does, of the backbone alone."""
    return (row for row in adaptable(task, _table(task)) if row[0].startswith("backbone/"))


def _is_dense(layer: Any) -> bool:
    adapted = getattr(layer, "adapted_weight", None)  # an embedding's is no kernel
    return adapted == "kernel" and layer.base_weight is not None


def enable_lora(
    task: Any, rank: int, alpha: float | None = None, targets: Sequence[str] = _DEFAULT_TARGETS
) -> list[str]:
    """Freeze a task's backbone and train a low-rank update of some of its dense layers.

    The head is trained as before.

    Args:
        task: the task.
        rank: the rank of the updates.
        alpha: the update is scaled by `alpha / rank`; the rank by default.
        targets: last parts of the layers' names: ours, such as "query", or the checkpoint's, such
            as "q_proj".

    Returns:
        The paths of the layers that are adapted.

    Raises:
        ValueError: nothing has such a name, or the task is adapted already.

    >>> from hub import BertBackbone, TextClassifier
    >>> model = TextClassifier(BertBackbone(9, 1, 2, hidden_dim=8, intermediate_dim=8), 2)
    >>> enable_lora(model, 2)
    ['backbone/blocks/0/attention/query', 'backbone/blocks/0/attention/value']
    """
    names = set(targets)
    layers = list(_layers(task))
    chosen = [row for row in layers if names & {p.split(s)[-1] for p, s in zip(row, "/.")}]
    if not chosen:
        expected = sorted({path.split("/")[-1] for path, *_ in layers})
        raise ValueError(f"No dense layer is named {sorted(names)}; there are: {expected}.")
    if any(layer.lora_enabled for _, _, layer in layers):
        raise ValueError("This task has an adapter already: make the task anew to begin another.")
    _enable(task, [layer for _, _, layer in chosen], rank, alpha)
    return [path for path, _, _ in chosen]


def settings_of(task: Any) -> dict[str, Any] | None:
    """Return rank, alpha and the paths of the adapted layers; None for a task without an update.

    Args:
        task: the task.
    """
    if not any(getattr(layer, "lora_enabled", False) for layer in task.flatten_layers()):
        return None
    adapted = {path: layer for path, _, layer in _layers(task) if layer.lora_enabled}
    first = next(iter(adapted.values()))
    return {"rank": first.lora_rank, "alpha": first.lora_alpha, "layers": list(adapted)}


def restore(task: Any, settings: Mapping[str, Any]) -> None:
    """Adapt the layers of a task that has no update yet.

    Args:
        task: the task.
        settings: as `settings_of` returned them.
    """
    layers = [layer for path, _, layer in _layers(task) if path in settings["layers"]]
    _enable(task, layers, settings["rank"], settings["alpha"])


class _Member(NamedTuple):
    """A layer whose weight is a module's of a checkpoint, or one of several equal parts of it."""

    layer: Any
    part: int
    parts: int


def _modules(task: Any, rows: Iterable[tuple[str, str, Any]]) -> dict[str, list[_Member]]:
    """Return the layers of each module of a checkpoint; timm has one for query, key and value."""
    table, modules = _table(task), {}
    for path, module, layer in rows:
        storage = table.find(f"{path}/kernel").storage or DENSE
        modules.setdefault(module, []).append(_Member(layer, storage.part, storage.parts))
    return modules


def _adapted(task: Any) -> list[tuple[str, str, Any]]:
    rows = [row for row in _layers(task) if row[2].lora_enabled]
    if not rows:
        raise ValueError("This task has no adapter: call enable_lora(rank) or load_adapter first.")
    return rows


def _head(task: Any) -> dict[str, tuple[Any, Storage]]:
    """Return the tensor -> (variable, how it is stored) of a trained head."""
    table = _table(task)
    variables = weight_variables(task)
    storages = {
        path: storage for path, storage in layer_storages(task, variables).items()
        if not path.startswith("backbone/") and table.find(path) is not None
    }  # fmt: skip
    matches = name_tensors(storages, table)
    return {match.tensor: (variables[match.path], match.storage) for match in matches}


def save_adapter(task: Any, directory: str | os.PathLike) -> None:
    """Write a task's adapter and its head as PEFT reads them.

    The updates of layers that are one module of the checkpoint become one, of their ranks together.

    Args:
        task: a task with `enable_lora`.
        directory: a folder, made if need be.

    Raises:
        ValueError: the task has no adapter.
        OSError: the folder cannot be written.
    """
    rows, tensors = _adapted(task), {}
    modules, layer = _modules(task, rows), rows[0][2]
    joined = max(map(len, modules.values()))  # all modules have one rank: others end with zeros
    for module, members in modules.items():
        inputs, outputs = members[0].layer.base_weight.shape
        down = np.zeros((joined, layer.lora_rank, inputs), "float32")
        up = np.zeros((members[0].parts, outputs, joined, layer.lora_rank), "float32")
        for i, member in enumerate(members):
            down[i] = DENSE.to_checkpoint(member.layer.lora_kernel_a.numpy())
            up[member.part, :, i] = DENSE.to_checkpoint(member.layer.lora_kernel_b.numpy())
        rank = joined * layer.lora_rank
        tensors[f"{_ROOT}{module}.lora_A.weight"] = down.reshape(rank, inputs)
        tensors[f"{_ROOT}{module}.lora_B.weight"] = up.reshape(-1, rank)
    head = _head(task)
    for name, (variable, storage) in head.items():
        tensors[_ROOT + name] = storage.to_checkpoint(variable.numpy())
    table = _table(task)
    as_is = [table.find(f"{path}/kernel").storage == AS_IS for path, *_ in rows]
    source = getattr(task.backbone, "source_config", {})
    config = {
        "peft_type": "LORA", "task_type": task.adapter_type, "r": joined * layer.lora_rank,
        "lora_alpha": joined * layer.lora_alpha, "lora_dropout": 0.0, "bias": "none",
        "target_modules": sorted({module.split(".")[-1] for _, module, _ in rows}),
        "modules_to_save": sorted({name.split(".")[0] for name in head}) or None,
        "fan_in_fan_out": any(as_is), "inference_mode": True,
        "base_model_name_or_path": source.get("_name_or_path"),
    }  # fmt: skip
    with replacing_folder(directory) as folder:
        save_safetensors(folder / _WEIGHTS, tensors, {"format": "pt"})
        write_json(folder / _CONFIG, config)


def load_adapter(task: Any, files: Files) -> None:
    """Give a task the adapter that `save_adapter` or PEFT wrote, and the head saved with it.

    Args:
        task: a task over the checkpoint that the adapter was trained for.
        files: of the adapter.

    Raises:
        ValueError: the adapter is of another kind, or for another model; says which tensors.
        FileNotFoundError: there is no adapter.
    """
    config = files.json(_CONFIG)
    check_options(config, f"{_CONFIG} of {files.location}")
    if _WEIGHTS in files:
        weights = Weights([open_safetensors(files.path(_WEIGHTS))])
    else:
        weights = Weights([open_torch(files.path("adapter_model.bin"))])
    modules = _modules(task, _layers(task))
    updates = {n.removeprefix(_ROOT).rpartition(".lora_A.")[0] for n in weights if ".lora_A." in n}
    head = {f"{_ROOT}{name}": row for name, row in _head(task).items()}
    expected = {f"{_ROOT}{m}.lora_{x}.weight" for m in updates for x in "AB"}
    stored = {name.replace(".modules_to_save.default.", "."): name for name in weights}
    unknown = sorted(
        {n for n in stored if n not in expected and n not in head}
        | {m for m in updates if m not in modules}
    )
    missing = sorted(expected - set(stored))
    if unknown or missing or not updates:
        raise ValueError(
            f"The adapter of {files.location} does not fit a {type(task).__name__}: unknown "
            f"{unknown[:6]} ({len(unknown)}), missing {missing[:6]} ({len(missing)})."
        )
    read = {name: np.array(weights[where], "float32") for name, where in stored.items()}
    rank = int(config["r"])
    variables = {}  # tensor -> (shape of ours, how it is stored)
    for module in sorted(updates):
        layer, _, parts = modules[module][0]
        inputs, outputs = layer.base_weight.shape
        variables[f"{_ROOT}{module}.lora_A.weight"] = (inputs, rank), DENSE
        variables[f"{_ROOT}{module}.lora_B.weight"] = (rank, parts * outputs), DENSE
    variables |= {name: (v.shape, storage) for name, (v, storage) in head.items() if name in read}
    wrong = [
        f"{name}: {storage.mismatch(shape, read[name].shape)}"
        for name, (shape, storage) in variables.items()
        if not storage.fits(shape, read[name].shape)
    ]
    if wrong:
        raise ValueError(f"The adapter of {files.location} has other shapes: {wrong[:4]}.")
    layers = [member.layer for module in sorted(updates) for member in modules[module]]
    if not all(layer.lora_enabled for layer in layers):
        _enable(task, layers, rank, float(config.get("lora_alpha", rank)))
    for module in updates:
        down, up = (read[f"{_ROOT}{module}.lora_{letter}.weight"] for letter in "AB")
        for layer, part, parts in modules[module]:
            for variable, tensor in (
                (layer.lora_kernel_a, down), (layer.lora_kernel_b, np.split(up, parts)[part]),
            ):  # fmt: skip
                variable.assign(DENSE.from_checkpoint(tensor, variable.shape))
    for name, (variable, storage) in head.items():
        if name in read:
            variable.assign(storage.from_checkpoint(read[name], variable.shape))


def check_options(config: Mapping[str, Any], location: str, without: Sequence[str] = ()) -> None:
    """Raise ValueError for options of PEFT that would change the result and are not supported.

    Args:
        config: of the adapter.
        location: where it lies, in words.
        without: options that the caller supports.

    Raises:
        ValueError: names the option.
    """
    for key, allowed in _SUPPORTED.items():
        if key not in without and config.get(key) not in allowed:
            raise ValueError(
                f"{location} has {key}={config[key]!r}, which is not supported; supported: "
                f"{allowed[0]!r}."
            )


def _enable(task: Any, layers: list[Any], rank: int, alpha: float | None) -> None:
    for variable in task.backbone.weights:  # a frozen layer would not train its update either
        variable.trainable = False
    for layer in layers:
        layer.enable_lora(rank, alpha)
