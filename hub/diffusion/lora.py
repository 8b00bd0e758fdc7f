"""LoRA files of Stable Diffusion: small updates of the U-Net and the text tower (Hu et al., 2021,
arXiv:2106.09685), in the layout of diffusers' `pytorch_lora_weights.safetensors`.

The layers add the updates to their weights. This file reads and writes them: the names of PEFT,
which are written, and the older names of diffusers and of kohya's trainer, which are read too.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hub.families import family_of
from hub.presets import PresetFiles, resolve
from hub.presets.files import resolve_file
from hub.weights.adapters import adaptable, check_options, storages
from hub.weights.reader import Weights, open_file
from hub.weights.tables import abbreviate
from keraslite.saving import save_safetensors
from keraslite.training import inference

FILE = "pytorch_lora_weights.safetensors"
_USUAL_FILES = (FILE, "pytorch_lora_weights.bin")
_FILES = (".safetensors", ".bin", ".pt", ".ckpt")
_METADATA = "lora_adapter_metadata"
_PARTS = ("unet", "text_encoder")
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")  # the layers adapted by default

# The name of a tensor is a prefix, the module and a suffix. These are the suffixes of A and B, by
# the form in which the module is named.
_SUFFIXES = {
    "module": (
        (".lora_A.weight", ".lora_B.weight"),
        (".lora.down.weight", ".lora.up.weight"),
        (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
    ),
    "processor": (("_lora.down.weight", "_lora.up.weight"),),
    "flat": ((".lora_down.weight", ".lora_up.weight"),),
}
_TOWER = ("text_encoder.text_model.", "text_encoder.")
_PREFIXES = {
    "unet": {"module": ("unet.", ""), "processor": ("unet.", ""), "flat": ("lora_unet_",)},
    "text_encoder": {
        "module": _TOWER, "processor": _TOWER,
        "flat": ("lora_te_text_model_", "lora_te1_text_model_"),
    },
}  # fmt: skip
# Older versions of diffusers kept the projections of an attention in one object beside it.
_PROCESSORS = {
    "unet": (r"(attn\d)\.to_(q|k|v|out)(\.0)?$", r"\1.processor.to_\2"),
    "text_encoder": (r"self_attn\.(q|k|v|out)_proj$", r"self_attn.to_\1"),
}
_ALPHA = ".alpha"


class Module(NamedTuple):
    """A layer that can have an update, by its name in diffusers."""

    part: str
    name: str


@dataclass
class Update:
    """The update of a layer as a file stores it.

    Attributes:
        a: the matrix of the inputs.
        b: the matrix of the outputs.
        alpha: the product is scaled by alpha / rank.
    """

    a: np.ndarray
    b: np.ndarray
    alpha: float


def _modules(pipeline: Any) -> dict[Module, Any]:
    """Return the layers that can have an update."""
    modules = {}
    for part in _PARTS:
        model = getattr(pipeline, part)
        for _, name, layer in adaptable(model, family_of(model.family).weights):
            modules[Module(part, name)] = layer
    return modules


def _tensor_names(module: Module) -> Iterator[tuple[str, str]]:
    """Yield (a possible name of a tensor of the module, "a", "b" or "alpha")."""
    forms = {
        "module": module.name,
        "processor": re.sub(*_PROCESSORS[module.part], module.name),
        "flat": module.name.replace(".", "_"),
    }
    for form, prefixes in _PREFIXES[module.part].items():
        if form == "processor" and forms[form] == module.name:
            continue  # no projection of an attention
        for prefix in prefixes:
            stem = prefix + forms[form]
            yield stem + _ALPHA, "alpha"
            for a, b in _SUFFIXES[form]:
                yield from ((stem + a, "a"), (stem + b, "b"))


# -- reading --------------------------------------------------------------------------------------


def _find(adapter: Any, **remote: Any) -> tuple[PresetFiles, str]:
    """Return the files of an adapter, and the name of that with the weights."""
    if not isinstance(adapter, PresetFiles) and (
        str(adapter).endswith(_FILES) or Path(adapter).is_file()
    ):
        return resolve_file(adapter, **remote)
    files = resolve(adapter, **remote)
    others = [name for name in files.names if name.endswith(".safetensors") and "/" not in name]
    for name in (*_USUAL_FILES, *(others if len(others) == 1 else ())):
        if name in files:
            return files, name
    raise FileNotFoundError(
        f"{files.location} has neither {FILE} nor a single other file of weights; {files.listing()}"
    )


def _options(weights: Weights, location: str) -> dict[str, dict[str, Any]]:
    """Return the config of PEFT for each part, out of the header of a file."""
    text = getattr(weights.files[0], "metadata", {}).get(_METADATA)
    try:
        metadata = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{_METADATA} of {location} is not JSON: {error}") from error
    if not isinstance(metadata, dict):
        raise ValueError(f"{_METADATA} of {location} must be an object.")
    configs = {}
    for part in _PARTS:
        start = f"{part}."
        config = {k.removeprefix(start): v for k, v in metadata.items() if k.startswith(start)}
        complete = {"peft_type": "LORA", **config}
        check_options(complete, f"{_METADATA} of {location}", ("rank_pattern", "alpha_pattern"))
        configs[part] = config
    return configs


def _config_alpha(name: str, options: Mapping[str, Any]) -> float | None:
    """Return the alpha of a module by the config; PEFT's patterns match the end of a name."""
    alpha = options.get("lora_alpha")
    for pattern, value in (options.get("alpha_pattern") or {}).items():
        # The text tower of newer transformers lacks a level that files have.
        if any(re.fullmatch(rf"(.*\.)?({pattern})", x) for x in (name, f"text_model.{name}")):
            alpha = value
            break
    return None if alpha is None else float(alpha)


