"""ZeroShotImageClassifier: classes of images, named by texts (Radford et al., 2021,
arXiv:2103.00020).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import keraslite as keras
from hub.models.clip_towers import unit_vectors
from hub.preprocessing.image import ImagePreprocessor, ImageTextPreprocessor
from hub.preprocessing.image_inputs import list_images
from hub.preprocessing.text import TextPreprocessor
from hub.tasks.batches import padded, round_up
from hub.tasks.compiled import CompiledParts
from hub.tasks.exporting import network_parts
from hub.tasks.task import Task
from hub.tasks.text.text_task import text_preprocessor
from keraslite import ops
from keraslite.saving import replacing_folder
from keraslite.scopes import predictor_of
from keraslite.training import CompiledFunctions, inference

TEMPLATE = "a photo of a {}."
# By the method of the backbone the part that an engine runs, and the name of its input.
_PARTS = {
    "get_vision_embeddings": ("image", "images"),
    "get_text_embeddings": ("text", "token_ids"),
}
_AT_ONCE = 32  # images or texts


class ZeroShotImageClassifier(Task):
    """A backbone that compares images with texts, for classes that it was not trained on.

    Args:
        backbone: one with `get_vision_embeddings`, `get_text_embeddings` and `compare`.
        preprocessor: an `ImageTextPreprocessor`.

    Example:
        >>> import hub
        >>> model = hub.ZeroShotImageClassifier.from_preset(
        ...     "clip_vit_base_patch32")  # doctest: +SKIP
        >>> model.classify("cat.jpg", ["cat", "dog"])[0][0]["label"]  # doctest: +SKIP
        'cat'

        Without a checkpoint, on ready inputs:

        >>> import numpy as np
        >>> sizes = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
        >>> backbone = hub.CLIPBackbone(
        ...     {**sizes, "image_size": 8, "patch_size": 4}, {**sizes, "vocabulary_size": 9}, 6
        ... )
        >>> model = hub.ZeroShotImageClassifier(backbone)
        >>> images, ids = np.ones((2, 8, 8, 3), "float32"), np.ones((3, 5), "int32")
        >>> tuple(model({"images": images, "token_ids": ids}).shape)
        (2, 3)
    """

    task = "ZeroShotImageClassifier"
    family_aliases = ("ZeroShotClassifier",)
    pipeline = "zero-shot-image-classification"
    transformers_class = "AutoModelForZeroShotImageClassification"
    preprocessor_options = ("sequence_length",)
    command_options = {
        "--label": {"action": "append", "help": "a class to look for in images; repeatable"}
    }

    def __init__(self, backbone: Any, preprocessor: Any = None, **kwargs: Any):
        super().__init__(backbone, preprocessor, **kwargs)
        self._kl_encoder_functions = CompiledFunctions()
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return logits (images, texts)."""
        return self.backbone(inputs, training=training)["vision_logits"]

    @classmethod
    def make_preprocessor(
        cls, files: Any, family: Any, backbone: Any, sequence_length: int | None = None,
        **options: Any,
    ) -> Any:  # fmt: skip
        """Return the preprocessor of images and texts of a checkpoint.

        Args:
            files: of the checkpoint.
            family: of the backbone.
            backbone: the backbone.
            sequence_length: the most tokens of a text; what the checkpoint says by default.
            options: none.
        """
        text = text_preprocessor(TextPreprocessor, files, family, backbone, sequence_length)
        images = ImagePreprocessor.from_files(files)
        return ImageTextPreprocessor(text.tokenizer, images, text.sequence_length)

    def save_to_preset(self, preset_dir: Any) -> None:
        """Write weights, tokenizer, how images are prepared, and config as transformers reads them.

        Args:
            preset_dir: a folder, made if need be; `from_preset(preset_dir)` reads it again.
        """
        with replacing_folder(preset_dir) as folder:
            if self.preprocessor is not None:
                self.preprocessor.images.save(folder)
            super().save_to_preset(folder)

    # -- other programs -----------------------------------------------------------------------

    def export_parts(self) -> dict[str, Any]:
        """Return the two towers, whose vectors have length 1."""
        backbone = self.backbone
        inputs = backbone.export_inputs()[0]
        towers = {
            "image": (_image_vectors, backbone.vision_encoder, backbone.visual_projection),
            "text": (_text_vectors, backbone.text_encoder, backbone.text_projection),
        }
        return network_parts(
            self,
            {
                name: (
                    function, {"encoder": encoder, "projection": projection},
                    {k: x for k, x in inputs.items() if (k == "images") == (name == "image")},
                )
                for name, (function, encoder, projection) in towers.items()
            },
        )  # fmt: skip

    def export_answers(self) -> dict[str, Any]:
        """Return the scale of the products of vectors, of which the logits are."""
        return {"logit_scale": float(np.exp(self.backbone.logit_scale.numpy())),
                "template": TEMPLATE}  # fmt: skip

    def compiled_for(self, engine: str, precision: str = "float32", **kwargs: Any) -> Any:
        """Return a predictor that runs both towers on another engine, on the CPU.

        Args:
            engine: as for `Model.compiled_for`.
            precision: as for `Model.compiled_for`.
            kwargs: nothing: `input_signature` must be None.
        """
        return CompiledParts(self, engine, precision, **kwargs)

    # -- answers ------------------------------------------------------------------------------

    def predict(
        self,
        images: Any,
        labels: Sequence[str] | np.ndarray | None = None,
        template: str | Sequence[str] = TEMPLATE,
        batch_size: int = _AT_ONCE,
        verbose: str | int = "auto",
    ) -> np.ndarray:
        """Return probabilities (images, labels).

        Args:
            images: paths, images of Pillow's or arrays, as `hub.ImagePreprocessor` takes them.
            labels: names of classes; or vectors that `encode_labels` gave.
            template: the text of a label, which stands for the braces. Of several texts the mean of
                the vectors counts.
            batch_size: the most images at once.
            verbose: 0 silent, 1 a progress bar.

        Raises:
            TypeError: labels are a single text, or images have no supported form.
            ValueError: there are no labels or images, or a template has no braces.
        """
        vectors = self.encode_labels(labels, template) if _is_named(labels) else labels
        width = self.backbone.projection_dim
        if getattr(vectors, "ndim", None) != 2 or not len(vectors) or vectors.shape[1] != width:
            raise ValueError(
                f"labels must be names of classes, or vectors (labels, {width}) of them; got "
                f"{type(labels).__name__} of shape {getattr(labels, 'shape', None)}."
            )
        logits = self._compared(self.encode_images(images, batch_size, verbose), vectors)
        shifted = np.exp(logits - logits.max(-1, keepdims=True))
        return shifted / shifted.sum(-1, keepdims=True)

    def classify(
        self,
        images: Any,
        labels: Sequence[str],
        template: str | Sequence[str] = TEMPLATE,
        top_k: int | None = None,
        batch_size: int = _AT_ONCE,
        verbose: str | int = 0,
    ) -> list[list[dict[str, Any]]]:
        """Return the labels of each image, as dicts of `label` and `score`, best first.

        Args:
            images: as for `predict`.
            labels: names of classes.
            template: as for `predict`.
            top_k: how many labels of each image; all by default.
            batch_size: as for `predict`.
            verbose: as for `predict`.

        Raises:
            TypeError: labels are no texts, or images have no supported form.
            ValueError: as of `predict`.
        """
        if not _is_named(labels):
            raise TypeError(f"labels must be names of classes, got {type(labels).__name__}.")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k must be positive, got {top_k}.")
        names = list(labels)
        scores = self.predict(images, names, template, batch_size, verbose)
        order = np.argsort(-scores, axis=-1, kind="stable")[:, :top_k]
        return [
            [{"label": names[i], "score": float(row[i])} for i in best]
            for row, best in zip(scores, order, strict=True)
        ]

    def encode_images(
        self, images: Any, batch_size: int = _AT_ONCE, verbose: str | int = 0
    ) -> np.ndarray:
        """Return vectors (images, projection_dim) of length 1.

        Args:
            images: as for `predict`.
            batch_size: as for `predict`.
            verbose: as for `predict`.

        Raises:
            ValueError: there is no preprocessor, or as of `predict`.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be positive, got {batch_size}.")
        preprocessor = self._required_preprocessor()
        images = list_images(images)
        bar = None
        if verbose not in (0, False) and len(images) > _AT_ONCE:
            bar = keras.utils.Progbar(len(images), unit_name="image")
        vectors = []
        for start in range(0, len(images), batch_size):
            # One by one, so that a bad image is named by its number among all.
            rows = [
                preprocessor.images.pixels(image, f"Image {start + i}")
                for i, image in enumerate(images[start : start + batch_size])
            ]
            batch = np.stack(rows)
            vectors.append(self._encoded("get_vision_embeddings", batch, len(images), batch_size))
            if bar is not None:
                bar.update(start + len(rows))
        return np.concatenate(vectors)

    def encode_labels(
        self, labels: Sequence[str], template: str | Sequence[str] = TEMPLATE
    ) -> np.ndarray:
        """Return vectors (labels, projection_dim) of length 1, which `predict` takes for names.

        Args:
            labels: as for `predict`.
            template: as for `predict`.

        Raises:
            TypeError: labels are a single text, or no texts.
            ValueError: there are no labels, or a template has no braces.
        """
        templates = [template] if isinstance(template, str) else list(template)
        wrong = [t for t in templates if not isinstance(t, str) or "{}" not in t]
        if wrong or not templates:
            raise ValueError(f"A template is a text with {{}} for the label, got {template!r}.")
        names = [None] if isinstance(labels, str) or labels is None else list(labels)
        if not all(isinstance(name, str) for name in names):
            raise TypeError(f"labels must be a list of names of classes, got {labels!r:.80}.")
        if not names:
            raise ValueError("There are no labels.")
        vectors = self._texts([t.replace("{}", name) for name in names for t in templates])
        return _unit(vectors.reshape(len(names), len(templates), -1).mean(1))

    # -- the command line ---------------------------------------------------------------------

    def answers(self, inputs: list[str], options: Any) -> list[dict[str, Any]]:
        """Return the likeliest label and the probabilities of each image."""
        if not options.label:
            raise ValueError("say what the images may show: --label cat --label dog ...")
        return [
            {"label": best[0]["label"], "scores": {d["label"]: round(d["score"], 6) for d in best}}
            for best in self.classify(inputs, options.label)
        ]

    def workload(self, count: int) -> tuple[Any, int, str]:
        """Return the encoding of images, their number, and the unit.

        Args:
            count: the number of images.
        """
        pixels = np.random.default_rng(0).integers(0, 256, (count, 256, 256, 3), "uint8")
        images = list(pixels)
        return lambda: self.encode_images(images), count, "images"

    # -- inside -------------------------------------------------------------------------------

    def _required_preprocessor(self) -> Any:
        if self.preprocessor is None:
            raise ValueError(
                f"{type(self).__name__} has no preprocessor: give it a hub.ImageTextPreprocessor."
            )
        return self.preprocessor

    def _texts(self, texts: list[str]) -> np.ndarray:
        preprocessor, vectors = self._required_preprocessor(), []
        encodings = preprocessor.encode(texts)
        for start in range(0, len(encodings), _AT_ONCE):
            packed = preprocessor.pack(encodings[start : start + _AT_ONCE])
            vectors.append(
                self._encoded("get_text_embeddings", packed["token_ids"], len(texts), _AT_ONCE)
            )
        return np.concatenate(vectors)

    def _encoded(self, method: str, rows: np.ndarray, total: int, batch_size: int) -> np.ndarray:
        """Return vectors of length 1 of a batch out of `total` rows, in batches of one size."""
        count = len(rows)
        predictor = predictor_of(self)
        if predictor is not None:
            name, key = _PARTS[method]
            inputs = {key: rows}
            return _unit(next(iter(predictor.run(name, inputs).values())))
        if keras.backend.compiles(self.backend):
            size = batch_size if total > batch_size else min(round_up(count), batch_size)
            rows = padded({"": rows}, size)[""]
        with inference(self.backend):
            out = self._kl_encoder_functions.run(
                self.backbone, getattr(self.backbone, method), rows
            )
            return _unit(ops.convert_to_numpy(ops.cast(out, "float32"))[:count])

    def _compared(self, images: np.ndarray, texts: Any) -> np.ndarray:
        with inference(self.backend):
            images, texts = (
                ops.cast(ops.convert_to_tensor(vectors), "float32") for vectors in (images, texts)
            )
            return ops.convert_to_numpy(self.backbone.compare(images, texts))


def _image_vectors(parts: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    pooled = parts["encoder"](inputs["images"])["pooled_output"]
    return {"image_embeddings": unit_vectors(parts["projection"](pooled))}


def _text_vectors(parts: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    pooled = parts["encoder"](inputs)["pooled_output"]
    return {"text_embeddings": unit_vectors(parts["projection"](pooled))}


def _is_named(labels: Any) -> bool:
    """Return whether labels are names to be encoded, rather than vectors."""
    return not hasattr(labels, "ndim") or (
        isinstance(labels, np.ndarray) and labels.dtype.kind in "USO"
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
