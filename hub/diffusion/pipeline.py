"""The Stable Diffusion pipeline: text to context, noise to latents, latents to image (Rombach et
al., 2022, arXiv:2112.10752).

A seed belongs to an image, so that an image depends neither on its batch nor on the backend.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

import keraslite as keras
from hub.diffusion import lora as lora_files
from hub.diffusion.batches import run_in_batches
from hub.diffusion.denoising import Denoiser, noise
from hub.diffusion.latents import LatentCodec, to_uint8
from hub.diffusion.parts import DiffusionParts
from hub.diffusion.prompts import apply_weights, chunk_prompt, repeat_to_same_length
from hub.diffusion.training import NoisePrediction, images_and_prompts, training_inputs
from hub.preprocessing.image_inputs import load_images, load_masks
from keraslite import ops
from keraslite.training import CompiledFunctions, inference

_OUTPUTS = ("image", "float", "pil", "latent")


class StableDiffusionPipeline(DiffusionParts):
    """A pipeline that generates images with the networks of Stable Diffusion.

    Args:
        args: sizes and parts, as for `DiffusionParts`.
        jit_compile: whether a step is compiled: "auto" on jax and tensorflow, True also on torch
            (by torch.compile, which needs a compiler and minutes), False never.
        kwargs: as `args`.

    Example:
        >>> model = StableDiffusionPipeline.from_preset("./pipeline")  # doctest: +SKIP
        >>> context = model.encode_text("an astronaut riding a horse")  # doctest: +SKIP
        >>> model.generate_image(context, batch_size=2).shape  # doctest: +SKIP
        (2, 512, 512, 3)
    """

    def __init__(self, *args: Any, jit_compile: bool | str = "auto", **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.jit_compile = jit_compile
        self._codec = LatentCodec(self.vae)
        self._denoiser = Denoiser(jit_compile)
        self._encoder_functions = CompiledFunctions()
        self._checker_functions = CompiledFunctions()
        self._training: NoisePrediction | None = None

    # -- adapters -----------------------------------------------------------------------------

    def load_lora(
        self, lora: Any, scale: float = 1.0, fuse: bool = False, **kwargs: Any
    ) -> list[str]:
        """Put the LoRA of a file of diffusers or kohya's trainer beside the weights.

        Args:
            lora: a file, a folder with pytorch_lora_weights.safetensors, `org/repo`,
                `org/repo/file.safetensors`, or `hf://org/repo@revision/file.safetensors`.
            scale: a factor of its alpha.
            fuse: whether it is added to the weights, for good; so several can be combined.
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
        changed = lora_files.load_lora(self, lora, scale, fuse, **kwargs)
        self._training = None  # its optimizer is for other weights
        return changed

    def enable_lora(
        self, rank: int, alpha: float | None = None, targets: Sequence[str] | None = None
    ) -> list[str]:
        """Freeze the U-Net but for a low-rank update of some of its layers, which `fit` trains.

        Args:
            rank: the size that the two matrices of an update have in common.
            alpha: the update is scaled by `alpha / rank`; the rank by default.
            targets: ends of the layers' names in diffusers; the projections of all attention by
                default.

        Returns:
            The layers that are changed, as diffusers calls them.

        Raises:
            ValueError: nothing has such a name, or there is a LoRA already.
        """
        targets = lora_files.ATTENTION if targets is None else targets
        changed = lora_files.enable_lora(self, rank, alpha, targets)
        self._training = None  # its optimizer is for other weights
        return changed

    def unload_lora(self) -> None:
        """Take the LoRA away again.

        Raises:
            ValueError: there is none, perhaps because it was fused.
        """
        lora_files.unload_lora(self)
        self._training = None  # its optimizer is for other weights

    def save_lora(self, folder: Any) -> None:
        """Write the LoRA as diffusers opens it, with the scale in its alpha.

        Args:
            folder: made if need be; gets pytorch_lora_weights.safetensors.

        Raises:
            ValueError: there is none.
            OSError: the file cannot be written; what was there stays as it was.
        """
        lora_files.save_lora(self, folder)

    # -- images -------------------------------------------------------------------------------

    def encode_text(
        self, prompt: str | Sequence[str], weighted: bool = False, max_pieces: int | None = None
    ) -> Any:
        """Return the contexts of texts: (texts, length, width).

        A text that is longer than the encoder's positions is encoded in pieces.

        Args:
            prompt: a text or several.
            weighted: whether brackets in it are weights: `(more)`, `[less]`, `(1.3 times:1.3)`.
            max_pieces: the number of pieces after which a text is cut off; 1 as in diffusers, None
                for no limit.

        Raises:
            ValueError: `max_pieces` is not positive.
        """
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        length = self.text_encoder.max_sequence_length
        chunks = [
            chunk_prompt(self.tokenizer, text, length, weighted, max_pieces) for text in texts
        ]
        ids, weights = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
        with self._context():
            hidden = run_in_batches(self._encoder_functions, self.text_encoder, self._hidden, ids)
            hidden = apply_weights(hidden, weights)
            ends = np.cumsum([len(text_ids) for text_ids, _ in chunks])[:-1]
            contexts = [
                ops.reshape(part, (1, -1, part.shape[-1]))
                for part in ops.split(hidden, ends.tolist(), axis=0)
            ]
            return ops.concatenate(repeat_to_same_length(contexts), axis=0)

    def draw(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        batch_size: int = 1,
        image: Any = None,
        weighted: bool = False,
        max_pieces: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Generate images of texts.

        Args:
            prompt: a text for all images, or one for each.
            negative_prompt: what the images should not show, likewise; nothing by default.
            batch_size: how many images, where neither texts nor images are several.
            image: to begin with, or one for each, as for `generate_image`.
            weighted: whether brackets in texts are weights, as for `encode_text`.
            max_pieces: the number of pieces after which texts are cut off, likewise.
            kwargs: as for `generate_image`.

        Raises:
            ValueError: numbers of prompts, images and seeds differ.
        """
        prompt = prompt if isinstance(prompt, str) else list(prompt)
        if not isinstance(negative_prompt, str | None) and not hasattr(negative_prompt, "shape"):
            negative_prompt = list(negative_prompt)
        inputs = {"prompts": prompt, "negative prompts": negative_prompt, "images": image}
        counts = {
            name: len(values) for name, values in inputs.items()
            if isinstance(values, list | tuple) or getattr(values, "ndim", 0) == 4
        }  # fmt: skip
        if batch_size == 1 and counts:
            batch_size = max(counts.values())
        for name, count in counts.items():
            if count not in (1, batch_size):
                raise ValueError(f"There are {count} {name} for {batch_size} images.")
        return self.generate_image(
            self.encode_text(prompt, weighted, max_pieces), negative_prompt, batch_size,
            image=image, weighted=weighted, max_pieces=max_pieces, **kwargs,
        )  # fmt: skip

    def generate_image(
        self,
        encoded_text: Any,
        negative_prompt: Any = None,
        batch_size: int = 1,
        num_steps: int = 50,
        unconditional_guidance_scale: float = 7.5,
        diffusion_noise: Any = None,
        seed: int | Sequence[int] | None = None,
        guidance_rescale: float = 0.0,
        image: Any = None,
        mask: Any = None,
        strength: float = 1.0,
        weighted: bool = False,
        max_pieces: int | None = None,
        callback: Callable[[int, int, Any], None] | None = None,
        verbose: int | str = "auto",
        output: str = "image",
    ) -> Any:
        """Generate images of a context that `encode_text` returned.

        Args:
            encoded_text: (length, width), (1, length, width), or one for each image.
            negative_prompt: what the images should not show, one text or one for each, or a context
                of such texts that `encode_text` returned; nothing by default.
            batch_size: how many images.
            num_steps: the number of denoising steps; more take longer and look better.
            unconditional_guidance_scale: the scale of classifier-free guidance; none up to 1.
            diffusion_noise: (batch, height / 8, width / 8, 4), in place of the seed's.
            seed: of the first image; the next ones have the seeds that follow. A list has one for
                each. An image does not depend on its batch.
            guidance_rescale: how much of the contrast that guidance adds is taken back (Lin et al.,
                2023, arXiv:2305.08891).
            image: an image to start from, one or one for each: (height, width, 3) of uint8 or of
                floats from 0 to 1, an image of Pillow's, or a path.
            mask: the part of that image to inpaint, likewise: 1, True or white there.
            strength: how far the new image may be from that one, above 0 and up to 1.
            weighted: whether brackets in the negative prompt are weights.
            max_pieces: the number of pieces after which the negative prompt is cut off.
            callback: called with each step's number, the number of steps, and the latents, of which
                `preview(latents)` makes images.
            verbose: 1 for a progress bar; 0 for nothing; by default a line says what is compiled,
                which takes a while where the backend compiles.
            output: "image" for an array (batch, height, width, 3) of uint8, "float" for one of
                float32 from 0 to 1, "pil" for a list of Pillow's images, "latent" for the latents.

        Returns:
            The images; with a safety checker (images, flags), where flags are as of
            `check_safety` and the images are as without one. Latents never have flags.

        Raises:
            ValueError: shapes do not fit, or there is no such output.
        """
        if output not in _OUTPUTS:
            raise ValueError(f"output must be one of {list(_OUTPUTS)}, got {output!r}.")
        plan, scale = self.scheduler.plan(num_steps, strength), float(unconditional_guidance_scale)
        with self._context():
            context = self._for_each(encoded_text, batch_size)
            if scale > 1.0:
                negative = negative_prompt
                if not hasattr(negative, "shape"):
                    negative = self.encode_text(negative or "", weighted, max_pieces)
                both = [self._for_each(negative, batch_size), context]
                context = ops.concatenate(repeat_to_same_length(both), axis=0)
            seeds = ops.convert_to_tensor(self._seeds(seed, batch_size))
            size = (self.img_height, self.img_width)
            if image is not None:
                image = load_images(image, batch_size)
                size = image.shape[1:3]
            shape = (*(n // self.vae.factor for n in size), self.vae.latent_channels)
            first = self._first_noise(diffusion_noise, seeds, shape)
            x = first * float(plan.init_noise_sigma)
            latents = None
            if image is not None and (mask is None or strength < 1):
                latents = self._codec.encode(image, seeds)
                x = plan.add_noise(latents, first)
            conditions = {"context": context, "seeds": seeds}
            conditions |= self._mask_conditions(image, mask, latents, seeds, first)
            scheduler = (self.scheduler.name, repr(self.scheduler.config))
            x = self._denoiser(
                self.unet, plan, scheduler, x, conditions, scale, guidance_rescale, callback,
                verbose,
            )  # fmt: skip
            if output == "latent":
                return ops.convert_to_numpy(x)
            pixels = self._codec.decode_floats(x)
        images = to_uint8(pixels)
        result = pixels if output == "float" else images
        if output == "pil":
            result = [Image.fromarray(image) for image in images]
        return result if self.safety_checker is None else (result, self.check_safety(images))

    def preview(self, latents: Any) -> np.ndarray:
        """Decode latents to images of uint8.

        Args:
            latents: as a callback gets them.
        """
        with self._context():
            return self._codec.decode(latents)

    def check_safety(self, images: Any) -> np.ndarray:
        """Return which images the safety checker flags: (images,) of bool.

        Args:
            images: (images, height, width, 3) of uint8, or any that `ImagePreprocessor` takes.

        Raises:
            ValueError: the pipeline has no safety checker.
        """
        checker, preprocessor = self.safety_checker, self.feature_extractor
        if checker is None or preprocessor is None:
            raise ValueError(
                "There is no safety checker: load it with from_preset(..., safety_checker=True), "
                "or give one to the constructor."
            )
        with inference(checker.backend):
            pixels = preprocessor(images)
            outputs = run_in_batches(self._checker_functions, checker, checker.__call__, pixels)
            return ops.convert_to_numpy(outputs["flags"])

    # -- training -----------------------------------------------------------------------------

    def compile(self, optimizer: Any = "adamw", loss: Any = "mse", **kwargs: Any) -> None:
        """Say how `fit` trains.

        Args:
            optimizer: the optimizer of the network, or of its LoRA.
            loss: the loss of the prediction: noise, velocity or the sample, as the pipeline's
                current scheduler says.
            kwargs: as for `keraslite.Model.compile`.
        """
        with keras.backend.backend_scope(self.unet.backend):
            self._training = NoisePrediction(self.unet, self.scheduler, self._codec)
            self._training.compile(optimizer=optimizer, loss=loss, **kwargs)

    def fit(self, x: Any, y: Any = None, *, verbose: int = 1, **kwargs: Any) -> Any:
        """Train the U-Net, or its LoRA where there is one, on images and their texts.

        Images are cropped to the pipeline's height and width; they and the texts are encoded once,
        before the first epoch, and kept: about 0.4 MB a pair at 512 pixels.

        Args:
            x: images as `hub.ImagePreprocessor` takes them; or a dict of `images` and `prompts`.
            y: a text for each image, unless x is a dict.
            verbose: as for `keraslite.Model.fit`, for which the others are too.
            kwargs: `epochs`, `batch_size`, `callbacks`, `shuffle` ...

        Returns:
            The history of the losses.

        Raises:
            RuntimeError: `compile` was not called.
            ValueError: there are more or fewer texts than images.
        """
        if self._training is None:
            raise RuntimeError("Call compile(optimizer) before fit.")
        with self._context():
            inputs = training_inputs(self, self._codec, *images_and_prompts(x, y), verbose=verbose)
        return self._training.fit(inputs, verbose=verbose, **kwargs)

    # -- inside -------------------------------------------------------------------------------

    def _context(self) -> Any:
        return inference(self.unet.backend)

    def _hidden(self, ids: Any) -> Any:
        return self.text_encoder({"token_ids": ids})["sequence_output"]

    def _seeds(self, seed: int | Sequence[int] | None, count: int) -> np.ndarray:
        if seed is None:
            seed = keras.random.SeedGenerator().get_config()["seed"] % 2**31
        one = isinstance(seed, int | np.integer)
        seeds = [int(seed) + i for i in range(count)] if one else list(seed)
        if len(seeds) != count:
            raise ValueError(f"There are {len(seeds)} seeds for {count} images.")
        return np.array([keras.random.signed(value) for value in seeds], "int32")

    def _first_noise(self, diffusion_noise: Any, seeds: Any, shape: tuple[int, ...]) -> Any:
        if diffusion_noise is None:
            return noise(seeds, 0, shape)
        first = ops.cast(ops.convert_to_tensor(diffusion_noise), "float32")
        first = first[None] if len(first.shape) == 3 else first
        if tuple(first.shape) != (seeds.shape[0], *shape):
            raise ValueError(
                f"diffusion_noise has the shape {tuple(first.shape)}, expected "
                f"{(seeds.shape[0], *shape)}."
            )
        return first

    def _for_each(self, context: Any, count: int) -> Any:
        context = ops.convert_to_tensor(context)
        context = context[None] if len(context.shape) == 2 else context
        if context.shape[0] not in (1, count):
            raise ValueError(f"There are {context.shape[0]} texts for {count} images.")
        return ops.repeat(context, count, axis=0) if context.shape[0] != count else context

    def _mask_conditions(
        self, image: Any, mask: Any, latents: Any, seeds: Any, first_noise: Any
    ) -> dict[str, Any]:
        """Return the conditions of inpainting, by the network where it can, else by the loop."""
        inpaints = self.unet.config["in_channels"] != self.vae.latent_channels
        if inpaints and mask is None:
            raise ValueError("This network is for inpainting: give image and mask.")
        if mask is not None and image is None:
            raise ValueError("A mask needs an image, got mask without image.")
        if mask is None:
            return {}
        is_new = load_masks(mask, image.shape[:3])
        factor = self.vae.factor
        latent_mask = ops.convert_to_tensor(is_new[:, ::factor, ::factor])
        if inpaints:
            visible = self._codec.encode(image * (is_new < 0.5), seeds, -2)
            return {"extra_channels": ops.concatenate([latent_mask, visible], axis=-1)}
        latents = self._codec.encode(image, seeds) if latents is None else latents
        return {"mask": latent_mask, "image": latents, "noise": first_noise}
