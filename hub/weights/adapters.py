"""LoRA adapters (Hu et al., 2021, arXiv:2106.09685) in files of their own, as PEFT lays them out.

An adapter is two small matrices for each weight that it changes, and the heads that were trained
with it: a file of a few megabytes beside a checkpoint that stays as it was published. The first
matrix of a convolution is a convolution of its kernel's size, the second one of single pixels.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from hub.families import family_of
from hub.files import Files, write_json
from hub.weights.loading import layer_storages, weight_variables
from hub.weights.reader import Weights
from hub.weights.storage import AS_IS, CONV, DENSE, DENSE_AS_CONV, DENSE_OR_CONV, Storage
from hub.weights.tables import TensorMatch, WeightTable, abbreviate, name_tensors
from hub.weights.torch_files import open_torch
from keraslite import layers as keras_layers
from keraslite.saving import open_safetensors, replacing_folder, save_safetensors

_ROOT = "base_model.model."
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_ATTENTION = {"query", "value", "qkv"}  # adapted by default
_CONVOLUTIONS = (keras_layers.Conv1D, keras_layers.Conv2D, keras_layers.Conv3D)
# Options of PEFT that change the result of an adapter, and their supported values.
_SUPPORTED = {
    "peft_type": ("LORA",), "bias": ("none", None), "use_dora": (False, None),
    "rank_pattern": ({}, None), "alpha_pattern": ({}, None), "layers_to_transform": (None,),
    "use_rslora": (False, None), "trainable_token_indices": (None,), "alora_invocation_tokens":
    (None,),
}  # fmt: skip


def _table(task: Any) -> WeightTable:
    """Return the names of a task's weights in a checkpoint."""
    return family_of(task.backbone.family).task_weights(task.task, task.backbone)


def _in_memory(task: Any, name: str) -> str:
    """Return a name of a checkpoint, or of an older adapter, as transformers has it in memory."""
    for old, new in family_of(task.backbone.family).memory_names.items():
        name = name.replace(old, new)
    return name


def adaptable(model: Any, table: WeightTable) -> Iterator[tuple[str, str, Any]]:
    """Yield (our path, the module in a checkpoint, the layer) of each layer that takes an update.

    Args:
        model: a backbone or a task.
        table: the names of its weights.
    """
    owners = {
        id(layer.base_weight): layer for layer in model.flatten_layers() if _has_kernel(layer)
    }
    for path, variable in model.named_weights():
        layer = owners.get(id(variable))
        row = None if layer is None else table.find(path)
        if row is not None:
            yield path.removesuffix("/kernel"), row.names[0].removesuffix(".weight"), layer


