"""Single files of Stable Diffusion 1 and 2, under the names of its authors' own code (latent
diffusion, "LDM"): `v1-5-pruned-emaonly.safetensors`, `v2-1_768-ema-pruned.safetensors`.

The tables map the names of diffusers to those of LDM, and are used both ways. Traps:
residual blocks, transformers and changes of size are counted through in one row; the autoencoder
counts its stages of the way up from the last; the text tower of version 2 is OpenCLIP's, whose
queries, keys and values are one tensor, and whose last block is not used. A file does not say what
no tensor has a shape of: heads, groups, and whether noise or velocity is predicted.
"""

import re
from collections import ChainMap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hub.diffusion.schedulers import Scheduler
from hub.families import family_of
from hub.presets.files import PresetFiles, resolve, resolve_file
from hub.tokenizers import CLIPTokenizer
from hub.weights.loading import (
    Exported,
    assign_tensors,
    layer_storages,
    merged_weights,
    weight_variables,
)
from hub.weights.reader import Weights, open_file
from hub.weights.storage import DENSE_AS_CONV, Storage
from hub.weights.tables import TensorMatch, abbreviate, name_tensors, row_pattern
from keraslite.saving import save_safetensors

_USED_BLOCKS = 23  # of the 24 of OpenCLIP
_HEAD = 64  # the width of a head, in the text towers and in the U-Net of version 2


