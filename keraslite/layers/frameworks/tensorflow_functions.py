"""Base class of the layers that call functions of TensorFlow."""

from collections.abc import Callable, Iterable
from typing import Any

from keraslite.backend.foreign import ForeignFunction
from keraslite.layers.frameworks.foreign import ForeignLayer
from keraslite.scopes import scopes
from keraslite.variable import Variable, in_stateless_scope


class TensorFlowFunctions(ForeignLayer):
    """A layer that calls functions of TensorFlow, which read and write variables of their own."""

    _kl_framework = "tensorflow"
    _kl_weights: tuple[Variable, ...] = ()
    _kl_raws: tuple[Any, ...] = ()

    def share_variables(self, raws: Iterable[Any], names: list[str]) -> None:
        """Make weights of the variables of the functions, under names."""
        self._kl_raws = tuple(raws)
        self._kl_weights = tuple(
            self.add_shared_weight(raw, raw.trainable, name)
            for raw, name in zip(self._kl_raws, names, strict=True)
        )

    def storages(self) -> list[tuple[Variable, Any]]:
        """Return the weights, and the variables of the functions."""
        return list(zip(self._kl_weights, self._kl_raws, strict=True))

    def run_function(self, function: Callable, setting: Any, args: tuple, kwargs: dict) -> Any:
        """Call a function of TensorFlow, on any backend and in any scope of variables.

        Args:
            function: the function.
            setting: says which function it is; equal ones are the same function.
            args: what it is called with.
            kwargs: likewise, by name.
        """
        from keraslite.backend.tensorflow import functions

        variables = self._kl_weights
        if not self.at_home:
            trained = [v.made_trainable for v in variables]

            def describe(refill: Callable) -> ForeignFunction:
                def call(values: list, inputs: list) -> tuple[Any, list]:
                    args, kwargs = refill(inputs)
                    outputs = function(*args, **kwargs)
                    return outputs, [x for x, t in zip(values, trained, strict=True) if not t]

                return functions.TensorFlowFunction(call, trained, self._kl_raws)

            outputs, updated = self.call_carried(describe, list(variables), (args, kwargs), setting)
            variables = tuple(v for v in variables if not v.made_trainable)
        elif scopes.abstract or not (in_stateless_scope() and variables):
            return function(*args, **kwargs)
        else:
            outputs, updated = functions.run_with(
                function, [v._kl_raw for v in variables], [v.value for v in variables], args, kwargs
            )
        for variable, value in zip(variables, updated, strict=True):
            variable.assign(value)
        return outputs
