"""Backbone: a network without a head."""

from typing import Any

import keraslite as keras


class Backbone(keras.Model):
    """A network without a head, made from a config or a preset."""

    family: str

    @classmethod
    def from_preset(cls, preset: Any, **kwargs: Any) -> "Backbone":
        """The backbone of a preset with its weights.

        Args:
            preset: a built-in name, `org/repo`, `hf://org/repo@revision`, or a folder.
            kwargs: `backend`, `dtype`, `load_weights`, `revision`, `token`, `variant` (such as
                "fp16", of weights that lie in several), and arguments of the backbone that are to
                differ from the preset's.
        """
        from hub.presets.build import load_backbone

        return load_backbone(cls, preset, **kwargs)

    def save_to_preset(self, preset_dir: Any) -> None:
        """Write config and weights as transformers reads them.

        Args:
            preset_dir: a folder, made if need be.
        """
        from hub.presets.build import save_backbone

        save_backbone(self, preset_dir)
