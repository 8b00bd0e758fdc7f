"""The parts of a latent diffusion pipeline, loaded and saved as folders in the layout of diffusers
or as single files in that of the authors' own code.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import keraslite as keras
from hub.diffusion import single_file
from hub.diffusion.schedulers import Scheduler
from hub.files import write_json
from hub.models.clip_towers import CLIPTextEncoder
from hub.models.safety_checker import StableDiffusionSafetyChecker
from hub.models.unet import UNet2DConditionModel
from hub.models.vae import AutoencoderKL
from hub.preprocessing.image import ImagePreprocessor
from hub.preprocessing.summary import preprocessor_table
from hub.presets.files import PIPELINE, PresetFiles, resolve
from hub.tokenizers import CLIPTokenizer
from keraslite.naming import to_snake_case
from keraslite.saving import replacing_folder

_DEFAULT_PRESET = "stable_diffusion_v1.5"  # of the parts that are not passed
_PARTS = {
    "text_encoder": ("transformers", "CLIPTextModel"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
}
_SAFETY = ("safety_checker", "feature_extractor")  # loaded on request only
_DIFFUSERS_VERSION = "0.42.0"  # whose layout is written


class DiffusionParts:
    """The parts of a pipeline: three networks, a tokenizer, a scheduler, and a safety checker or
    none.

    Args:
        img_height: the height of the images in pixels; by default the one of the U-Net's config.
        img_width: the width of the images in pixels, likewise.
        text_encoder: a `CLIPTextEncoder`; as all parts, that of Stable Diffusion 1.5 by default.
        unet: a `UNet2DConditionModel`.
        vae: an `AutoencoderKL`.
        tokenizer: a `CLIPTokenizer`.
        scheduler: a `Scheduler`, or the name of one.
        safety_checker: a `StableDiffusionSafetyChecker`; with one, images come with flags. None by
            default.
        feature_extractor: the `ImagePreprocessor` for it; CLIP's of its size by default.

    Raises:
        ValueError: a size is not a positive multiple of the autoencoder's factor, which is 8.
    """

    new_weights: tuple[str, ...] = ()  # loading is strict: no weight of a part is new
    text_encoder: CLIPTextEncoder
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    tokenizer: CLIPTokenizer

    def __init__(
        self,
        img_height: int | None = None,
        img_width: int | None = None,
        *,
        text_encoder: CLIPTextEncoder | None = None,
        unet: UNet2DConditionModel | None = None,
        vae: AutoencoderKL | None = None,
        tokenizer: CLIPTokenizer | None = None,
        scheduler: Scheduler | str | None = None,
        safety_checker: StableDiffusionSafetyChecker | None = None,
        feature_extractor: ImagePreprocessor | None = None,
    ):
        parts = {
            "text_encoder": text_encoder, "unet": unet, "vae": vae, "tokenizer": tokenizer,
            "scheduler": scheduler,
        }  # fmt: skip
        missing = [name for name, part in parts.items() if part is None]
        if missing:
            parts |= _load_parts(resolve(_DEFAULT_PRESET), missing)
        text_encoder, unet, vae, tokenizer, scheduler = parts.values()
        default_size = (unet.config["sample_size"] or 64) * vae.factor
        self.img_height, self.img_width = img_height or default_size, img_width or default_size
        for name in ("img_height", "img_width"):
            size = getattr(self, name)
            if size <= 0 or size % vae.factor:
                raise ValueError(f"{name} must be a positive multiple of {vae.factor}, got {size}.")
        self.text_encoder, self.unet, self.vae = text_encoder, unet, vae
        self.tokenizer, self.scheduler = tokenizer, scheduler
        if safety_checker is not None and feature_extractor is None:
            edge = safety_checker.vision_encoder.image_shape[0]
            feature_extractor = ImagePreprocessor("CLIP", size=edge, crop_size=edge)
        self.safety_checker, self.feature_extractor = safety_checker, feature_extractor

    @property
    def scheduler(self) -> Scheduler:
        """The noise scheduler; may be set to another one, or to a name of `SCHEDULERS`, which then
        has the options that the pipeline's config states.
        """
        return self._scheduler

    @scheduler.setter
    def scheduler(self, value: Scheduler | str) -> None:
        if isinstance(value, str):
            current = getattr(self, "_scheduler", None)
            value = Scheduler.from_name(value) if current is None else current.with_method(value)
        self._scheduler = value

    def __repr__(self) -> str:
        count = sum(network.count_params() for network in self._networks().values())
        return (
            f"<{type(self).__name__} of {self.img_height}x{self.img_width} pixels, "
            f"scheduler={self.scheduler.name!r}, {count:,} parameters, backend={self.unet.backend}>"
        )

    def summary(self, line_length: int | None = None, print_fn: Any = None) -> None:
        """Print the tokenizer, and the networks with their output shapes and parameter counts.

        Args:
            line_length: the width in characters.
            print_fn: a function of the text; `print` by default.
        """
        if line_length is None:
            line_length = keras.utils.line_length_for(88)
        show = print_fn or print
        parts = [part for part in (self.tokenizer, self.feature_extractor) if part is not None]
        show(preprocessor_table("preprocessors", parts, line_length))
        size = (self.img_height, self.img_width)
        latents = (None, *(edge // self.vae.factor for edge in size), self.vae.latent_channels)
        shapes = {
            "text_encoder": (
                None, self.text_encoder.max_sequence_length, self.text_encoder.hidden_dim
            ),
            "unet": latents, "vae": (None, *size, 3), "safety_checker": (None,),
        }  # fmt: skip
        networks = self._networks()
        rows = [
            [f"{name} ({type(part).__name__})", str(shapes[name]), f"{part.count_params():,}"]
            for name, part in networks.items()
        ]
        heads = ["Network (type)", "Output Shape", "Param #"]
        table = keras.utils.text_table(heads, rows, [0.45, 0.35, 0.2], "llr", line_length)
        variables = [v for part in networks.values() for v in part.trainable_variables]
        trained = sum(math.prod(v.shape) for v in variables)
        total = sum(part.count_params() for part in networks.values())
        show(
            f'Pipeline: "{to_snake_case(type(self).__name__)}"\n{table}\n'
            f" Total params: {total:,}\n Trainable params: {trained:,}\n"
            f" Scheduler: {self.scheduler.name}"
        )

    def _networks(self) -> dict[str, Any]:
        """Return the networks by their names."""
        names = ("text_encoder", "unet", "vae", "safety_checker")
        return {name: part for name in names if (part := getattr(self, name)) is not None}

    # -- presets ------------------------------------------------------------------------------

    @classmethod
    def from_preset(
        cls, preset: Any, *, img_height: int | None = None, img_width: int | None = None,
        backend: str | None = None, dtype: Any = None, load_weights: bool = True,
        variant: str | None = None, scheduler: Scheduler | str | None = None,
        revision: str | None = None, token: str | None = None, safety_checker: bool = False,
        **kwargs: Any,
    ) -> Self:  # fmt: skip
        """Load a pipeline from a folder or repository in the layout of diffusers.

        Args:
            preset: `org/repo`, `hf://org/repo@revision`, or a folder.
            img_height: as for the class.
            img_width: as for the class.
            backend: the backend of the networks; the current one by default.
            dtype: a dtype or policy of all networks.
            load_weights: whether to load the weights; without, they are initialized.
            variant: "fp16" for the files with that in their names, half the size to download.
            scheduler: a scheduler in place of the preset's, or the name of one, which then has the
                options that the preset states.
            revision: a branch, tag or commit of the repository.
            token: a token for the Hub.
            safety_checker: whether to load the preset's safety checker, so that images come with
                flags.
            kwargs: other arguments of the class, such as `jit_compile`.

        Raises:
            FileNotFoundError: the files of a part are missing.
            ValueError: the class of a part is not supported, or its files do not fit.
        """
        files = resolve(preset, revision=revision, token=token)
        index = files.json(PIPELINE)
        for part, (_, class_name) in _PARTS.items():
            actual = (index.get(part) or [None, None])[1]
            if actual not in (class_name, f"{class_name}Fast"):
                raise ValueError(
                    f"{part} of {files.location} must be a {class_name}, got {actual!r}, which is "
                    "not supported."
                )
        names = [*_PARTS, *([] if isinstance(scheduler, Scheduler) else ["scheduler"])]
        names += _SAFETY if safety_checker else ()
        with keras.backend.backend_scope(backend or keras.backend()):
            parts = _load_parts(
                files, names, dtype=dtype, load_weights=load_weights, variant=variant
            )
            if isinstance(scheduler, str):
                scheduler = parts["scheduler"].with_method(scheduler)
            parts["scheduler"] = scheduler or parts["scheduler"]
            return cls(img_height, img_width, **{**parts, **kwargs})

    def save_to_preset(self, preset_dir: Any) -> None:
        """Write the pipeline in the layout of diffusers.

        Args:
            preset_dir: a folder; it is created if it does not exist.
        """
        with replacing_folder(preset_dir) as folder:
            self._save_parts(folder)

    def _save_parts(self, folder: Path) -> None:
        """Write the parts, each into a folder of its own, and the index."""
        for part in ("text_encoder", "unet", "vae"):
            getattr(self, part).save_to_preset(folder / part)
        (folder / "tokenizer").mkdir()
        self.tokenizer.save(folder / "tokenizer")
        (folder / "scheduler").mkdir(exist_ok=True)
        config = self.scheduler.to_config()
        write_json(folder / "scheduler" / "scheduler_config.json", config)
        optional = dict.fromkeys((*_SAFETY, "image_encoder"), [None] * 2)
        parts = {part: list(names) for part, names in _PARTS.items()}
        parts |= self._save_safety_checker(folder)
        parts["scheduler"] = ["diffusers", config["_class_name"]]
        inpaints = self.unet.config["in_channels"] != self.vae.latent_channels
        name = f"StableDiffusion{'Inpaint' if inpaints else ''}Pipeline"
        write_json(
            folder / PIPELINE,
            {"_class_name": name, "_diffusers_version": _DIFFUSERS_VERSION, **optional, **parts,
             "requires_safety_checker": self.safety_checker is not None},
        )  # fmt: skip

    @classmethod
    def from_single_file(
        cls, file: Any, *, img_height: int | None = None, img_width: int | None = None,
        backend: str | None = None, **kwargs: Any,
    ) -> Self:  # fmt: skip
        """Load a pipeline from a single file, the layout of the authors and of most fine-tuned
        models.

        Versions 1 and 2 are told apart by the shapes of the tensors. The file states neither the
        prediction type nor the image size: by default version 1 predicts noise at 512 pixels and
        version 2 velocity at 768; the base model of version 2 predicts noise ("epsilon") at 512.
        Moving averages in the file (`model_ema`) are not used.

        Args:
            file: a path, `org/repo/file.safetensors`, or `hf://org/repo@revision/file.safetensors`.
            img_height: as for the class.
            img_width: as for the class.
            backend: the backend of the networks; the current one by default.
            kwargs: `prediction_type`, "epsilon" or "v_prediction"; `scheduler`, a name, or a
                `Scheduler` with its own prediction type; `tokenizer`, a tokenizer or its folder,
                by default that of the version's preset; `text_encoder` and `vae` in place of the
                file's; `dtype`, `revision` and `token` as for `from_preset`.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: it holds another model, or a tensor is missing, unused or mis-shaped.

        Example:
            >>> file = "v2-1_512-ema-pruned.safetensors"
            >>> model = StableDiffusion.from_single_file(
            ...     file, prediction_type="epsilon")  # doctest: +SKIP
        """
        with keras.backend.backend_scope(backend or keras.backend()):
            return cls(img_height, img_width, **single_file.read_single_file(file, **kwargs))

    def save_single_file(self, path: Any) -> None:
        """Write the networks into a single file, under the names of the authors' code.

        The file does not hold the tokenizer and the scheduler.

        Args:
            path: the file, which ends with .safetensors.

        Raises:
            ValueError: the networks have options that such a file cannot state.
            OSError: the file cannot be written; an older file stays as it was.
        """
        single_file.write_single_file(self, path)

    def _save_safety_checker(self, folder: Path) -> dict[str, list[str]]:
        """Write the safety checker, if there is one, and return its entries in the index."""
        if self.safety_checker is None or self.feature_extractor is None:
            return {}
        self.safety_checker.save_to_preset(folder / "safety_checker")
        (folder / "feature_extractor").mkdir(exist_ok=True)
        self.feature_extractor.save(folder / "feature_extractor")
        processor_type = self.feature_extractor.to_config()["image_processor_type"]
        return {
            "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
            "feature_extractor": ["transformers", processor_type],
        }


def _load_parts(files: PresetFiles, names: Sequence[str], **options: Any) -> dict[str, Any]:
    """Return parts of a pipeline, each from its folder; the options are those of the networks."""
    readers: dict[str, Callable[[PresetFiles], Any]] = {
        "text_encoder": lambda folder: CLIPTextEncoder.from_preset(folder, **options),
        "tokenizer": CLIPTokenizer.from_files,
        "unet": lambda folder: UNet2DConditionModel.from_preset(folder, **options),
        "vae": lambda folder: AutoencoderKL.from_preset(folder, **options),
        "scheduler": lambda folder: Scheduler.from_config(folder.json("scheduler_config.json")),
        "safety_checker": lambda folder: StableDiffusionSafetyChecker.from_preset(
            folder, **options
        ),
        "feature_extractor": ImagePreprocessor.from_files,
    }
    # Find all folders before reading any, so that a missing part fails at once.
    folders = {name: files.folder(name) for name in names}
    return {name: readers[name](folder) for name, folder in folders.items()}