def _layers(task: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield (our path, the module in an adapter, the layer) of each layer of the backbone."""
    for path, module, layer in adaptable(task, _table(task)):
        if path.startswith("backbone/"):
            yield path, _in_memory(task, module), layer


def storages(layer: Any, stored: Storage | None = None) -> dict[str, Storage]:
    """Return how the two matrices of an update are stored, "a" of the inputs and "b".

    Args:
        layer: a dense layer, whose matrices may be convolutions in a file, or a convolution.
        stored: how its kernel is stored, where a weight table says it.
    """
    if not isinstance(layer, _CONVOLUTIONS):
        return dict.fromkeys("ab", DENSE_AS_CONV if stored == DENSE_AS_CONV else DENSE_OR_CONV)
    single = replace(DENSE_OR_CONV, pattern=DENSE.pattern + " 1" * layer.rank)
    return {"a": replace(CONV, pixel_optional=True), "b": single}


def _has_kernel(layer: Any) -> bool:
    adapted = getattr(layer, "adapted_weight", None)  # an embedding's is no kernel
    return adapted == "kernel" and layer.base_weight is not None


def _check_groups(paths: Iterable[str]) -> None:
    """Refuse convolutions in groups.

    PEFT's update of one has all channels as inputs, which a kernel in groups cannot take in.
    """
    paths = list(paths)
    if paths:
        raise ValueError(
            f"An update of a convolution in groups is not supported: leave {paths[:6]} "
            f"({len(paths)}) out of the targets."
        )


def enable_lora(
    task: Any, rank: int, alpha: float | None = None, targets: str | Sequence[str] | None = None
) -> list[str]:
    """Freeze a task's backbone and train a low-rank update of some of its layers.

    The head is trained as before. Batch normalisation uses the statistics of the checkpoint, which
    are no part of an adapter.

    Args:
        task: the task.
        rank: the rank of the updates.
        alpha: the update is scaled by `alpha / rank`; the rank by default.
        targets: the last part, or parts, of the names of dense layers and convolutions: ours, such
            as "query", or the checkpoint's, such as "q_proj" or "conv1". By default queries and
            values of attention; of a network without attention all dense layers and convolutions,
            but for those in groups.

    Returns:
        The paths of the layers that are adapted.

    Raises:
        ValueError: the rank is not positive, nothing has such a name, a layer is a convolution in
            groups, or the task is adapted already.

    >>> from hub import BertBackbone, TextClassifier
    >>> model = TextClassifier(BertBackbone(9, 1, 2, hidden_dim=8, intermediate_dim=8), 2)
    >>> enable_lora(model, 2)
    ['backbone/blocks/0/attention/query', 'backbone/blocks/0/attention/value']
    """
    if type(rank) is not int or rank < 1:
        raise ValueError(f"rank must be a positive integer, got {rank!r}.")
    layers = list(_layers(task))
    wanted = _ATTENTION if targets is None else targets
    names = {wanted} if isinstance(wanted, str) else set(wanted)
    chosen = [row for row in layers if names & _last_parts(row)]
    if targets is None:
        chosen = chosen or [row for row in layers if _groups(row[2]) == 1]
    if not chosen:
        expected = sorted({name for row in layers for name in _last_parts(row)})
        raise ValueError(
            f"No dense layer or convolution is named {sorted(names)}; there are: "
            f"{abbreviate(expected)}."
        )
    _check_groups(path for path, _, layer in chosen if _groups(layer) > 1)
    if any(layer.lora_enabled for _, _, layer in layers):
        raise ValueError("This task has an adapter already: call disable_lora() to begin another.")
    _enable(task, [layer for _, _, layer in chosen], rank, alpha)
    return [path for path, _, _ in chosen]


def _groups(layer: Any) -> int:
    return getattr(layer, "groups", 1)


def _last_parts(row: tuple[str, str, Any]) -> set[str]:
    """Return the last parts of the names of a layer, here and in a checkpoint."""
    path, module, _ = row
    return {path.split("/")[-1], module.split(".")[-1]}


def disable_lora(task: Any, merge: bool = False) -> None:
    """Remove a task's update; the backbone is trained as it was before.

    Args:
        task: a task with `enable_lora`.
        merge: whether the update is added to the weights first.

    Raises:
        ValueError: the task has no adapter, or weights to merge into are kept in integers.
    """
    for _, _, layer in _adapted(task):
        layer.disable_lora(merge)
    for frozen in task._kl_frozen:
        frozen.trainable = True


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
    storages: dict[str, Storage]
    part: int
    parts: int


def _modules(task: Any, rows: Iterable[tuple[str, str, Any]]) -> dict[str, list[_Member]]:
    """Return the layers of each module of a checkpoint; timm has one for query, key and value."""
    table, modules = _table(task), {}
    for path, module, layer in rows:
        stored = table.find(f"{path}/kernel").storage or DENSE
        member = _Member(layer, storages(layer, stored), stored.part, stored.parts)
        modules.setdefault(module, []).append(member)
    return modules


def _adapted(task: Any) -> list[tuple[str, str, Any]]:
    rows = [row for row in _layers(task) if row[2].lora_enabled]
    if not rows:
        raise ValueError("This task has no adapter: call enable_lora(rank) or load_adapter first.")
    return rows


def _matches(task: Any) -> list[TensorMatch]:
    """Return the weights of a task without its update, and the tensors that they are."""
    table = _table(task)
    known = {
        path: storage for path, storage in layer_storages(task).items()
        if table.find(path) is not None
    }  # fmt: skip
    matches = name_tensors(known, table)
    return [m._replace(tensor=_in_memory(task, m.tensor)) for m in matches]


def _head(task: Any, matches: Sequence[TensorMatch]) -> dict[str, tuple[Any, Storage]]:
    """Return the tensor -> (variable, how it is stored) of the modules of a trained head.

    Some have a layer of the backbone as well, such as the last normalisation of timm's ConvNeXt.

    Args:
        task: the task.
        matches: of its weights.
    """
    variables = weight_variables(task)
    modules = {m.tensor.split(".")[0] for m in matches if not m.path.startswith("backbone/")}
    return {
        match.tensor: (variables[match.path], match.storage)
        for match in matches if match.tensor.split(".")[0] in modules
    }  # fmt: skip


def _target_modules(adapted: Collection[str], matches: Iterable[TensorMatch]) -> list[str]:
    """Return names by which PEFT finds modules and no others: their last parts, where those do.

    Args:
        adapted: the modules.
        matches: of all weights.
    """
    parts = [match.tensor.split(".") for match in matches]
    modules = {".".join(names[:n]) for names in parts for n in range(1, len(names))}
    others = {module.split(".")[-1] for module in modules - set(adapted)}
    ends = {module: module.split(".")[-1] for module in adapted}
    return sorted({m if end in others or end.isdigit() else end for m, end in ends.items()})


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
    rank = joined * layer.lora_rank
    for module, members in modules.items():
        pairs = [
            [member.storages[s].to_checkpoint(getattr(member.layer, f"lora_kernel_{s}").numpy())
             for s in "ab"]
            for member in members
        ]  # fmt: skip
        (_, *inputs), (outputs, _, *pixel) = (matrix.shape for matrix in pairs[0])
        down = np.zeros((rank, *inputs), "float32")
        up = np.zeros((members[0].parts, outputs, rank, *pixel), "float32")
        for i, (member, (a, b)) in enumerate(zip(members, pairs, strict=True)):
            place = slice(i * layer.lora_rank, (i + 1) * layer.lora_rank)
            down[place], up[member.part, :, place] = a, b
        tensors[f"{_ROOT}{module}.lora_A.weight"] = down
        tensors[f"{_ROOT}{module}.lora_B.weight"] = up.reshape(-1, rank, *pixel)
    matches = _matches(task)
    head = _head(task, matches)
    for name, (variable, storage) in head.items():
        tensors[_ROOT + name] = storage.to_checkpoint(variable.numpy())
    table = _table(task)
    as_is = [table.find(f"{path}/kernel").storage == AS_IS for path, *_ in rows]
    source = getattr(task.backbone, "source_config", {})
    config = {
        "peft_type": "LORA", "task_type": task.adapter_type, "r": rank,
        "lora_alpha": joined * layer.lora_alpha, "lora_dropout": 0.0, "bias": "none",
        "target_modules": _target_modules(modules, matches),
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
    stored = {
        _in_memory(task, name.replace(".modules_to_save.default.", ".")): name for name in weights
    }
    updates = {n.removeprefix(_ROOT).rpartition(".lora_A.")[0] for n in stored if ".lora_A." in n}
    head = {f"{_ROOT}{name}": row for name, row in _head(task, _matches(task)).items()}
    expected = {f"{_ROOT}{m}.lora_{x}.weight" for m in updates for x in "AB"}
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
    layers = [member.layer for module in sorted(updates) for member in modules[module]]
    grouped = {id(layer) for layer in layers if _groups(layer) > 1}
    _check_groups(path for path, _, layer in _layers(task) if id(layer) in grouped)
    read = {name: np.array(weights[where], "float32") for name, where in stored.items()}
    rank = int(config["r"])
    variables = {}  # tensor -> (shape of ours, how it is stored)
    for module in sorted(updates):
        layer, forms, _, parts = modules[module][0]
        *inputs, outputs = layer.base_weight.shape
        variables[f"{_ROOT}{module}.lora_A.weight"] = (*inputs, rank), forms["a"]
        variables[f"{_ROOT}{module}.lora_B.weight"] = (rank, parts * outputs), forms["b"]
    variables |= {name: (v.shape, storage) for name, (v, storage) in head.items() if name in read}
    wrong = [
        f"{name}: {storage.mismatch(shape, read[name].shape)}"
        for name, (shape, storage) in variables.items()
        if not storage.fits(shape, read[name].shape)
    ]
    if wrong:
        raise ValueError(f"The adapter of {files.location} has other shapes: {wrong[:4]}.")
    if not all(layer.lora_enabled for layer in layers):
        _enable(task, layers, rank, float(config.get("lora_alpha", rank)))
    for module in updates:
        down, up = (read[f"{_ROOT}{module}.lora_{letter}.weight"] for letter in "AB")
        for layer, forms, part, parts in modules[module]:
            for side, tensor in (("a", down), ("b", np.split(up, parts)[part])):
                variable = getattr(layer, f"lora_kernel_{side}")
                variable.assign(forms[side].from_checkpoint(tensor, variable.shape))
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
    # A frozen layer would not train its update either, but for normalisations, which have none and
    # keep their statistics.
    frozen = [
        layer for layer in task.backbone.flatten_layers()
        if isinstance(layer, keras_layers.BatchNormalization) and layer.trainable
    ]  # fmt: skip
    frozen += [variable for variable in task.backbone.weights if variable.trainable]
    for part in frozen:
        part.trainable = False
    task._kl_frozen = frozen
    for layer in layers:
        layer.enable_lora(rank, alpha)
