"""The parameters that recurrent layers and cells share, and the docstrings made of them."""

from typing import Any

from keraslite.declare import REQUIRED

# The arguments of every recurrent layer that say how it runs.
RUNNING = {"return_sequences": False, "return_state": False, "go_backwards": False,
           "stateful": False}  # fmt: skip

_MEANING = {
    "units": "the size of the outputs.",
    "filters": "the number of output channels.",
    "kernel_size": "the size of the window, one number or one an axis.",
    "strides": "the steps of the window over the inputs.",
    "padding": '"valid", or "same" for outputs of the size of the inputs over the strides.',
    "data_format": '"channels_last" or "channels_first"; the configured one by default.',
    "dilation_rate": "the distance between the taps of the kernel of the inputs.",
    "activation": "a name or function.",
    "recurrent_activation": "of the gates, a name or function.",
    "use_bias": "whether there is a bias.",
    "kernel_initializer": "of the kernel, of shape {kernel}.",
    "recurrent_initializer": "of the recurrent kernel, of shape {recurrent}.",
    "bias_initializer": "of the bias, of shape {bias}.",
    "unit_forget_bias": "whether the bias of the forget gate begins at 1.",
    "kernel_regularizer": "a penalty on the kernel.",
    "recurrent_regularizer": "a penalty on the recurrent kernel.",
    "bias_regularizer": "a penalty on the bias.",
    "activity_regularizer": "a penalty on the outputs.",
    "kernel_constraint": "a projection of the kernel.",
    "recurrent_constraint": "a projection of the recurrent kernel.",
    "bias_constraint": "a projection of the bias.",
    "dropout": "the part of the inputs that becomes zero in training, the same in all steps.",
    "recurrent_dropout": "the part of the state that becomes zero in training, likewise.",
    "reset_after": "whether the state is reset after its product with the kernel, or before.",
    "seed": "of the dropout, an int.",
    "return_sequences": "whether the outputs of all steps are returned, or the last alone.",
    "return_state": "whether the last states are returned too.",
    "go_backwards": "whether to begin at the last step; the outputs then stand in that order.",
    "stateful": "whether a batch begins with the last states of the batch before it.",
    "unroll": "whether compilers lay the steps out one after the other instead of looping.",
    "use_cudnn": 'False avoids a fused kernel, True insists on one of a GPU, "auto" takes what '
    "there is.",
}


def weight_parameters(activity: bool, forget: bool) -> dict[str, Any]:
    """Return the parameters of weights and dropout, in Keras's order.

    Args:
        activity: whether there is an `activity_regularizer`.
        forget: whether there is a `unit_forget_bias`.
    """
    names = ("kernel", "recurrent", "bias")
    parameters: dict[str, Any] = {"use_bias": True, "kernel_initializer": "glorot_uniform",
                                  "recurrent_initializer": "orthogonal"}  # fmt: skip
    parameters |= {"bias_initializer": "zeros"} | ({"unit_forget_bias": True} if forget else {})
    parameters |= {f"{name}_regularizer": None for name in names}
    parameters |= {"activity_regularizer": None} if activity else {}
    parameters |= {f"{name}_constraint": None for name in names}
    return parameters | {"dropout": 0.0, "recurrent_dropout": 0.0}


def with_keywords(*parts: dict[str, Any]) -> dict[str, Any]:
    """Return parameters one after the other, and the keywords of every layer after them."""
    together = {name: default for part in parts for name, default in part.items()}
    return {**together, "**kwargs": REQUIRED}


def docstring(text: str, parameters: dict[str, Any], example: str, **shapes: str) -> str:
    """Return the docstring of a layer.

    Args:
        text: what it is, and the shapes of its inputs and outputs.
        parameters: its parameters.
        example: lines of a doctest.
        shapes: of `kernel`, `recurrent` and `bias`.
    """
    lines = "\n".join(
        f"        {name}: {_MEANING[name].format(**shapes)}"
        for name in parameters
        if not name.startswith("**")
    )
    return f"{text}\n\n    Args:\n{lines}\n\n    {example}\n    "
