"""FeatureSpace: the columns of a table as one vector, or as encoded features."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from keraslite import backend as backends
from keraslite import config as settings
from keraslite import layers, ops
from keraslite.naming import auto_name
from keraslite.registry import (
    deserialize_keras_object,
    register_keras_serializable,
    serialize_keras_object,
)
from keraslite.saving.model_file import save_model
from keraslite.scopes import scopes
from keraslite.utils.columns import ROWS, column_batches, column_of, columns_of, on_host, rank_of
from keraslite.utils.features import Cross, Feature, TFDIdentity, categories, learns
from keraslite.utils.images import check_word


@register_keras_serializable("keras.utils")
class FeatureSpace(layers.Layer):
    """Encode the columns of a table: normalized, looked up, hashed, crossed.

    It is called with a dict of columns, in `tf.data.Dataset.map` too, or gives the inputs and the
    encoded features of a functional model.

    Args:
        features: by name what each is: a word, which is the name of one of the methods that make
            features, or what such a method returned.
        output_mode: "concat" for one vector, features in the order of their names and then crosses;
            "dict" for an array for each.
        crosses: pairs (or more) of names of features whose combinations are hashed, or what `cross`
            returned.
        crossing_dim: the number of bins of crosses.
        hashing_dim: the number of bins of "integer_hashed" and "string_hashed".
        num_discretization_bins: the number of bins of "float_discretized".
        name: a name.

    Raises:
        ValueError: there is no feature, an unknown word, or a cross of unknown features.

    >>> table = {"age": [20.0, 40.0], "city": ["Rome", "Oslo"]}
    >>> space = FeatureSpace({"age": "float_normalized", "city": "string_categorical"})
    >>> space.adapt(table)
    >>> ops.convert_to_numpy(space(table)).tolist()
    [[-1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0]]
    """

    @classmethod
    def cross(
        cls, feature_names: Sequence[str], crossing_dim: int, output_mode: str = "one_hot"
    ) -> Cross:
        """Return features whose combinations are hashed into `crossing_dim` bins."""
        return Cross(feature_names, crossing_dim, output_mode)

    @classmethod
    def feature(cls, dtype: str, preprocessor: Any, output_mode: str) -> Feature:
        """Return a feature that a layer of one's own encodes."""
        return Feature(dtype, preprocessor, output_mode)

    @classmethod
    def float(cls, name: str | None = None) -> Feature:
        """Return numbers as they are."""
        layer = TFDIdentity(dtype="float32", name=_layer_name("float", name))
        return Feature("float32", layer, "float")

    @classmethod
    def float_rescaled(
        cls, scale: Any = 1.0, offset: Any = 0.0, name: str | None = None
    ) -> Feature:
        """Return numbers as `number * scale + offset`."""
        layer = layers.Rescaling(scale, offset, name=_layer_name("float_rescaled", name))
        return Feature("float32", layer, "float")

    @classmethod
    def float_normalized(cls, name: str | None = None) -> Feature:
        """Return numbers brought to mean 0 and variance 1."""
        layer = layers.Normalization(-1, name=_layer_name("float_normalized", name))
        return Feature("float32", layer, "float")

    @classmethod
    def float_discretized(
        cls, num_bins: int | None, bin_boundaries: Any = None, output_mode: str = "one_hot",
        name: str | None = None,
    ) -> Feature:  # fmt: skip
        """Return numbers as the bins that they fall in, of equal sizes or of given boundaries."""
        layer = layers.Discretization(
            num_bins=num_bins, bin_boundaries=bin_boundaries,
            name=_layer_name("float_discretized", name),
        )  # fmt: skip
        return Feature("float32", layer, output_mode)

    @classmethod
    def integer_categorical(
        cls, max_tokens: int | None = None, num_oov_indices: int = 1, output_mode: str = "one_hot",
        name: str | None = None,
    ) -> Feature:  # fmt: skip
        """Return integers as categories, the most frequent first."""
        layer = layers.IntegerLookup(
            max_tokens, num_oov_indices, name=_layer_name("integer_categorical", name)
        )
        return Feature("int32", layer, output_mode)

    @classmethod
    def string_categorical(
        cls, max_tokens: int | None = None, num_oov_indices: int = 1, output_mode: str = "one_hot",
        name: str | None = None,
    ) -> Feature:  # fmt: skip
        """Return words as categories, the most frequent first."""
        layer = layers.StringLookup(
            max_tokens, num_oov_indices, name=_layer_name("string_categorical", name)
        )
        return Feature("string", layer, output_mode)

    @classmethod
    def string_hashed(
        cls, num_bins: int, output_mode: str = "one_hot", name: str | None = None
    ) -> Feature:
        """Return words hashed into bins."""
        layer = layers.Hashing(num_bins, name=_layer_name("string_hashed", name))
        return Feature("string", layer, output_mode)

    @classmethod
    def integer_hashed(
        cls, num_bins: int, output_mode: str = "one_hot", name: str | None = None
    ) -> Feature:
        """Return integers hashed into bins."""
        layer = layers.Hashing(num_bins, name=_layer_name("integer_hashed", name))
        return Feature("int32", layer, output_mode)

    def __init__(
        self,
        features: Mapping[str, Any],
        output_mode: str = "concat",
        crosses: Sequence[Any] | None = None,
        crossing_dim: int = 32,
        hashing_dim: int = 32,
        num_discretization_bins: int = 32,
        name: str | None = None,
    ):
        super().__init__(name=name)
        if not features:
            raise ValueError("features must have one feature at least, got none.")
        check_word("output_mode", output_mode, ("concat", "dict"))
        self.output_mode, self.crossing_dim, self.hashing_dim = (
            output_mode, crossing_dim, hashing_dim
        )  # fmt: skip
        self.num_discretization_bins = num_discretization_bins
        self.features = {key: self._read_feature(key, value) for key, value in features.items()}
        self.crosses = [self._read_cross(x) for x in crosses or ()]
        self.inputs = {
            key: layers.Input((1,), dtype=feature.dtype, name=key)
            for key, feature in self.features.items()
        }
        self.preprocessors = {key: x.preprocessor for key, x in self.features.items()}
        self.crossers = {
            x.name: layers.HashedCrossing(x.crossing_dim, name=x.name) for x in self.crosses
        }
        self.one_hot_encoders: dict[str, Any] = {}
        self.encoded_features: Any = None
        self._is_adapted = not self._adaptable()

    def _read_feature(self, name: str, feature: Any) -> Feature:
        if isinstance(feature, dict):
            feature = deserialize_keras_object(feature)
        if isinstance(feature, Feature):
            return feature
        makers: dict[str, Callable[[], Feature]] = {
            "float": lambda: self.float(name),
            "float_normalized": lambda: self.float_normalized(name),
            "float_rescaled": lambda: self.float_rescaled(name=name),
            "float_discretized": lambda: self.float_discretized(
                self.num_discretization_bins, name=name
            ),
            "integer_categorical": lambda: self.integer_categorical(name=name),
            "string_categorical": lambda: self.string_categorical(name=name),
            "integer_hashed": lambda: self.integer_hashed(self.hashing_dim, name=name),
            "string_hashed": lambda: self.string_hashed(self.hashing_dim, name=name),
        }
        check_word(f"features[{name!r}]", feature, makers)
        return makers[feature]()

    def _read_cross(self, cross: Any) -> Cross:
        if isinstance(cross, dict):
            cross = deserialize_keras_object(cross)
        if not isinstance(cross, Cross):
            if not self.crossing_dim:
                raise ValueError("crosses need crossing_dim, the number of bins.")
            cross = Cross(cross, self.crossing_dim)
        if unknown := [name for name in cross.feature_names if name not in self.features]:
            raise ValueError(
                f"crosses must be of the features {list(self.features)}, got {unknown}."
            )
        return cross

    # -- learning -----------------------------------------------------------------------------

    def _adaptable(self) -> list[str]:
        """Return the features whose layers learn from data."""
        return [name for name, layer in self.preprocessors.items() if learns(layer)]

    def adapt(self, dataset: Any) -> None:
        """Learn what the features need, in one pass: means, boundaries, vocabularies.

        Args:
            dataset: a dict of columns or a DataFrame; or dicts of single rows or of batches: a
                `tf.data.Dataset`, a `DataLoader`, a generator. Of batches such as (x, y) x counts.

        Raises:
            ValueError: a column is missing, or there are no data.
            TypeError: the data are of another form.
        """
        learning = {name: self.preprocessors[name] for name in self._adaptable()}
        for layer in learning.values():
            layer.reset_state()
        for columns in column_batches(dataset):
            for name, layer in learning.items():
                column = on_host(column_of(columns, name))
                step = ROWS if isinstance(layer, layers.Discretization) else len(column)
                for start in range(0, len(column), max(step, 1)):
                    layer.update_state(column[start : start + step])
        for layer in learning.values():
            layer.finalize_state()
        self._is_adapted, self.encoded_features = True, None
        self._finish()

    def _finish(self) -> None:
        """Make the layers that depend on what was learned."""
        if not self._is_adapted:
            raise ValueError(
                f"{type(self).__name__} {self.name!r} must learn from data before it is used: call "
                "adapt(dataset)."
            )
        specs = {**self.features, **{cross.name: cross for cross in self.crosses}}
        for name, spec in specs.items():
            if spec.output_mode == "one_hot":
                layer = self.preprocessors.get(name) or self.crossers[name]
                self.one_hot_encoders[name] = layers.CategoryEncoding(categories(name, layer))
        self.built = True

    # -- calling ------------------------------------------------------------------------------

    def get_inputs(self) -> dict[str, Any]:
        """Return the inputs of a functional model, by the names of the features."""
        return self.inputs

    def get_encoded_features(self) -> Any:
        """Return the encoded features of a functional model: a KerasTensor, or a dict of them.

        Raises:
            ValueError: `adapt` was not called.
        """
        if self.encoded_features is None:
            self.encoded_features = self(self.inputs)
        return self.encoded_features

    def __call__(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.built:
            self._finish()
        columns = columns_of(data)
        if columns is None:
            raise ValueError(f"A FeatureSpace takes a dict of columns, got {type(data).__name__}.")
        is_row = all(rank_of(columns[name]) == 0 for name in self.features if name in columns)
        values = {name: column_of(columns, name) for name in self.features}
        outer = scopes.backend
        scopes.backend = (
            "tensorflow" if any(map(backends.in_graph, values.values())) else self.backend
        )
        try:
            outputs = self.call(values)
            if not is_row:
                return outputs
            if self.output_mode == "concat":
                return outputs[0]
            return {name: value[0] for name, value in outputs.items()}
        finally:
            scopes.backend = outer

    def call(self, inputs: Any) -> Any:
        """Encode columns (batch, 1), by name."""
        numbers = {name: layer(inputs[name]) for name, layer in self.preprocessors.items()}
        crossed = {
            cross.name: self.crossers[cross.name]([numbers[name] for name in cross.feature_names])
            for cross in self.crosses
        }
        outputs = {}
        for name, value in (*sorted(numbers.items()), *sorted(crossed.items())):
            encoder = self.one_hot_encoders.get(name)
            outputs[name] = value if encoder is None else encoder(value)
        if self.output_mode == "dict":
            return outputs
        for name, value in outputs.items():
            dtype = backends.standardize_dtype(value.dtype)
            if not dtype.startswith(("float", "bfloat")):
                raise ValueError(
                    f"Feature {name!r} is not encoded, it has the dtype {dtype!r}: give it "
                    "output_mode='one_hot', or the FeatureSpace output_mode='dict'."
                )
        floats = [ops.cast(value, settings.floatx()) for value in outputs.values()]
        return ops.concatenate(floats, axis=-1)

    # -- configs and files --------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """The arguments that make it again, with what was learned."""
        return {
            "features": serialize_keras_object(self.features), "output_mode": self.output_mode,
            "crosses": serialize_keras_object(self.crosses), "crossing_dim": self.crossing_dim,
            "hashing_dim": self.hashing_dim,
            "num_discretization_bins": self.num_discretization_bins,
        }  # fmt: skip

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The FeatureSpace of a config."""
        return cls(**config)

    def get_build_config(self) -> dict[str, Any]:
        """The build config of each preprocessing layer, by the name of its feature."""
        return {name: layer.get_build_config() for name, layer in self.preprocessors.items()}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Build the layers, which have learned."""
        for name, entry in config.items():
            if entry and not self.preprocessors[name].built:
                self.preprocessors[name].build_from_config(entry)
        self._is_adapted = True
        self._finish()

    def save(self, filepath: Any) -> None:
        """Save it in a file, which `keras.saving.load_model` reads.

        Args:
            filepath: the file, whose name ends with `.keras`.
        """
        save_model(self, filepath)


def _layer_name(prefix: str, name: str | None) -> str:
    return f"{name or auto_name(prefix)}_preprocessor"
