"""Backbone: a network without a head."""

from typing import Any, Self

import keraslite as keras
from hub.presets.build import find_checkpoint, load
from hub.presets.save import save_backbone


class Backbone(keras.Model):
    """A network without a head, from arguments or a preset."""

    family: str

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
            kwargs: arguments of the backbone, in place of the preset's.

        Raises:
            ValueError: the preset is unknown or of another class, or its files do not fit.
        """
        checkpoint = find_checkpoint(preset, backbone=cls, revision=revision, token=token)
        family = checkpoint.family
        if not issubclass(family.backbone, cls):
            raise ValueError(
                f"{preset!r} is a {family.model_type} checkpoint: use {family.backbone.__name__}, "
                f"not {cls.__name__}."
            )
        model, _ = load(
            checkpoint, overrides=kwargs, backend=backend, dtype=dtype, load_weights=load_weights,
            variant=variant,
        )  # fmt: skip
        return model

    def save_to_preset(self, preset_dir: Any) -> None:
        """Write config and weights in the layout of transformers or diffusers.

        Args:
            preset_dir: a folder; it is created if it does not exist.
        """
        save_backbone(self, preset_dir)
