"""Features of a FeatureSpace, and crosses of features."""

from collections.abc import Sequence
from typing import Any, Self

from keraslite import layers, ops
from keraslite.layers.preprocessing.data_layer import DataLayer
from keraslite.registry import (
    deserialize_keras_object,
    register_keras_serializable,
    serialize_keras_object,
)
from keraslite.utils.images import check_word


@register_keras_serializable("keras.utils")
class Cross:
    """Features whose combinations are hashed.

    Args:
        feature_names: the features.
        crossing_dim: the number of bins.
        output_mode: "int" or "one_hot".

    >>> Cross(("city", "age"), 32).name
    'city_X_age'
    """

    def __init__(
        self, feature_names: Sequence[str], crossing_dim: int, output_mode: str = "one_hot"
    ):
        check_word("output_mode", output_mode, ("int", "one_hot"))
        self.feature_names, self.crossing_dim = tuple(feature_names), crossing_dim
        self.output_mode = output_mode

    @property
    def name(self) -> str:
        """The name of what they give."""
        return "_X_".join(self.feature_names)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it again."""
        names = self.feature_names
        return {"feature_names": names, "crossing_dim": self.crossing_dim,
                "output_mode": self.output_mode}  # fmt: skip

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The cross of a config."""
        return cls(**config)


@register_keras_serializable("keras.utils")
class Feature:
    """A column: the dtype of its values, and what encodes them.

    Args:
        dtype: of the values.
        preprocessor: a layer.
        output_mode: "int", "one_hot" (of the integers that the layer gives) or "float".

    >>> Feature("float32", layers.Rescaling(0.5), "float").output_mode
    'float'
    """

    def __init__(self, dtype: str, preprocessor: Any, output_mode: str):
        check_word("output_mode", output_mode, ("int", "one_hot", "float"))
        self.dtype, self.output_mode = dtype, output_mode
        self.preprocessor = (
            deserialize_keras_object(preprocessor)
            if isinstance(preprocessor, dict)
            else preprocessor
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it again."""
        return {
            "dtype": self.dtype, "preprocessor": serialize_keras_object(self.preprocessor),
            "output_mode": self.output_mode,
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The feature of a config."""
        return cls(**config)


@register_keras_serializable("keras.utils")
class TFDIdentity(DataLayer):
    """Numbers as they are, in the layer's dtype; the name is that of Keras's files.

    >>> TFDIdentity()(np.array([[1]])).tolist()
    [[1.0]]
    """

    def __init__(self, **kwargs: Any):
        self.set_arguments(locals())

    def call(self, inputs: Any) -> Any:
        """Cast the inputs."""
        return ops.cast(ops.convert_to_tensor(inputs), self.compute_dtype)


def learns(layer: Any) -> bool:
    """Return whether a layer learns from data, and was not made with what it would learn."""
    if isinstance(layer, layers.Normalization):
        return layer.input_mean is None
    if isinstance(layer, layers.Discretization):
        return layer.num_bins is not None
    return hasattr(layer, "adapt") and not getattr(layer, "_has_input_vocabulary", False)


def categories(name: str, layer: Any) -> int:
    """Return the number of integers that a layer gives.

    Args:
        name: of the feature, for the error.
        layer: what encodes it.

    Raises:
        ValueError: it is not known.
    """
    if isinstance(layer, layers.StringLookup | layers.IntegerLookup):
        # Before a file's vocabulary is read, its config says the size.
        return max(layer.vocabulary_size(), layer.get_config()["vocabulary_size"] or 0)
    if isinstance(layer, layers.Discretization) and layer.num_bins is None:
        return len(layer.bin_boundaries) + 1
    if isinstance(layer, layers.Discretization | layers.Hashing | layers.HashedCrossing):
        return layer.num_bins
    raise ValueError(
        f"Feature {name!r} has output_mode='one_hot', but how many integers its layer "
        f"{type(layer).__name__} gives is not known: give it output_mode='int' or 'float'."
    )