def _read(weights: Weights, location: str, modules: Mapping[Module, Any]) -> dict[Module, Update]:
    """Return the updates of a file; raise ValueError if one does not fit."""
    options = _options(weights, location)
    sides_of = {name: (module, side) for module in modules for name, side in _tensor_names(module)}
    names: dict[Module, dict[str, str]] = {}
    unknown = []
    for name in sorted(weights):
        module, side = sides_of.get(name, (None, ""))
        if module is None or side in names.setdefault(module, {}):
            unknown.append(name)  # or a repetition under another name
        else:
            names[module][side] = name
    missing = [
        f"{side.upper()} of {module.part}.{module.name}"
        for module, sides in names.items() for side in "ab" if side not in sides
    ]  # fmt: skip
    wrong, updates = [], {}
    for module, sides in names.items():
        if not {"a", "b"} <= sides.keys():
            continue
        shapes = {side: weights.shape(name) for side, name in sides.items()}
        if not _fits(shapes, modules[module]):
            words = " ".join(f"{side}{shape}" for side, shape in sorted(shapes.items()))
            shape = tuple(modules[module].base_weight.shape)
            wrong.append(f"{module.part}.{module.name}: {words} for a kernel {shape}")
            continue
        a, b = (np.array(weights[sides[side]], "float32") for side in "ab")
        alpha = _config_alpha(module.name, options[module.part])
        if "alpha" in sides:
            alpha = float(np.array(weights[sides["alpha"]], "float32").ravel()[0])
        updates[module] = Update(a, b, float(len(a)) if alpha is None else alpha)
    if unknown or missing or wrong or not updates:
        raise ValueError(
            f"The LoRA of {location} does not fit; nothing was changed.\n"
            f"  Unknown ({len(unknown)}): {abbreviate(unknown)}\n"
            f"  Missing ({len(missing)}): {abbreviate(missing)}\n"
            f"  Of another shape ({len(wrong)}): {abbreviate(wrong)}"
        )
    return updates


def _fits(shapes: Mapping[str, tuple], layer: Any) -> bool:
    """Return whether matrices are an update of a layer."""
    if len(shapes["a"]) < 2 or not shapes["a"][0] or shapes.get("alpha", ()) not in ((), (1,)):
        return False
    (*window, outputs), rank = layer.base_weight.shape, shapes["a"][0]
    ours = {"a": (*window, rank), "b": (rank, outputs)}
    return all(x.fits(ours[side], shapes[side]) for side, x in storages(layer).items())


# -- what the pipeline does -----------------------------------------------------------------------


def enable_lora(
    pipeline: Any, rank: int, alpha: float | None = None, targets: Sequence[str] = ATTENTION
) -> list[str]:
    """Train an update of layers of the U-Net; see `StableDiffusion.enable_lora`.

    Args:
        pipeline: the pipeline.
        rank: of the updates.
        alpha: they are scaled by alpha / rank; the rank by default.
        targets: ends of names of layers in diffusers.

    Returns:
        The names of the adapted layers.

    Raises:
        ValueError: no layer has such a name, or there is a LoRA already.
    """
    _refuse_another(pipeline)
    modules = {m: x for m, x in _modules(pipeline).items() if m.part == "unet"}
    chosen = {
        module: layer for module, layer in modules.items()
        if any(module.name == end or module.name.endswith(f".{end}") for end in targets)
    }  # fmt: skip
    if not chosen:
        ends = sorted({re.sub(r".*?(\w+(\.\d+)?)$", r"\1", module.name) for module in modules})
        raise ValueError(f"No layer's name ends with {list(targets)}; there are: {ends}.")
    for variable in pipeline.unet.weights:
        variable.trainable = False
    with inference(pipeline.unet.backend):
        for layer in chosen.values():
            layer.enable_lora(rank, alpha)
    return [f"{module.part}.{module.name}" for module in chosen]


