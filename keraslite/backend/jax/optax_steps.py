"""Transformations of optax: their state as a list of arrays, and one step."""

from typing import Any

import jax


def initial_state(transformation: Any, parameters: list[jax.Array]) -> list[jax.Array]:
    """Return the leaves of a transformation's first state.

    Args:
        transformation: an `optax.GradientTransformation`.
        parameters: the values of the parameters.
    """
    leaves = jax.tree_util.tree_leaves(transformation.init(parameters))
    return [jax.numpy.asarray(x) for x in leaves]


def updates(
    transformation: Any, gradients: list[jax.Array], state: list[jax.Array],
    parameters: list[jax.Array],
) -> tuple[list[jax.Array], list[jax.Array]]:  # fmt: skip
    """Return what is to be added to the parameters, and the leaves of the new state.

    Args:
        transformation: an `optax.GradientTransformation`.
        gradients: those of the parameters.
        state: the leaves of its state.
        parameters: the values of the parameters.
    """
    # The structure of the state follows from the parameters, and costs nothing to find.
    structure = jax.tree_util.tree_structure(jax.eval_shape(transformation.init, parameters))
    before = jax.tree_util.tree_unflatten(structure, state)
    changes, after = transformation.update(gradients, before, parameters)
    return changes, jax.tree_util.tree_leaves(after)
