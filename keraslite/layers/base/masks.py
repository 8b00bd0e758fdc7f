"""Masks of sequences on their way through a layer: from the inputs to `call`, to the outputs."""

from collections.abc import Callable
from typing import Any

from keraslite import masking, tree

# The `compute_mask` methods that are marked with `follows_masks`.
FOLLOW_MASKS: set[Callable] = set()


def follows_masks(compute_mask: Callable) -> Callable:
    """Say of a `compute_mask` that it gives no mask where no input has one: it is not asked then.

    Args:
        compute_mask: the method.
    """
    FOLLOW_MASKS.add(compute_mask)
    return compute_mask


def accepts_mask(layer: Any) -> bool:
    """Return whether a layer's `call` takes an argument `mask`."""
    return "mask" in layer._kl_spec.masks


def any_masked(structure: Any) -> bool:
    """Return whether any tensor in a structure has a mask."""
    return masking.any_masks() and any(
        masking.get_mask(x) is not None for x in tree.flatten(structure)
    )


def fill_masks(layer: Any, args: tuple, kwargs: dict[str, Any]) -> None:
    """Give `call` the masks of its inputs where it names them and the caller gave none."""
    spec = layer._kl_spec
    arguments = dict(zip(spec.names, args, strict=False))
    for name in spec.masks:
        if kwargs.get(name) is None and arguments.get(name) is None:
            source = name.removesuffix("mask").rstrip("_")
            x = args[0] if not source and args else arguments.get(source, kwargs.get(source))
            if x is not None:
                mask = tree.map_structure(masking.get_mask, x)
                if any(m is not None for m in tree.flatten(mask)):
                    kwargs[name] = mask


def set_masks(layer: Any, args: tuple, kwargs: dict[str, Any], outputs: Any) -> None:
    """Mask the outputs as `compute_mask` says."""
    mask = output_mask(layer, args, kwargs)
    if mask is None:
        return
    if not layer._kl_spec.makes_masks and tree.is_nested(mask) and not tree.is_nested(outputs):
        mask = next((m for m in tree.flatten(mask) if m is not None), None)
    for x, m in zip(tree.flatten(outputs), tree.flatten(mask), strict=False):
        if m is not None and all(x is not a for a in tree.flatten(args)):
            masking.set_mask(x, m)


def output_mask(layer: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Return what `compute_mask` gives for a call; None where it is not to be asked."""
    custom = layer._kl_spec.makes_masks
    if not args or not (custom or layer.supports_masking):
        return None
    previous = kwargs.get("mask")
    if previous is None:
        previous = tree.map_structure(masking.get_mask, args[0])
    if not custom and all(m is None for m in tree.flatten(previous)):
        return None
    return layer.compute_mask(args[0], previous)
