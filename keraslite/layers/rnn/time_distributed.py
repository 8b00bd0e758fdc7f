"""TimeDistributed: a layer on each time slice of a sequence."""

from typing import Any

from keraslite import ops
from keraslite.layers.base.layer import Layer
from keraslite.layers.base.masks import accepts_mask
from keraslite.layers.core import Wrapper
from keraslite.layers.lambda_layer import Lambda
from keraslite.registry import public_class
from keraslite.scopes import scopes
from keraslite.typing import Shape, Tensor


class TimeDistributed(Wrapper):
    """A layer on each time slice of a sequence, with the same weights.

    Inputs (batch, steps, ...), at least of rank 3; outputs (batch, steps, ...).

    Args:
        layer: the layer, which takes (batch, ...).

    Raises:
        ValueError: that is no layer.

    >>> from keraslite.layers import Dense
    >>> TimeDistributed(Dense(4))(np.ones((2, 5, 3), "float32")).shape == (2, 5, 4)
    True
    """

    def __init__(self, layer: Layer, **kwargs: Any):
        super().__init__(layer, **kwargs)
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        """Build the layer for one slice."""
        if not isinstance(input_shape, list | tuple) or len(input_shape) < 3:
            raise ValueError(
                f"TimeDistributed takes inputs of rank 3 or more, got the shape {input_shape}."
            )
        super().build((input_shape[0], *input_shape[2:]))
        self._rows_are_apart = _gives_each_row_its_own(self.layer)

    def call(
        self, inputs: Tensor, training: bool | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Call the layer on each slice.

        Args:
            inputs: (batch, steps, ...).
            training: whether the layer trains.
            mask: (batch, steps, ...), whose slices the layer is given if it takes a mask.
        """
        if mask is not None:
            _check_mask(mask, inputs)
            mask = mask if accepts_mask(self.layer) else None

        def run(x: Any, mask: Any = None) -> Any:
            options = {} if mask is None else {"mask": mask}
            return self.layer(x, training=training, **options)

        xs = [inputs] if mask is None else [inputs, mask]
        if self._rows_are_apart:  # all slices as rows of one batch
            rows = ops.shape(inputs)[:2]
            out = run(*(ops.reshape(x, (-1, *ops.shape(x)[2:])) for x in xs))
            return ops.reshape(out, (*rows, *ops.shape(out)[1:]))
        xs = [ops.moveaxis(x, 1, 0) for x in xs]
        steps = xs[0].shape[0]
        if steps is None or scopes.abstract:
            out = ops.map(lambda now: run(*now), xs)
        else:
            out = ops.stack([run(*(x[i] for x in xs)) for i in range(steps)])
        return ops.moveaxis(out, 0, 1)


def _gives_each_row_its_own(layer: Layer) -> bool:
    """Whether a row of a batch gives what it would give in any other batch: where the layers are
    the package's own, change no state but that of random numbers, and have no penalty.
    """
    return all(
        public_class(type(x)).__module__.startswith(f"{_LAYERS}.")
        and not isinstance(x, Lambda)
        and x.activity_regularizer is None
        for x in layer.flatten_layers()
    ) and all(v.made_trainable or v.name == "seed_generator_state" for v in layer.variables)


_LAYERS = Layer.__module__.removesuffix(".base.layer")  # the package of the layers


def _check_mask(mask: Any, inputs: Any) -> None:
    """Raise ValueError unless a mask has the inputs' batch and steps."""
    shape, sizes = tuple(mask.shape), tuple(inputs.shape)
    fits = len(shape) >= 2 and all(
        a is None or b is None or a == b for a, b in zip(shape[:2], sizes[:2], strict=True)
    )
    if not fits:
        raise ValueError(
            f"The mask of TimeDistributed must begin with the batch and the steps of the inputs, "
            f"{sizes[:2]}; it has the shape {shape}."
        )