def load_lora(
    pipeline: Any, adapter: Any, scale: float = 1.0, fuse: bool = False,
    *, revision: str | None = None, token: str | None = None,
) -> list[str]:  # fmt: skip
    """Load a file of updates; see `StableDiffusion.load_lora`.

    Args:
        pipeline: the pipeline.
        adapter: a file, a folder, or a repository.
        scale: the updates are multiplied by it.
        fuse: whether the updates become part of the weights.
        revision: as for `hub.presets.resolve`.
        token: as for `hub.presets.resolve`.

    Returns:
        The names of the adapted layers.

    Raises:
        ValueError: the file does not fit, or there is a LoRA already; nothing was changed then.
    """
    modules = _modules(pipeline)
    if not math.isfinite(scale):
        raise ValueError(f"scale={scale} is no number to multiply with.")
    _refuse_another(pipeline)
    files, name = _find(adapter, revision=revision, token=token)
    updates = _read(open_file(files, name), files.location, modules)
    quantized = [module for module in updates if fuse and modules[module].quantization_mode]
    if quantized:
        raise ValueError(
            f"{quantized[0].part}.{quantized[0].name} is kept in int8, which holds no update: load "
            "the LoRA without fuse=True, or before quantize()."
        )
    with inference(pipeline.unet.backend):
        for module, update in updates.items():
            layer = modules[module]
            layer.enable_lora(len(update.a), update.alpha * scale)
            for side, storage in storages(layer).items():
                variable = getattr(layer, f"lora_kernel_{side}")
                variable.assign(storage.from_checkpoint(getattr(update, side), variable.shape))
            if fuse:
                layer.disable_lora(merge=True)
    return [f"{module.part}.{module.name}" for module in updates]


def _refuse_another(pipeline: Any) -> None:
    if any(layer.lora_enabled for layer in _modules(pipeline).values()):
        raise ValueError(
            "There is a LoRA already: call unload_lora() first, or load it with fuse=True."
        )


def _adapted(pipeline: Any) -> dict[Module, Any]:
    adapted = {module: x for module, x in _modules(pipeline).items() if x.lora_enabled}
    if not adapted:
        raise ValueError(
            "There is no LoRA: call load_lora first. One that was fused is part of the weights "
            "and cannot be told from them; make the pipeline anew to be without it."
        )
    return adapted


def unload_lora(pipeline: Any) -> None:
    """Remove the updates; see `StableDiffusion.unload_lora`.

    Args:
        pipeline: the pipeline.

    Raises:
        ValueError: there is no LoRA.
    """
    for layer in _adapted(pipeline).values():
        layer.disable_lora()
    for variable in pipeline.unet.weights:
        variable.trainable = True


def save_lora(pipeline: Any, folder: Any) -> None:
    """Write the updates as diffusers reads them; see `StableDiffusion.save_lora`.

    Args:
        pipeline: the pipeline.
        folder: made if need be.

    Raises:
        ValueError: there is no LoRA.
    """
    tensors, config = {}, {}
    adapted = _adapted(pipeline)
    for module, layer in adapted.items():
        name = f"{module.part}.{family_of(getattr(pipeline, module.part).family).own_prefix}"
        name += module.name
        for side, storage in storages(layer).items():
            matrix = getattr(layer, f"lora_kernel_{side}").numpy()
            tensors[f"{name}.lora_{side.upper()}.weight"] = storage.to_checkpoint(matrix)
    for part in _PARTS:
        in_part = {module.name: x for module, x in adapted.items() if module.part == part}
        if in_part:
            config |= {f"{part}.{k}": v for k, v in _config(in_part).items()}
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    metadata = {"format": "pt", _METADATA: json.dumps(config, indent=2, sort_keys=True)}
    save_safetensors(path / FILE, tensors, metadata)


def _config(adapted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of PEFT: the commonest rank and alpha once, patterns for the others."""
    ranks = {name: layer.lora_rank for name, layer in adapted.items()}
    alphas = {name: float(layer.lora_alpha) for name, layer in adapted.items()}
    rank, alpha = (Counter(x.values()).most_common(1)[0][0] for x in (ranks, alphas))
    return {
        "r": rank, "lora_alpha": alpha, "target_modules": sorted(adapted), "lora_dropout": 0.0,
        "bias": "none", "use_dora": False, "use_rslora": False,
        "rank_pattern": {re.escape(n): x for n, x in ranks.items() if x != rank},
        "alpha_pattern": {re.escape(n): x for n, x in alphas.items() if x != alpha},
    }  # fmt: skip
