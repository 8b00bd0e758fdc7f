"""Stable Diffusion: images of texts (Rombach et al., 2022, arXiv:2112.10752).

A text becomes a context, noise becomes latents step by step, latents become an image. A step is
compiled where the backend compiles; what is wanted of the image and what is not go through the
network in one batch (Ho and Salimans, 2022, arXiv:2207.12598).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import keraslite as keras
from hub.generation import inference
from hub.models.clip import CLIPTextEncoder
from hub.models.unet import UNet2DConditionModel
from hub.models.vae import AutoencoderKL
from hub.presets.files import PIPELINE, PresetFiles, resolve
from hub.presets.loading import write_json
from hub.schedulers import Plan, Scheduler
from hub.tokenizers import CLIPTokenizer
from keraslite import ops

PRESET = "stable_diffusion_v1.5"  # where parts come from that are not given
_PARTS = {
    "text_encoder": ("transformers", "CLIPTextModel"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
}


class StableDiffusion:
    """Images of texts, and images that follow a text and another image.

    Args:
        img_height: of the images, in pixels; the network's usual height by default.
        img_width: of the images, in pixels.
        text_encoder: a `CLIPTextEncoder`; as all parts, that of Stable Diffusion 1.5 by default.
        unet: a `UNet2DConditionModel`.
        vae: an `AutoencoderKL`.
        tokenizer: a `CLIPTokenizer`.
        scheduler: a `Scheduler`, or the name of one.

    Raises:
        ValueError: a size is no multiple of the autoencoder's factor, which is 8.

    Example:
        >>> model = StableDiffusion.from_preset("./pipeline")  # doctest: +SKIP
        >>> model.text_to_image("an astronaut riding a horse").shape  # doctest: +SKIP
        (1, 512, 512, 3)
    """

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
        self._compiled: dict[Any, Callable] = {}

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
        scheduler: Scheduler | str | None = None, revision: str | None = None,
        token: str | None = None,
    ) -> "StableDiffusion":  # fmt: skip
        """The pipeline of a folder or repository as diffusers has them.

        Args:
            preset: `org/repo`, `hf://org/repo@revision`, or a folder.
            img_height: as for the class.
            img_width: as for the class.
            backend: the backend it lives on; the current one by default.
            dtype: a dtype or policy of all networks.
            load_weights: whether weights are loaded, or all of them new.
            scheduler: another one than the preset's.
            revision: a branch, tag or commit of the repository.
            token: a token for the Hub.

        Raises:
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
        with keras.use_backend(backend or keras.backend()):
            parts = _loaded(files, absent, dtype=dtype, load_weights=load_weights)
            return cls(img_height, img_width, **{"scheduler": scheduler, **parts})

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
        absent = dict.fromkeys(("safety_checker", "feature_extractor", "image_encoder"), [None] * 2)
        parts = {part: list(names) for part, names in _PARTS.items()}
        parts["scheduler"] = ["diffusers", config["_class_name"]]
        write_json(
            folder / PIPELINE,
            {"_class_name": "StableDiffusionPipeline", "requires_safety_checker": False,
             **absent, **parts},
        )  # fmt: skip

    @classmethod
    def from_single_file(
        cls, file: Any, *, img_height: int | None = None, img_width: int | None = None,
        backend: str | None = None, **kwargs: Any,
    ) -> "StableDiffusion":  # fmt: skip
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
        from hub.presets import ldm

        with keras.use_backend(backend or keras.backend()):
            return cls(img_height, img_width, **ldm.read_single_file(file, **kwargs))

    def save_single_file(self, path: Any) -> None:
        """Write the networks into one file, under the names of its authors' code.

        Tokenizer and scheduler are no part of it.

        Args:
            path: the file, which ends with .safetensors.

        Raises:
            ValueError: the networks have options that such a file cannot say.
            OSError: the file cannot be written; what was there stays as it was.
        """
        from hub.presets import ldm

        ldm.write_single_file(self, path)

    # -- adapters -----------------------------------------------------------------------------

    def load_lora(
        self, lora: Any, scale: float = 1.0, fuse: bool = False, **kwargs: Any
    ) -> list[str]:
        """Put the LoRA of a file of diffusers or kohya's trainer beside the weights.

        Args:
            lora: a file, a folder with pytorch_lora_weights.safetensors, `org/repo`,
                `org/repo/file.safetensors`, or `hf://org/repo@revision/file.safetensors`.
            scale: how strongly it works; its alpha is multiplied by this.
            fuse: whether it is added to the weights, for good; several can be added so.
            kwargs: `revision` and `token` as for `from_preset`.

        Returns:
            The layers that are changed, as diffusers calls them.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: there is a LoRA already; or tensors are unknown, missing or mis-shaped, and
                nothing was changed.

        Example:
            >>> model.load_lora("./lora", scale=0.8)[0]  # doctest: +SKIP
            'unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q'
        """
        from hub import diffusion_lora

        changed = diffusion_lora.load_lora(self, lora, scale, fuse, **kwargs)
        self._compiled = {}  # has the scale in it
        return changed

    def unload_lora(self) -> None:
        """Take the LoRA away again.

        Raises:
            ValueError: there is none, perhaps because it was fused.
        """
        from hub import diffusion_lora

        diffusion_lora.unload_lora(self)
        self._compiled = {}

    def save_lora(self, folder: Any) -> None:
        """Write the LoRA as diffusers opens it, with the scale in its alpha.

        Args:
            folder: made if need be; gets pytorch_lora_weights.safetensors.

        Raises:
            ValueError: there is none.
            OSError: the file cannot be written; what was there stays as it was.
        """
        from hub import diffusion_lora

        diffusion_lora.save_lora(self, folder)

    # -- images -------------------------------------------------------------------------------

    def encode_text(self, prompt: str | Sequence[str]) -> Any:
        """What the network is told of texts: (texts, length, width).

        Args:
            prompt: a text or several; longer ones are cut.
        """
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        length = self.text_encoder.max_sequence_length
        ids = self.tokenizer(texts, sequence_length=length, padding="max")["token_ids"]
        with self._context():
            return self.text_encoder({"token_ids": ids})["sequence_output"]

    def text_to_image(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        batch_size: int = 1,
        num_steps: int = 50,
        unconditional_guidance_scale: float = 7.5,
        seed: int | Sequence[int] | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Images (batch, height, width, 3) of uint8.

        Args:
            prompt: a text for all images, or one for each.
            negative_prompt: what is not wanted; nothing by default.
            batch_size: how many images; as many as there are prompts where there are several.
            num_steps: more steps take longer and look better.
            unconditional_guidance_scale: how much more closely the text is followed than by the
                network itself; 1 for no more.
            seed: of the first image; the next ones have the seeds that follow. A list has one for
                each. An image does not depend on its batch.
            kwargs: `guidance_rescale`, `callback`, `verbose`, as for `generate_image`.

        Raises:
            ValueError: numbers of prompts, images and seeds differ.
        """
        if not isinstance(prompt, str):
            prompt = list(prompt)
            if batch_size not in (1, len(prompt)):
                raise ValueError(f"There are {len(prompt)} prompts, but batch_size={batch_size}.")
            batch_size = len(prompt)
        if not isinstance(negative_prompt, str) and negative_prompt is not None:
            negative_prompt = list(negative_prompt)
            if len(negative_prompt) != batch_size:
                raise ValueError(
                    f"There are {len(negative_prompt)} negative prompts for {batch_size} images."
                )
        return self.generate_image(
            self.encode_text(prompt), negative_prompt, batch_size, num_steps,
            unconditional_guidance_scale, seed=seed, **kwargs,
        )  # fmt: skip

    def image_to_image(
        self,
        prompt: str | Sequence[str],
        image: Any,
        strength: float = 0.8,
        negative_prompt: str | Sequence[str] | None = None,
        num_steps: int = 50,
        unconditional_guidance_scale: float = 7.5,
        seed: int | Sequence[int] | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Images that follow a text and other images.

        Args:
            prompt: a text for all images, or one for each.
            image: (batch, height, width, 3) or a single one: uint8, or floats from 0 to 1.
            strength: how far from it an image may go: from just above 0 to 1.
            negative_prompt: as for `text_to_image`.
            num_steps: steps from pure noise; the first ones are left out.
            unconditional_guidance_scale: as for `text_to_image`.
            seed: as for `text_to_image`.
            kwargs: as for `generate_image`.
        """
        images = np.asarray(image)
        images = images[None] if images.ndim == 3 else images
        scale = 255.0 if images.dtype == np.uint8 else 1.0
        images = images.astype("float32") / (scale / 2) - 1
        seeds = self._seeds(seed, len(images))
        with self._context():
            mean, logvar = self.vae.encode(images)
            noise = self._noise(seeds, -1, tuple(mean.shape[1:]))
            wide = ops.cast(mean, "float32"), ops.cast(logvar, "float32")
            latents = wide[0] + ops.exp(0.5 * wide[1]) * noise
            latents = (latents - (self.vae.config["shift_factor"] or 0.0)) * self._scaling
        return self.generate_image(
            self.encode_text(prompt), negative_prompt, len(images), num_steps,
            unconditional_guidance_scale, seed=seeds, latents=latents, strength=strength, **kwargs,
        )  # fmt: skip

    def generate_image(
        self,
        encoded_text: Any,
        negative_prompt: str | Sequence[str] | None = None,
        batch_size: int = 1,
        num_steps: int = 50,
        unconditional_guidance_scale: float = 7.5,
        diffusion_noise: Any = None,
        seed: int | Sequence[int] | None = None,
        guidance_rescale: float = 0.0,
        latents: Any = None,
        strength: float = 1.0,
        callback: Callable[[int, int, Any], None] | None = None,
        verbose: int = 0,
        output: str = "image",
    ) -> Any:
        """Images of a context that `encode_text` gave.

        Args:
            encoded_text: (length, width), (1, length, width), or one for each image.
            negative_prompt: as for `text_to_image`.
            batch_size: how many images.
            num_steps: as for `text_to_image`.
            unconditional_guidance_scale: as for `text_to_image`.
            diffusion_noise: (batch, height / 8, width / 8, 4), in place of that of the seed.
            seed: as for `text_to_image`.
            guidance_rescale: how far the contrast is brought back that guidance adds (Lin et al.,
                2023, arXiv:2305.08891).
            latents: an image's, scaled, to begin with instead of noise alone.
            strength: how much noise they are given.
            callback: called with the number of each call, how many there are, and the latents;
                `preview(latents)` makes an image of them.
            verbose: 1 for a progress bar.
            output: "image" for uint8, "latent" for the latents.

        Raises:
            ValueError: shapes do not fit.
        """
        plan = self.scheduler.plan(num_steps, strength)
        seeds = self._seeds(seed, batch_size)
        guided = unconditional_guidance_scale != 1.0
        with self._context():
            context = self._for_each(encoded_text, batch_size)
            if guided:
                unwanted = self._for_each(self.encode_text(negative_prompt or ""), batch_size)
                context = ops.concatenate([unwanted, context], axis=0)
            height, width = (n // self.vae.factor for n in (self.img_height, self.img_width))
            if latents is not None:
                height, width = latents.shape[1:3]
            shape = (height, width, self.vae.latent_channels)
            noise = self._first_noise(diffusion_noise, seeds, shape)
            x = (
                plan.add_noise(latents, noise)
                if latents is not None
                else noise * float(plan.initial_scale)
            )
            x = self._denoised(
                plan, x, context, seeds, guided, float(unconditional_guidance_scale),
                guidance_rescale, callback, verbose,
            )  # fmt: skip
            return self._image(x) if output == "image" else ops.convert_to_numpy(x)

    def preview(self, latents: Any) -> np.ndarray:
        """Latents as images of uint8.

        Args:
            latents: what a callback was given.
        """
        with self._context():
            return self._image(ops.convert_to_tensor(latents))

    # -- inside -------------------------------------------------------------------------------

    @property
    def _scaling(self) -> float:
        return float(self.vae.config["scaling_factor"])

    def _context(self) -> Any:
        return inference(self.unet.backend)

    def _seeds(self, seed: int | Sequence[int] | None, count: int) -> list[int]:
        if seed is None:
            seed = keras.random.SeedGenerator().get_config()["seed"] % 2**31
        one = isinstance(seed, int | np.integer)
        seeds = [int(seed) + i for i in range(count)] if one else list(seed)
        if len(seeds) != count:
            raise ValueError(f"There are {len(seeds)} seeds for {count} images.")
        return seeds

    def _noise(self, seeds: list[int], call: int, shape: tuple[int, ...]) -> Any:
        """Of an image, by its own seed: before the first call (0) and at each (1 and on)."""
        made = (keras.random.normal(shape, dtype="float32", seed=(seed, call)) for seed in seeds)
        return ops.stack(list(made))

    def _first_noise(self, given: Any, seeds: list[int], shape: tuple[int, ...]) -> Any:
        if given is None:
            return self._noise(seeds, 0, shape)
        given = ops.cast(ops.convert_to_tensor(given), "float32")
        given = given[None] if len(given.shape) == 3 else given
        if tuple(given.shape) != (len(seeds), *shape):
            raise ValueError(
                f"diffusion_noise has the shape {tuple(given.shape)}, expected "
                f"{(len(seeds), *shape)}."
            )
        return given

    def _for_each(self, context: Any, count: int) -> Any:
        context = ops.convert_to_tensor(context)
        context = context[None] if len(context.shape) == 2 else context
        if context.shape[0] not in (1, count):
            raise ValueError(f"There are {context.shape[0]} texts for {count} images.")
        return ops.repeat(context, count, axis=0) if context.shape[0] != count else context

    def _denoised(
        self, plan: Plan, x: Any, context: Any, seeds: list[int], guided: bool, scale: float,
        rescale: float, callback: Any, verbose: int,
    ) -> Any:  # fmt: skip
        state, bar = plan.init_state(x), keras.utils.Progbar(len(plan), verbose=verbose)
        times = ops.convert_to_tensor(plan.timesteps)

        def step(i: Any, x: Any, state: Any, context: Any, noise: Any) -> tuple:
            given = plan.scale_input(i, x)
            given = ops.concatenate([given, given], axis=0) if guided else given
            time = ops.take(times, i, axis=0)
            out = self.unet({"latents": given, "timestep": time, "context": context})
            out = ops.cast(out, "float32")
            return plan.step(i, state, x, _guided(out, scale, rescale) if guided else out, noise)

        variables = self.unet.variables
        key = (self.unet.backend, len(variables), self.scheduler.name, repr(self.scheduler.config),
               plan.timesteps.tobytes(), guided, scale, rescale)  # fmt: skip
        if key not in self._compiled:  # one at a time: each is a program of its own
            self._compiled = {key: keras.jit(step, variables)}
        step, shape = self._compiled[key], tuple(x.shape[1:])
        for call in range(len(plan)):
            noise = self._noise(seeds, call + 1, shape) if plan.needs_noise else None
            x, state = step(ops.convert_to_tensor(np.int32(call)), x, state, context, noise)
            if callback is not None:
                callback(call, len(plan), x)
            bar.update(call + 1)
        return x

    def _image(self, latents: Any) -> np.ndarray:
        latents = latents / self._scaling + (self.vae.config["shift_factor"] or 0.0)
        images = ops.convert_to_numpy(ops.cast(self.vae.decode(latents), "float32"))
        if not np.isfinite(images).all():
            raise ValueError(
                "The autoencoder gave numbers that are not finite, as it does in float16 with "
                "published weights: load it with dtype='bfloat16' or 'float32'."
            )
        return (np.clip(images / 2 + 0.5, 0, 1) * 255).round().astype("uint8")


def _guided(out: Any, scale: float, rescale: float) -> Any:
    unwanted, wanted = ops.split(out, 2, axis=0)
    mixed = unwanted + scale * (wanted - unwanted)
    if not rescale:
        return mixed
    spread, ours = (ops.std(x, axis=(1, 2, 3), keepdims=True) for x in (wanted, mixed))
    return mixed * (rescale * spread / ours + (1 - rescale))


def _loaded(files: PresetFiles, parts: Sequence[str], **how: Any) -> dict[str, Any]:
    """Parts of a pipeline out of its folders."""
    readers: dict[str, Callable[[PresetFiles], Any]] = {
        "text_encoder": lambda below: CLIPTextEncoder.from_preset(below, **how),
        "tokenizer": CLIPTokenizer.from_files,
        "unet": lambda below: UNet2DConditionModel.from_preset(below, **how),
        "vae": lambda below: AutoencoderKL.from_preset(below, **how),
        "scheduler": lambda below: Scheduler.from_config(below.json("scheduler_config.json")),
    }
    return {part: readers[part](files.folder(part)) for part in parts}
