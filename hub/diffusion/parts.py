"""The parts of a pipeline of latent diffusion, and the files that they come from: folders as
diffusers has them, and single files of the authors' own code.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import keraslite as keras
from hub.diffusion.schedulers import Scheduler
from hub.files import write_json
from hub.models.clip_towers import CLIPTextEncoder
from hub.models.safety_checker import StableDiffusionSafetyChecker
from hub.models.unet import UNet2DConditionModel
from hub.models.vae import AutoencoderKL
from hub.preprocessing.image import ImagePreprocessor
from hub.presets.files import PIPELINE, PresetFiles, resolve
from hub.tokenizers import CLIPTokenizer

PRESET = "stable_diffusion_v1.5"  # where parts come from that are not given
_PARTS = {
    "text_encoder": ("transformers", "CLIPTextModel"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
}
_SAFETY = ("safety_checker", "feature_extractor")  # loaded only where they are asked for
_LAYOUT = "0.42.0"  # of diffusers, whose files are written


class DiffusionParts:
    """Three networks, a tokenizer and a scheduler; perhaps a safety checker.

    Args:
        img_height: of the images, in pixels; the network's usual height by default.
        img_width: of the images, in pixels.
        text_encoder: a `CLIPTextEncoder`; as all parts, that of Stable Diffusion 1.5 by default.
        unet: a `UNet2DConditionModel`.
        vae: an `AutoencoderKL`.
        tokenizer: a `CLIPTokenizer`.
        scheduler: a `Scheduler`, or the name of one.
        safety_checker: a `StableDiffusionSafetyChecker`; with one, images come with flags. None by
            default.
        feature_extractor: the `ImagePreprocessor` for it; CLIP's of its size by default.

    Raises:
        ValueError: a size is no multiple of the autoencoder's factor, which is 8.
    """

    new_weights: tuple[str, ...] = ()  # loading is strict: a part has all of its weights

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
        given = {
            "text_encoder": text_encoder, "unet": unet, "vae": vae, "tokenizer": tokenizer,
            "scheduler": scheduler,
        }  # fmt: skip
        absent = [part for part, value in given.items() if value is None]
        if absent:
            given |= _loaded(resolve(PRESET), absent)
        text_encoder, unet, vae, tokenizer, scheduler = given.values()
        usual = (unet.config["sample_size"] or 64) * vae.factor
        self.img_height, self.img_width = img_height or usual, img_width or usual
        for name in ("img_height", "img_width"):
            size = getattr(self, name)
            if size <= 0 or size % vae.factor:
                raise ValueError(f"{name}={size} is not a multiple of {vae.factor}.")
        self.text_encoder, self.unet, self.vae = text_encoder, unet, vae
        self.tokenizer, self.scheduler = tokenizer, scheduler
        if safety_checker is not None and feature_extractor is None:
            edge = safety_checker.vision_encoder.image_shape[0]
            feature_extractor = ImagePreprocessor("CLIP", size=edge, crop_size=edge)
        self.safety_checker, self.feature_extractor = safety_checker, feature_extractor

    @property
    def scheduler(self) -> Scheduler:
        """How noise becomes an image; may be set, to a name too."""
        return self._scheduler

    @scheduler.setter
    def scheduler(self, value: Scheduler | str) -> None:
        if isinstance(value, str):
            kind = getattr(self, "_scheduler", None)
            known = {} if kind is None else kind.config
            keys = ("beta_start", "beta_end", "beta_schedule", "prediction_type", "steps_offset",
                    "num_train_timesteps")  # fmt: skip
            value = Scheduler.from_name(value, **{k: known[k] for k in keys if k in known})
        self._scheduler = value

    # -- presets ------------------------------------------------------------------------------

    @classmethod
    def from_preset(
        cls, preset: Any, *, img_height: int | None = None, img_width: int | None = None,
        backend: str | None = None, dtype: Any = None, load_weights: bool = True,
        variant: str | None = None, scheduler: Scheduler | str | None = None,
        revision: str | None = None, token: str | None = None, safety_checker: bool = False,
        **kwargs: Any,
    ) -> Self:  # fmt: skip
        """The pipeline of a folder or repository as diffusers has them.

        Args:
            preset: `org/repo`, `hf://org/repo@revision`, or a folder.
            img_height: as for the class.
            img_width: as for the class.
            backend: the backend it lives on; the current one by default.
            dtype: a dtype or policy of all networks.
            load_weights: whether weights are loaded, or all of them new.
            variant: "fp16" for the files with that in their names: half of the bytes to fetch.
            scheduler: another one than the preset's.
            revision: a branch, tag or commit of the repository.
            token: a token for the Hub.
            safety_checker: whether the preset's safety checker is loaded, and images come with
                flags.
            kwargs: other arguments of the class, such as `jit_compile`.

        Raises:
            FileNotFoundError: a part is not there, such as a safety checker that is asked for.
            ValueError: a part is of a kind that is not supported, or its files do not fit.
        """
        files = resolve(preset, revision=revision, token=token)
        index = files.json(PIPELINE)
        for part, (_, name) in _PARTS.items():
            given = (index.get(part) or [None, None])[1]
            if given not in (name, f"{name}Fast"):
                raise ValueError(
                    f"{files.location} has {given!r} as its {part}, which is not supported; "
                    f"supported: {name}."
                )
        absent = [*_PARTS, *([] if scheduler is not None else ["scheduler"])]
        absent += _SAFETY if safety_checker else ()
        with keras.use_backend(backend or keras.backend()):
            parts = _loaded(files, absent, dtype=dtype, load_weights=load_weights, variant=variant)
            return cls(img_height, img_width, **{"scheduler": scheduler, **parts, **kwargs})

    def save_to_preset(self, preset_dir: Any) -> None:
        """Write the pipeline as diffusers opens it.

        Args:
            preset_dir: a folder, made if need be.
        """
        folder = Path(preset_dir)
        for part in ("text_encoder", "unet", "vae"):
            getattr(self, part).save_to_preset(folder / part)
        (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(folder / "tokenizer")
        (folder / "scheduler").mkdir(exist_ok=True)
        config = self.scheduler.to_config()
        write_json(folder / "scheduler" / "scheduler_config.json", config)
        absent = dict.fromkeys((*_SAFETY, "image_encoder"), [None] * 2)
        parts = {part: list(names) for part, names in _PARTS.items()} | self._safety_saved(folder)
        parts["scheduler"] = ["diffusers", config["_class_name"]]
        inpaints = self.unet.config["in_channels"] != self.vae.latent_channels
        name = f"StableDiffusion{'Inpaint' if inpaints else ''}Pipeline"
        write_json(
            folder / PIPELINE,
            {"_class_name": name, "_diffusers_version": _LAYOUT, **absent, **parts,
             "requires_safety_checker": self.safety_checker is not None},
        )  # fmt: skip

    @classmethod
    def from_single_file(
        cls, file: Any, *, img_height: int | None = None, img_width: int | None = None,
        backend: str | None = None, **kwargs: Any,
    ) -> Self:  # fmt: skip
        """The pipeline of one file, as its authors and most fine-tuned models have it.

        Versions 1 and 2 are told from the shapes of the tensors. The file does not say what is
        predicted nor for which size: without other arguments noise and 512 pixels for version 1,
        velocity and 768 for version 2, whose base model predicts noise ("epsilon") at 512. Averages
        that lie beside the weights (`model_ema`) are not used.

        Args:
            file: a path, `org/repo/file.safetensors`, or `hf://org/repo@revision/file.safetensors`.
            img_height: as for the class.
            img_width: as for the class.
            backend: the backend it lives on; the current one by default.
            kwargs: `prediction_type`, "epsilon" or "v_prediction"; `scheduler`, the name of one, or
                a `Scheduler`, whose prediction type counts; `tokenizer`, or where it lies, that of
                the version's preset by default; `text_encoder` and `vae` in place of the file's;
                `dtype`, `revision` and `token` as for `from_preset`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is of another kind, or a tensor is missing, unknown or mis-shaped.

        Example:
            >>> file = "v2-1_512-ema-pruned.safetensors"
            >>> model = StableDiffusion.from_single_file(
            ...     file, prediction_type="epsilon")  # doctest: +SKIP
        """
        from hub.diffusion import single_file

        with keras.use_backend(backend or keras.backend()):
            return cls(img_height, img_width, **single_file.read_single_file(file, **kwargs))

    def save_single_file(self, path: Any) -> None:
        """Write the networks into one file, under the names of its authors' code.

        Tokenizer and scheduler are no part of it.

        Args:
            path: the file, which ends with .safetensors.

        Raises:
            ValueError: the networks have options that such a file cannot say.
            OSError: the file cannot be written; what was there stays as it was.
        """
        from hub.diffusion import single_file

        single_file.write_single_file(self, path)

    def _safety_saved(self, folder: Path) -> dict[str, list[str]]:
        """Write the safety checker, where there is one; what the index says of it."""
        if self.safety_checker is None or self.feature_extractor is None:
            return {}
        self.safety_checker.save_to_preset(folder / "safety_checker")
        (folder / "feature_extractor").mkdir(exist_ok=True)
        self.feature_extractor.save(folder / "feature_extractor")
        kind = self.feature_extractor.to_config()["image_processor_type"]
        return {
            "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
            "feature_extractor": ["transformers", kind],
        }


def _loaded(files: PresetFiles, parts: Sequence[str], **how: Any) -> dict[str, Any]:
    """Parts of a pipeline out of its folders."""
    readers: dict[str, Callable[[PresetFiles], Any]] = {
        "text_encoder": lambda below: CLIPTextEncoder.from_preset(below, **how),
        "tokenizer": CLIPTokenizer.from_files,
        "unet": lambda below: UNet2DConditionModel.from_preset(below, **how),
        "vae": lambda below: AutoencoderKL.from_preset(below, **how),
        "scheduler": lambda below: Scheduler.from_config(below.json("scheduler_config.json")),
        "safety_checker": lambda below: StableDiffusionSafetyChecker.from_preset(below, **how),
        "feature_extractor": ImagePreprocessor.from_files,
    }
    folders = {part: files.folder(part) for part in parts}  # that all are there, before any is read
    return {part: readers[part](folder) for part, folder in folders.items()}
