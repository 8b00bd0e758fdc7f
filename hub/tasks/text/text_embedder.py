"""TextEmbedder: one vector a text (Reimers and Gurevych, 2019, arXiv:1908.10084)."""

import json
from typing import Any

import numpy as np

from hub.families import Family, Head, register_heads
from hub.files import write_json
from hub.tasks.text.text_task import TextTask
from keraslite import ops
from keraslite.saving import replacing_folder

POOLING = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


class TextEmbedder(TextTask):
    """A backbone whose outputs are pooled into one vector a text.

    Pooling, normalisation and the longest text come from the checkpoint where it has the files of
    a sentence-transformers model, so that the vectors are the published ones.

    Args:
        backbone: a text backbone with a `sequence_output`.
        preprocessor: what turns texts into inputs.
        pooling: "mean" over the tokens, or "cls", the first one.
        normalize: whether the vectors have length 1.

    Example:
        >>> import hub
        >>> model = hub.TextEmbedder.from_preset("minilm_l6_en")  # doctest: +SKIP
        >>> model.predict(["A small dog.", "A puppy."]).shape  # doctest: +SKIP
        (2, 384)

        Without a checkpoint, on ready inputs:

        >>> import numpy as np
        >>> backbone = hub.BertBackbone(9, 1, 2, hidden_dim=8, intermediate_dim=8)
        >>> ids = np.ones((2, 4), "int32")
        >>> inputs = {"token_ids": ids, "padding_mask": ids}
        >>> hub.TextEmbedder(backbone).predict(inputs, verbose=0).shape
        (2, 8)
    """

    task = "TextEmbedder"
    pipeline = "feature-extraction"
    adapter_type = "FEATURE_EXTRACTION"

    def __init__(
        self, backbone: Any, preprocessor: Any = None, pooling: str = "mean",
        normalize: bool = True, **kwargs: Any,
    ):  # fmt: skip
        super().__init__(backbone, preprocessor, **kwargs)
        if pooling not in POOLING.values():
            raise ValueError(f'pooling is "mean" or "cls", got {pooling!r}.')
        self.pooling, self.normalize = pooling, normalize
        self.built = True

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return vectors (batch, hidden_dim)."""
        hidden = self.backbone(inputs, training=training)["sequence_output"]
        hidden = ops.cast(hidden, "float32")
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            mask = ops.expand_dims(ops.cast(inputs["padding_mask"], "float32"), -1)
            pooled = ops.sum(hidden * mask, axis=1) / ops.maximum(ops.sum(mask, axis=1), 1e-9)
        return ops.normalize(pooled, axis=-1, order=2, epsilon=1e-12) if self.normalize else pooled

    @classmethod
    def checkpoint_arguments(cls, files: Any, config: dict) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        if "1_Pooling/config.json" in files:
            modes = files.json("1_Pooling/config.json")
            on = [k for k, v in modes.items() if k.startswith("pooling_mode_") and v is True]
            if len(on) != 1 or on[0] not in POOLING:
                raise ValueError(f"The pooling {on} of {files.location} is not supported.")
            arguments["pooling"] = POOLING[on[0]]
        if "modules.json" in files:
            types = [m.get("type", "") for m in json.loads(files.text("modules.json"))]
            arguments["normalize"] = any(t.endswith("Normalize") for t in types)
        return arguments

    @classmethod
    def make_preprocessor(
        cls, files: Any, family: Any, backbone: Any, sequence_length: int | None = None,
        **options: Any,
    ) -> Any:  # fmt: skip
        """Return the preprocessor, which cuts texts where sentence-transformers does.

        Args:
            files: of the checkpoint.
            family: of the backbone.
            backbone: the backbone.
            sequence_length: the most tokens of a text; what the checkpoint says by default.
            options: none.
        """
        if sequence_length is None and "sentence_bert_config.json" in files:
            sequence_length = files.json("sentence_bert_config.json").get("max_seq_length")
        return super().make_preprocessor(files, family, backbone, sequence_length)

    def save_to_preset(self, preset_dir: Any) -> None:
        """Write weights, tokenizer and config as transformers and sentence-transformers read them.

        Args:
            preset_dir: a folder, made if need be.
        """
        types = ["Transformer", "Pooling", *(["Normalize"] if self.normalize else [])]
        paths = ["", "1_Pooling", "2_Normalize"]
        modules = [
            {
                "idx": i,
                "name": str(i),
                "path": path,
                "type": f"sentence_transformers.models.{type_}",
            }
            for i, (type_, path) in enumerate(zip(types, paths, strict=False))
        ]
        modes = {key: pooling == self.pooling for key, pooling in POOLING.items()}
        files = {
            "modules.json": modules,
            "1_Pooling/config.json": {
                "word_embedding_dimension": self.backbone.hidden_dim,
                **modes,
            },
            "sentence_bert_config.json": {
                "max_seq_length": getattr(self.preprocessor, "sequence_length", None),
                "do_lower_case": False,
            },
        }
        with replacing_folder(preset_dir) as folder:
            super().save_to_preset(folder)
            for name, content in files.items():
                (folder / name).parent.mkdir(exist_ok=True)
                write_json(folder / name, content)

    def export_answers(self) -> dict[str, Any]:
        """Return how the vectors were made."""
        return {"pooling": self.pooling, "normalized": self.normalize}

    def answers(self, inputs: list[str], options: Any) -> list[dict[str, Any]]:
        """Return the vector of each text."""
        vectors = np.asarray(self.predict(inputs, verbose=0), "float64")
        return [{"vector": [round(v, 7) for v in row]} for row in vectors.tolist()]

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the task."""
        return {**super().get_config(), "pooling": self.pooling, "normalize": self.normalize}


def _head(family: Family) -> Head | None:
    """Return an empty head for the families that classify texts."""
    return Head() if "TextClassifier" in family.heads else None


register_heads(TextEmbedder.task, _head)
