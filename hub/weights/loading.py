"""From checkpoints into models and back: strict and lazy loading, conversion one at a time."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np

import keraslite as keras
from hub.weights.storage import (
    AS_IS,
    CONV,
    CONV_TRANSPOSE,
    DENSE,
    DEPTHWISE,
    FLAT,
    Storage,
    einsum_dense,
)
from hub.weights.tables import (
    TensorMatch,
    WeightTable,
    check_shapes,
    match_tensors,
    name_tensors,
)
from keraslite import layers
from keraslite.layers.base.tracking import held_structure, weight_owners
from keraslite.saving import Pending


class Tensors(Protocol):
    """The tensors of a checkpoint by name, each read when it is asked for."""

    def __getitem__(self, name: str) -> np.ndarray: ...
    def __iter__(self) -> Iterator[str]: ...
    def __contains__(self, name: object) -> bool: ...
    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it."""

    def release(self, name: str) -> None:
        """Give the memory of a tensor that was copied back to the system."""


# -- how layers are stored ------------------------------------------------------------------------

# How PyTorch stores the weights of our layers that have axes in another order.
_KERNELS: tuple[tuple[type | tuple[type, ...], dict[str, Storage]], ...] = (
    (layers.Dense, {"kernel": DENSE}),
    ((layers.Conv1D, layers.Conv2D, layers.Conv3D), {"kernel": CONV}),
    ((layers.DepthwiseConv1D, layers.DepthwiseConv2D), {"kernel": DEPTHWISE}),
    (
        (layers.SeparableConv1D, layers.SeparableConv2D),
        {"depthwise_kernel": DEPTHWISE, "pointwise_kernel": CONV},
    ),
    (
        (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
        {"kernel": CONV_TRANSPOSE},
    ),
)
# All other weights have the axes in the same order everywhere.
_ORDERED = ("kernel", "depthwise_kernel", "pointwise_kernel", "recurrent_kernel", "bias")


def layer_storages(model: Any) -> dict[str, Storage | None]:
    """Return how PyTorch stores each weight of a model, by the class of its layer.

    Args:
        model: the model.

    Returns:
        Path -> storage; None for a kernel of a layer that PyTorch does not have.

    >>> from hub import BertBackbone
    >>> model = BertBackbone(9, 1, 2, hidden_dim=8, intermediate_dim=8)
    >>> layer_storages(model)["blocks/0/intermediate/kernel"] is DENSE
    True
    """
    return {
        path: _storage(layer, _float_path(name)) if _float_path(name) in _ORDERED else AS_IS
        for path, (layer, name) in weight_owners(model).items()
    }


def _float_path(path: str) -> str:
    """Return the path of a weight in floats, for that of its integers."""
    return re.sub(r"(^|/)quantized_(\w+)$", r"\1\2", path)


def _storage(layer: Any, name: str) -> Storage | None:
    if isinstance(layer, layers.EinsumDense):
        return FLAT if name == "bias" else einsum_dense(layer.equation)
    if name == "bias":
        return AS_IS
    return next((s[name] for classes, s in _KERNELS if isinstance(layer, classes)), None)


# -- loading --------------------------------------------------------------------------------------


def weight_variables(model: Any) -> dict[str, Any]:
    """Return the weights of a model by their paths below it, without random states.

    Args:
        model: the model.
    """
    return dict(model.named_weights())


def load_into(
    model: Any, tensors: Tensors, table: WeightTable, optional: tuple[str, ...] = ()
) -> list[str]:
    """Give a model the weights of a checkpoint, which compiled backends read at their first use.

    Args:
        model: the model, with variables that were not made yet.
        tensors: the checkpoint.
        table: the names.
        optional: prefixes of paths that may be absent, each as a whole.

    Returns:
        The paths that the checkpoint does not have; they keep their initialisers.

    Raises:
        ValueError: a tensor is missing, unused or mis-shaped; nothing was changed then.
    """
    with held_structure(model):
        variables = weight_variables(model)
        storages = layer_storages(model)
    matches, new = match_tensors(storages, tensors, table, optional)
    _check_tied(tensors, table)
    assign_tensors(variables, tensors, matches)
    return new


def assign_tensors(
    variables: Mapping[str, Any], tensors: Tensors, matches: list[TensorMatch]
) -> None:
    """Give weights of a model their tensors, as `load_into` does.

    Args:
        variables: the weights by path.
        tensors: the checkpoint.
        matches: which weight is which tensor.

    Raises:
        ValueError: a tensor is mis-shaped; nothing was changed then.
    """
    check_shapes(matches, {p: v.shape for p, v in variables.items()}, tensors.shape)
    for match in matches:
        variable = variables[match.path]
        variable.assign(_pending(tensors, match, variable.shape))
        variable.read_from = match.tensor, tensors.shape(match.tensor)
    for match in matches:
        variable = variables[match.path]
        if not keras.backend.compiles(variable.backend):
            # Mapped at once, which costs nothing: lasting objects that a first call makes between
            # temporary ones would scatter the heap.
            variable.materialize()


def _pending(tensors: Tensors, match: TensorMatch, shape: tuple[int, ...]) -> Pending:
    def release() -> None:
        if match.storage.parts == 1:  # its neighbours may have been written to
            tensors.release(match.tensor)

    return Pending(
        shape, lambda: match.storage.from_checkpoint(tensors[match.tensor], shape), release
    )


def _check_tied(tensors: Tensors, table: WeightTable) -> None:
    """Raise ValueError if a tensor that should repeat another has another shape."""
    for copy, original in (table.tied or {}).items():
        if copy not in tensors or original not in tensors:
            continue
        got, expected = tensors.shape(copy), tensors.shape(original)
        if got != expected:
            raise ValueError(
                f"{copy} {got} should repeat {original} {expected}, but has another shape."
            )


def absent_patterns(model: Any, table: WeightTable, prefix: str = "") -> list[str]:
    """Return patterns of the tensors of parts that a model was made without.

    Args:
        model: the model.
        table: its names.
        prefix: what stands in the table before the model's own paths.
    """
    parts = {row.removeprefix(prefix).split("/")[0] for row in table.rows if row.startswith(prefix)}
    attributes = vars(model)
    absent = [prefix + part for part in parts if attributes.get(part, "") is None]
    return [
        re.sub(r"\\\{[ij]\\\}", r"\\d+", re.escape(theirs)) + r"\..*"
        for row, theirs in table.rows.items()
        if any(row == part or row.startswith(f"{part}/") for part in absent)
    ]


# -- saving ---------------------------------------------------------------------------------------


class _MergedWeight:
    """A weight in floats with its low-rank update, computed when it is written."""

    def __init__(self, layer: Any, name: str):
        self.layer, self.name, self.shape = layer, name, layer.weight_shape(name)

    def numpy(self) -> np.ndarray:
        return keras.ops.convert_to_numpy(self.layer.float_weight(self.name))


def merged_weights(model: Any) -> dict[str, Any]:
    """Return the weights of a model in floats by their paths, low-rank updates added in.

    Args:
        model: the model, which may be quantized or have LoRA updates.

    Returns:
        Path -> a variable, or what has its `shape` and `numpy()`.
    """
    changed, added = {}, set()
    for layer in model.flatten_layers():
        adapts = hasattr(layer, "added_variables") and layer.built
        if adapts and (layer.lora_enabled or layer.quantization_mode):
            added |= {id(v) for v in layer.added_variables()}
            for name in layer.large_weights():
                changed[id(layer.large_variable(name))] = _MergedWeight(layer, name)
    return {
        _float_path(path): changed.get(id(v), v)
        for path, v in weight_variables(model).items()
        if id(v) not in added
    }


class Exported(Mapping[str, np.ndarray]):
    """Our weights as the tensors of a checkpoint, converted one at a time as they are asked for.

    Args:
        weights: variables by their paths.
        matches: which weight is which tensor; of several that are parts of one, all must be there.

    Raises:
        ValueError: a tensor would have another shape than the one that was read, or lacks a part.
    """

    def __init__(self, weights: Mapping[str, Any], matches: list[TensorMatch]):
        self._weights = weights
        self._matches: dict[str, list[TensorMatch]] = {}
        for match in sorted(matches, key=lambda match: match.storage.part):
            self._matches.setdefault(match.tensor, []).append(match)
        for tensor, group in self._matches.items():
            parts, expected = [m.storage.part for m in group], group[0].storage.parts
            if parts != list(range(expected)):
                raise ValueError(f"{tensor} has the parts {parts}, expected {expected}.")
        read = {m.tensor: getattr(weights[m.path], "read_from", ("", ())) for m in matches}
        check_shapes(
            [match for match in matches if read[match.tensor][0] == match.tensor],
            {match.path: weights[match.path].shape for match in matches},
            lambda tensor: read[tensor][1],
        )

    def __getitem__(self, name: str) -> np.ndarray:
        matches = self._matches[name]
        arrays = [m.storage.to_checkpoint(self._weights[m.path].numpy()) for m in matches]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, matches[0].storage.axis)

    def __iter__(self) -> Iterator[str]:
        return iter(self._matches)

    def __len__(self) -> int:
        return len(self._matches)


def export(model: Any, table: WeightTable) -> Exported:
    """Return the weights of a model as the tensors of a checkpoint.

    Args:
        model: the model; low-rank updates are merged, quantized weights become floats.
        table: the names.

    Raises:
        ValueError: the table has no row for a weight, or a tensor would have another shape than the
            one that was read.

    >>> from hub import BertBackbone
    >>> from hub.families import family_of
    >>> model = BertBackbone(9, 1, 2, hidden_dim=8, intermediate_dim=6)
    >>> tensors = export(model, family_of("bert").weights)
    >>> tensors["encoder.layer.0.intermediate.dense.weight"].shape
    (6, 8)
    """
    weights = merged_weights(model)
    storages = {_float_path(p): storage for p, storage in layer_storages(model).items()}
    return Exported(weights, name_tensors({path: storages[path] for path in weights}, table))