@dataclass(frozen=True)
class Version:
    """A version of Stable Diffusion: the facts that its files do not state.

    Attributes:
        preset: the built-in preset with its tokenizer.
        prediction: what its network predicts.
        scheduler: the usual one.
        text: the prefix of the text tower.
        activation: of the text tower.
        upcast: whether half precision attends in float32; no harm where it need not.
    """

    preset: str
    prediction: str
    scheduler: str
    text: str
    activation: str
    upcast: bool

    def heads(self, channels: Iterable[int]) -> tuple[int, ...]:
        """Return the number of heads of each stage, which is eight in version 1.

        Args:
            channels: of the stages.
        """
        return tuple(max(size // _HEAD, 1) if self.upcast else 8 for size in channels)


# By the width of the context.
VERSIONS = {
    768: Version(
        "stable_diffusion_v1.5", "epsilon", "pndm", "cond_stage_model.transformer.text_model.",
        "quick_gelu", False,
    ),
    1024: Version(
        "stable_diffusion_v2.1", "v_prediction", "ddim", "cond_stage_model.model.", "gelu", True
    ),
}  # fmt: skip
_FAMILIES = {
    "unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "clip_text_model",
}  # fmt: skip
# Tensors of a file that are not loaded: averages and constants of the training, unused layers.
_SCHEDULE = """betas alphas_cumprod alphas_cumprod_prev sqrt_alphas_cumprod logvar lvlb_weights
    sqrt_one_minus_alphas_cumprod log_one_minus_alphas_cumprod sqrt_recip_alphas_cumprod
    sqrt_recipm1_alphas_cumprod posterior_variance posterior_log_variance_clipped
    posterior_mean_coef1 posterior_mean_coef2 scale_factor global_step"""
_IGNORED = (
    *_SCHEDULE.split(), r"model_ema\..*", r"first_stage_model\.loss\..*",
    r"cond_stage_model\.transformer\.text_model\.embeddings\.position_ids",
    rf"cond_stage_model\.model\.transformer\.resblocks\.{_USED_BLOCKS}\..*",
    r"cond_stage_model\.(model\.)?(logit_scale|text_projection|attn_mask)",
)  # fmt: skip
# Files of some programs leave out a level.
_OLDER = {r"^cond_stage_model\.transformer\.(?!text_model\.)":
          "cond_stage_model.transformer.text_model."}  # fmt: skip
# Dense layers of ours that are convolutions of single pixels in LDM.
_PIXELS = re.compile(r"first_stage_model\..*\.attn_1\.(q|k|v|proj_out)\.weight")

# -- names: diffusers on the left, LDM on the right, with the numbers of `_numbers` ---------------

_RESIDUAL = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
_TRANSFORMER = (
    "norm", "proj_in", "proj_out", *(f"transformer_blocks.0.norm{n}" for n in (1, 2, 3)),
    *(f"transformer_blocks.0.attn{n}.{x}" for n in (1, 2) for x in ("to_q", "to_k", "to_v",
                                                                    "to_out.0")),
    "transformer_blocks.0.ff.net.0.proj", "transformer_blocks.0.ff.net.2",
)  # fmt: skip


def _unet_rows() -> dict[str, str]:
    rows = {
        "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
        "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
        "down_blocks.{i}.downsamplers.0.conv": "input_blocks.{halved}.0.op",
        "up_blocks.{i}.upsamplers.0.conv": "output_blocks.{doubled}.{behind}.conv",
    }  # fmt: skip
    for theirs, block, transformer in (
        ("down_blocks.{i}", "input_blocks.{down}.0", "input_blocks.{down}.1"),
        ("mid_block", "middle_block.{twice}", "middle_block.1"),
        ("up_blocks.{i}", "output_blocks.{up}.0", "output_blocks.{up}.1"),
    ):
        rows |= {f"{theirs}.resnets.{{j}}.{a}": f"{block}.{b}" for a, b in _RESIDUAL.items()}
        rows |= {f"{theirs}.attentions.{{j}}.{x}": f"{transformer}.{x}" for x in _TRANSFORMER}
    return rows


def _vae_rows() -> dict[str, str]:
    rows = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    for half, stage, resized, ldm_stage, change in (
        ("encoder", "down_blocks", "downsamplers", "down.{i}", "downsample"),
        ("decoder", "up_blocks", "upsamplers", "up.{last}", "upsample"),
    ):
        rows |= {f"{half}.{x}": f"{half}.{x}" for x in ("conv_in", "conv_out")}
        rows[f"{half}.conv_norm_out"] = f"{half}.norm_out"
        rows[f"{half}.{stage}.{{i}}.{resized}.0.conv"] = f"{half}.{ldm_stage}.{change}.conv"
        for a in ("norm1", "conv1", "norm2", "conv2", "conv_shortcut"):
            b = "nin_shortcut" if a == "conv_shortcut" else a
            rows[f"{half}.{stage}.{{i}}.resnets.{{j}}.{a}"] = f"{half}.{ldm_stage}.block.{{j}}.{b}"
            rows[f"{half}.mid_block.resnets.{{j}}.{a}"] = f"{half}.mid.block_{{next}}.{b}"
        for a, b in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"),
                     ("to_out.0", "proj_out")):  # fmt: skip
            rows[f"{half}.mid_block.attentions.0.{a}"] = f"{half}.mid.attn_1.{b}"
    return rows


_FUSED = ("q_proj", "k_proj", "v_proj")


def _open_clip_rows() -> dict[str, str]:
    block = {
        "layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    }  # fmt: skip
    return {
        "embeddings.token_embedding": "token_embedding",
        "embeddings.position_embedding.weight": "positional_embedding",
        "final_layer_norm": "ln_final",
        **{f"encoder.layers.{{i}}.{a}": f"transformer.resblocks.{{i}}.{b}"
           for a, b in block.items()},
        **{f"encoder.layers.{{i}}.self_attn.{x}.{leaf}":
           f"transformer.resblocks.{{i}}.attn.in_proj_{leaf}"
           for x in _FUSED for leaf in ("weight", "bias")},
    }  # fmt: skip


_ROWS = {"unet": _unet_rows(), "vae": _vae_rows()}
_PREFIXES = {"unet": "model.diffusion_model.", "vae": "first_stage_model."}


def _numbers(i: int, j: int, config: Mapping[str, Any]) -> dict[str, int]:
    """Return the values of the placeholders in the rows, for part j of stage i."""
    each = config.get("layers_per_block", 0) + 1
    attends = list(config.get("up_block_types", ()))[i : i + 1] == ["CrossAttnUpBlock2D"]
    return {
        "i": i, "j": j, "next": j + 1, "twice": 2 * j,
        "down": 1 + i * each + j, "halved": (i + 1) * each,
        "up": i * each + j, "doubled": (i + 1) * each - 1, "behind": 2 if attends else 1,
        "last": len(config.get("block_out_channels", ())) - 1 - i,
    }  # fmt: skip


def ldm_names(
    names: Iterable[str], part: str, version: Version, config: Mapping[str, Any]
) -> dict[str, str]:
    """Return the names in a single file of tensors that diffusers or transformers names.

    Args:
        names: those of diffusers.
        part: "unet", "vae" or "text_encoder".
        version: of Stable Diffusion.
        config: our arguments of the network.

    Raises:
        ValueError: a name is unknown.

    Example:
        >>> config = {"layers_per_block": 2, "block_out_channels": (320, 640, 1280, 1280)}
        >>> name = "down_blocks.1.resnets.0.conv1.bias"
        >>> ldm_names([name], "unet", VERSIONS[768], config)[name]
        'model.diffusion_model.input_blocks.4.0.in_layers.2.bias'
    """
    prefix, rows = _PREFIXES.get(part, version.text), _ROWS.get(part)
    if rows is None:  # version 1 has the tower as transformers has it
        rows = _open_clip_rows() if version.upcast else None
    if rows is None:
        return {name: prefix + name for name in names}
    patterns = [(row_pattern(theirs), ldm) for theirs, ldm in rows.items()]
    renamed = {}
    for name in names:
        stem, _, leaf = name.rpartition(".")
        for whole, end in ((name, ""), (stem, f".{leaf}")):
            for form, ldm in patterns:
                match = form.fullmatch(whole)
                if match is not None:
                    placeholders = match.groupdict()
                    i, j = (int(placeholders.get(key) or 0) for key in "ij")
                    numbers = _numbers(i, j, config)
                    renamed[name] = prefix + ldm.format_map(numbers) + end
                    break
        if name not in renamed:
            raise ValueError(f"Single files have no name for {name!r} of the {part}.")
    return renamed


def ldm_tensors(
    storages: Mapping[str, Storage | None], part: str, version: Version, config: Mapping[str, Any]
) -> list[TensorMatch]:
    """Return which weight of a network is which tensor of a single file.

    Args:
        storages: the weights, and how PyTorch stores each.
        part: "unet", "vae" or "text_encoder".
        version: of Stable Diffusion.
        config: our arguments of the network.
    """
    usual = name_tensors(storages, family_of(_FAMILIES[part]).weights)
    names = ldm_names([match.tensor for match in usual], part, version, config)
    fused = _FUSED if part == "text_encoder" and version.upcast else ()
    matches = []
    for path, name, storage in usual:
        ldm = names[name]
        if _PIXELS.fullmatch(ldm):
            storage = DENSE_AS_CONV
        layer = name.split(".")[-2:-1]
        if layer and layer[0] in fused:
            storage = storage.as_part(fused.index(layer[0]), len(fused))
        matches.append(TensorMatch(path, ldm, storage))
    return matches


# -- sizes ----------------------------------------------------------------------------------------


class _Sizes:
    """The shapes of the tensors of a file below a prefix."""

    def __init__(self, weights: Weights, prefix: str, location: str):
        self.location, self.prefix = location, prefix
        self.names = {n.removeprefix(prefix) for n in weights if n.startswith(prefix)}
        self._weights = weights

    def __call__(self, name: str, axis: int) -> int:
        shape = self.shape(name)
        if not -len(shape) <= axis < len(shape) or shape[axis] < 1:
            raise ValueError(f"{self.prefix}{name} of {self.location} has the shape {shape}.")
        return shape[axis]

    def shape(self, name: str) -> tuple[int, ...]:
        if name not in self.names:
            raise ValueError(
                f"{self.location} is no single file of Stable Diffusion 1 or 2: it has no "
                f"{self.prefix}{name}; it has {abbreviate(sorted(self._weights)[:4])}."
            )
        return self._weights.shape(self.prefix + name)

    def count(self, template: str) -> int:
        """Return the number of tensors that a template with {} names, counted from 0."""
        count = 0
        while template.format(count) in self.names:
            count += 1
        return count


def _unet_config(sizes: _Sizes) -> dict[str, Any]:
    """Return the arguments of the U-Net that follow from the shapes."""
    halved = [i for i in range(64) if f"input_blocks.{i}.0.op.weight" in sizes.names]
    each = halved[0] if halved else sizes.count("input_blocks.{}.0.in_layers.0.weight")
    first = [1 + i * each for i in range(len(halved) + 1)]
    attends = [f"input_blocks.{n}.1.proj_in.weight" in sizes.names for n in first]
    transformer = "middle_block.1"
    return {
        "in_channels": sizes("input_blocks.0.0.weight", 1),
        "out_channels": sizes("out.2.weight", 0),
        "block_out_channels": tuple(
            sizes(f"input_blocks.{n}.0.out_layers.3.weight", 0) for n in first
        ),
        "layers_per_block": each - 1,
        "cross_attention_dim": sizes(f"{transformer}.transformer_blocks.0.attn2.to_k.weight", 1),
        "use_linear_projection": len(sizes.shape(f"{transformer}.proj_in.weight")) == 2,
        "down_block_types": tuple("CrossAttnDownBlock2D" if x else "DownBlock2D" for x in attends),
        "up_block_types": tuple(
            "CrossAttnUpBlock2D" if x else "UpBlock2D" for x in reversed(attends)
        ),
    }


def _vae_config(sizes: _Sizes) -> dict[str, Any]:
    stages = sizes.count("encoder.down.{}.block.0.conv1.weight")
    return {
        "in_channels": sizes("encoder.conv_in.weight", 1),
        "out_channels": sizes("decoder.conv_out.weight", 0),
        "block_out_channels": tuple(
            sizes(f"encoder.down.{i}.block.0.conv1.weight", 0) for i in range(max(stages, 1))
        ),
        "layers_per_block": sizes.count("encoder.down.0.block.{}.conv1.weight"),
        "latent_channels": sizes("post_quant_conv.weight", 0),
    }


def _text_config(sizes: _Sizes) -> dict[str, Any]:
    clip = "encoder.layers.0.mlp.fc1.weight" in sizes.names
    tokens, places, block, inside = (
        ("embeddings.token_embedding.weight", "embeddings.position_embedding.weight",
         "encoder.layers.{}.layer_norm1.weight", "encoder.layers.0.mlp.fc1.weight")
        if clip else
        ("token_embedding.weight", "positional_embedding",
         "transformer.resblocks.{}.ln_1.weight", "transformer.resblocks.0.mlp.c_fc.weight")
    )  # fmt: skip
    return {
        "vocabulary_size": sizes(tokens, 0),
        "num_layers": min(sizes.count(block), _USED_BLOCKS),
        "hidden_dim": sizes(tokens, 1),
        "intermediate_dim": sizes(inside, 0),
        "max_sequence_length": sizes(places, 0),
    }


_CONFIGS = {"unet": _unet_config, "vae": _vae_config, "text_encoder": _text_config}


def _published(part: str, version: Version, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that no shape tells, as the published networks have them."""
    if part == "unet":
        heads = version.heads(config["block_out_channels"])
        return {"attention_head_dim": heads, "norm_num_groups": 32, "norm_eps": 1e-5,
                "flip_sin_to_cos": True, "freq_shift": 0}  # fmt: skip
    if part == "vae":
        return {"norm_num_groups": 32, "scaling_factor": 0.18215, "shift_factor": None,
                "mid_block_add_attention": True, "use_quant_conv": True,
                "use_post_quant_conv": True}  # fmt: skip
    heads = max(config["hidden_dim"] // _HEAD, 1)
    return {"num_heads": heads, "activation": version.activation, "layer_norm_epsilon": 1e-5}


def version_of(context: int, location: str) -> Version:
    """Return the version of Stable Diffusion that has a width of the context.

    Args:
        context: the width.
        location: of the file, for the error.

    Raises:
        ValueError: it belongs to none.
    """
    if context not in VERSIONS:
        raise ValueError(
            f"{location} has a context of width {context}, which is neither Stable Diffusion 1 "
            "(768) nor 2 (1024)."
        )
    return VERSIONS[context]


# -- reading --------------------------------------------------------------------------------------


def read_networks(
    weights: Weights, location: str, without: Iterable[str] = (), dtype: Any = None
) -> tuple[Version, dict[str, Any]]:
    """Build the networks of a single file; tensors are read when they are first used.

    Args:
        weights: the file.
        location: of the file, for errors.
        without: the parts to leave out: "vae", "text_encoder".
        dtype: a dtype or policy of the networks.

    Returns:
        The version, and the networks by their parts.

    Raises:
        ValueError: the file is of another model, or a tensor is missing, unknown or mis-shaped.
    """
    weights.rename(_OLDER)
    sizes = _Sizes(weights, _PREFIXES["unet"], location)
    version = version_of(_unet_config(sizes)["cross_attention_dim"], location)
    prefixes = {**_PREFIXES, "text_encoder": version.text}
    networks, variables, matches, claimed = {}, {}, {}, set()
    for part in dict.fromkeys(_FAMILIES):
        if part in without:
            claimed |= {name for name in weights if name.startswith(prefixes[part])}
            continue
        config = _CONFIGS[part](_Sizes(weights, prefixes[part], location))
        config |= _published(part, version, config)
        config |= {"upcast_attention": version.upcast} if part == "unet" else {}
        networks[part] = family_of(_FAMILIES[part]).backbone(**config, dtype=dtype)
        variables[part] = weight_variables(networks[part])
        storages = layer_storages(networks[part])
        matches[part] = ldm_tensors(storages, part, version, config)
        claimed |= {match.tensor for match in matches[part]}
    missing = dict.fromkeys(
        m.tensor for group in matches.values() for m in group if m.tensor not in weights
    )
    unknown = sorted(
        name for name in weights
        if name not in claimed and not any(re.fullmatch(p, name) for p in _IGNORED)
    )  # fmt: skip
    if missing or unknown:
        raise ValueError(
            f"{location} does not fit Stable Diffusion.\n"
            f"  Missing in the file ({len(missing)}): {abbreviate(missing)}\n"
            f"  Unknown in the file ({len(unknown)}): {abbreviate(unknown)}"
        )
    for part in networks:
        assign_tensors(variables[part], weights, matches[part])
    return version, networks


def read_single_file(
    handle: Any,
    *,
    tokenizer: Any = None,
    text_encoder: Any = None,
    vae: Any = None,
    scheduler: Scheduler | str | None = None,
    prediction_type: str | None = None,
    dtype: Any = None,
    revision: str | None = None,
    token: str | None = None,
) -> dict[str, Any]:
    """Return the parts of a pipeline; see `StableDiffusion.from_single_file`.

    Args:
        handle: a file, or one of a repository.
        tokenizer: a tokenizer, or a preset with one; that of the version by default.
        text_encoder: used in place of the file's.
        vae: used in place of the file's.
        scheduler: a scheduler or its name; that of the version by default.
        prediction_type: what the U-Net predicts, which files do not state.
        dtype: a dtype or policy.
        revision: as for `hub.presets.resolve`.
        token: as for `hub.presets.resolve`.

    Raises:
        ValueError: the file is of another model, or a tensor is missing, unknown or mis-shaped.
    """
    files, name = resolve_file(handle, revision=revision, token=token)
    own = {"text_encoder": text_encoder, "vae": vae}
    own = {part: network for part, network in own.items() if network is not None}
    version, networks = read_networks(open_file(files, name), files.location, own, dtype)
    prediction = prediction_type or version.prediction
    wide = version.upcast and prediction == "v_prediction"
    networks["unet"].config["sample_size"] = 96 if wide else 64
    if not isinstance(scheduler, Scheduler):
        usual = Scheduler.from_name(
            version.scheduler, prediction_type=prediction, steps_offset=1, set_alpha_to_one=False
        )
        scheduler = usual if scheduler is None else usual.with_method(scheduler)
    if not isinstance(tokenizer, CLIPTokenizer):
        tokenizer = _tokenizer(resolve(version.preset if tokenizer is None else tokenizer))
    return {**networks, **own, "scheduler": scheduler, "tokenizer": tokenizer}


def _tokenizer(files: PresetFiles) -> CLIPTokenizer:
    below = any(name.startswith("tokenizer/") for name in files.names)
    return CLIPTokenizer.from_files(files.folder("tokenizer") if below else files)


# -- writing --------------------------------------------------------------------------------------


def write_single_file(pipeline: Any, path: Any) -> None:
    """Write the networks of a pipeline; see `StableDiffusion.save_single_file`.

    Args:
        pipeline: the pipeline.
        path: of the file.

    Raises:
        ValueError: a network is not of Stable Diffusion 1 or 2, so that no file can hold it.
    """
    if not str(path).endswith(".safetensors"):
        raise ValueError(f"{str(path)!r} must end with '.safetensors', or nobody can open it.")
    version = version_of(pipeline.unet.config["cross_attention_dim"], "The U-Net")
    tensors: list[Exported] = []
    for part in _FAMILIES:
        model = getattr(pipeline, part)
        usual = _published(part, version, model.config)
        stages = len(model.config.get("block_out_channels", ()))
        wrong = [key for key in usual if not _same(model.config[key], usual[key], stages)]
        if wrong:
            raise ValueError(
                f"A single file cannot say {wrong} of the {part}: "
                f"{[model.config[k] for k in wrong]} where {[usual[k] for k in wrong]} would be "
                "read. Use save_to_preset."
            )
        weights = merged_weights(model)
        storages = layer_storages(model)
        storages = {path: storages[path] for path in weights}
        tensors.append(Exported(weights, ldm_tensors(storages, part, version, model.config)))
    save_safetensors(path, ChainMap(*tensors), {"format": "pt"})


def _same(ours: Any, usual: Any, stages: int) -> bool:
    if isinstance(usual, tuple):
        return (tuple(ours) if isinstance(ours, list | tuple) else (ours,) * stages) == usual
    return ours == usual
