"""TextEmbedder: one vector a text (Reimers and Gurevych, 2019, arXiv:1908.10084)."""

import json
import os
from pathlib import Path
from typing import Any

from hub.presets.build import write_json
from hub.tasks.task import Task
from keraslite import ops

POOLING = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


class TextEmbedder(Task):
    """A backbone whose outputs are pooled into one vector a text.

    Pooling, normalisation and the longest text come from the checkpoint where it has the files of
    a sentence-transformers model, so that the vectors are the published ones.

    Args:
        backbone: a text backbone with a `sequence_output`.
        preprocessor: what turns texts into inputs.
        pooling: "mean" over the tokens, or "cls", the first one.
        normalize: whether the vectors have length 1.
    """

    task = "TextEmbedder"
    needs_pooler = False

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
        """Vectors (batch, hidden_dim)."""
        hidden = self.backbone(inputs, training=training)["sequence_output"]
        hidden = ops.cast(hidden, "float32")
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            mask = ops.expand_dims(ops.cast(inputs["padding_mask"], "float32"), -1)
            pooled = ops.sum(hidden * mask, axis=1) / ops.maximum(ops.sum(mask, axis=1), 1e-9)
        return ops.normalize(pooled, axis=-1, order=2, epsilon=1e-12) if self.normalize else pooled

    @classmethod
    def _from_files(cls, files: Any, config: dict) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if "1_Pooling/config.json" in files:
            modes = files.json("1_Pooling/config.json")
            on = [k for k, v in modes.items() if k.startswith("pooling_mode_") and v is True]
            if len(on) != 1 or on[0] not in POOLING:
                raise ValueError(f"The pooling {on} of {files.location} is not supported.")
            found["pooling"] = POOLING[on[0]]
        if "modules.json" in files:
            kinds = [m.get("type", "") for m in json.loads(files.text("modules.json"))]
            found["normalize"] = any(k.endswith("Normalize") for k in kinds)
        return found

    @classmethod
    def _preprocessor(cls, files: Any, family: Any, length: int | None, backbone: Any) -> Any:
        if length is None and "sentence_bert_config.json" in files:
            length = files.json("sentence_bert_config.json").get("max_seq_length")
        return super()._preprocessor(files, family, length, backbone)

    def save_to_preset(self, preset_dir: Any) -> None:
        """Write weights, tokenizer and config as transformers and sentence-transformers read them.

        Args:
            preset_dir: a folder, made if need be.
        """
        super().save_to_preset(preset_dir)
        kinds = ["Transformer", "Pooling", *(["Normalize"] if self.normalize else [])]
        paths = ["", "1_Pooling", "2_Normalize"]
        modules = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (kind, path) in enumerate(zip(kinds, paths, strict=False))
        ]
        modes = {key: kind == self.pooling for key, kind in POOLING.items()}
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
        folder = Path(os.fspath(preset_dir))
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            write_json(folder / name, content)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the task again."""
        return {**super().get_config(), "pooling": self.pooling, "normalize": self.normalize}


BertTextEmbedder = TextEmbedder.over("bert", "BertTextEmbedder")
RobertaTextEmbedder = TextEmbedder.over("roberta", "RobertaTextEmbedder")
XLMRobertaTextEmbedder = TextEmbedder.over("xlm-roberta", "XLMRobertaTextEmbedder")
DistilBertTextEmbedder = TextEmbedder.over("distilbert", "DistilBertTextEmbedder")
ElectraTextEmbedder = TextEmbedder.over("electra", "ElectraTextEmbedder")
AlbertTextEmbedder = TextEmbedder.over("albert", "AlbertTextEmbedder")
T5TextEmbedder = TextEmbedder.over("t5", "T5TextEmbedder")
