"""Backbone: a network without a head."""

from collections.abc import Mapping
from typing import Any, Self

import keraslite as keras
from hub.models.inputs import ONE_SEQUENCE, check_ids, check_no_text, named_inputs
from hub.presets.build import find_checkpoint, load
from hub.presets.save import save_backbone
from keraslite.registry import public_class


class Backbone(keras.Model):
    """A network without a head, from arguments or a preset.

    Attributes:
        family: the model type of its checkpoints.
        input_names: names that transformers gives its inputs -> ours.
        vocabulary_size: the number of token embeddings; None without any.
        num_segments: the number of segment embeddings; 0 without any.
    """

    family: str
    input_names: Mapping[str, str] = ONE_SEQUENCE
    vocabulary_size: int | None = None
    num_segments = 0

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the outputs.

        Args:
            inputs: arrays or tensors, under our names or those of transformers.
            args: further arguments of `call`.
            kwargs: further arguments of `call`, such as `training`.

        Raises:
            TypeError: the inputs are texts.
            ValueError: an id in an array is out of the range of its embedding.
        """
        check_no_text(self, inputs)
        inputs = named_inputs(inputs, self.input_names)
        check_ids(inputs, self.vocabulary_size, self.num_segments)
        return super().__call__(inputs, *args, **kwargs)

    def check_batch(self, batch: tuple) -> None:
        """Raise ValueError if an id in a batch has no embedding.

        Args:
            batch: (x, y, sample_weight).
        """
        inputs = named_inputs(batch[0], self.input_names)
        check_ids(inputs, self.vocabulary_size, self.num_segments)
        super().check_batch(batch)

    @classmethod
    def from_preset(
        cls,
        preset: Any,
        *,
        backend: str | None = None,
        dtype: Any = None,
        load_weights: bool = True,
        revision: str | None = None,
        token: str | bool | None = None,
        variant: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load the backbone of a preset.

        Args:
            preset: a built-in name, `org/repo`, `hf://org/repo@revision/subfolder`, or a folder.
            backend: the backend of the model; the current one by default.
            dtype: a dtype or policy.
            load_weights: whether to load the weights; without, they are initialized.
            revision: a branch, tag or commit of the repository.
            token: a token for the Hub.
            variant: which of several files of weights in a folder, such as "fp16".
            kwargs: arguments of the backbone, in place of the preset's; a smaller `num_layers`
                takes the first layers of the checkpoint.

        Raises:
            ValueError: the preset is unknown or of another class, or its files do not fit.
        """
        public = public_class(cls)  # of the class of a model, which is derived for its backend
        checkpoint = find_checkpoint(
            preset, lambda family: issubclass(family.backbone, public),
            revision=revision, token=token,
        )  # fmt: skip
        family = checkpoint.family
        if not issubclass(family.backbone, public):
            raise ValueError(
                f"{preset!r} is a {family.model_type} checkpoint: use {family.backbone.__name__}, "
                f"not {cls.__name__}."
            )
        model, _ = load(
            checkpoint, overrides=kwargs, backend=backend, dtype=dtype, load_weights=load_weights,
            variant=variant,
        )  # fmt: skip
        return model

    def hidden_states(self, inputs: Any) -> Any:
        """Return the hidden states of every layer, as `output_hidden_states` of transformers.

        Args:
            inputs: as for a call.

        Returns:
            A list of (batch, length, hidden_dim): the embeddings, and the output of each block; the
            last is normalised where transformers' is, and raw in CLIP. Of an encoder with a decoder
            a dict of two such lists, `encoder` and `decoder`.

        >>> from hub import BertBackbone
        >>> model = BertBackbone(9, num_layers=2, num_heads=2, hidden_dim=8, intermediate_dim=8)
        >>> len(model.hidden_states({"token_ids": np.ones((1, 3), "int32")}))
        3
        """
        out = self(inputs, output_hidden_states=True)
        return out["hidden_states"]

    def symbolic_inputs(self) -> list[Any]:
        """Return symbolic inputs of `call`, of two sizes; none of a network that reads no text."""
        if self.vocabulary_size is None:
            return []
        names = [n for n in self.input_names.values() if n != "segment_ids" or self.num_segments]
        sizes = ((2, 4), (3, 5))
        return [{name: keras.KerasTensor(size, "int32") for name in names} for size in sizes]

    def save_to_preset(self, preset_dir: Any) -> None:
        """Write config and weights in the layout of transformers or diffusers.

        Args:
            preset_dir: a folder; it is created if it does not exist.
        """
        save_backbone(self, preset_dir)
