"""Base class of the layers that run code of another framework."""

from collections.abc import Callable
from typing import Any

from keraslite import backend as backends
from keraslite import dtypes, tree
from keraslite.backend.foreign import ForeignFunction
from keraslite.layers.base.layer import Layer
from keraslite.scopes import scopes
from keraslite.variable import Variable


class _Tensor:
    """Stands for a tensor in a structure of arguments."""

    def __repr__(self) -> str:
        return "tensor"


_TENSOR = _Tensor()


class _Functions(dict):
    """Foreign functions by how they are called; a copy of the layer makes its own."""

    def __reduce__(self) -> tuple:
        return _Functions, ()


class ForeignLayer(Layer):
    """A layer that runs code of one framework, which a subclass names in `_kl_framework`.

    On the backend of that framework a subclass calls the code itself. On any other it describes
    the call as a `ForeignFunction`, and `call_carried` hands weights and inputs over to it.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.__dict__["_kl_foreign"] = _Functions()

    @property
    def at_home(self) -> bool:
        """Whether the layer is on the backend of its framework."""
        return self.backend == self._kl_framework

    @property
    def supports_jit(self) -> bool:
        """Whether XLA can compile calls of the layer."""
        return self.at_home or backends.load(self.backend).COMPILES_FOREIGN

    def call_carried(
        self, describe: Callable[[Callable], ForeignFunction], weights: list[Variable],
        inputs: Any, *settings: Any,
    ) -> tuple[Any, list]:  # fmt: skip
        """Call code of the layer's framework from another backend.

        Args:
            describe: makes the function, called once for each form of the inputs and settings. It
                is given a function that puts a flat list of tensors into the form of `inputs`.
            weights: the weights that the function takes.
            inputs: nested tensors, and anything else, which must always mean the same.
            settings: what else the function depends on, such as whether it trains.

        Returns:
            (the outputs, the new values of the weights that the function writes), as tensors of the
            layer's backend.
        """
        module = backends.load(self.backend)
        template = tree.map_structure(lambda x: _TENSOR if backends.is_tensor(x) else x, inputs)
        tensors = [x for x in tree.flatten(inputs) if backends.is_tensor(x)]

        def refill(tensors: list) -> Any:
            remaining = iter(tensors)
            return tree.map_structure(lambda x: next(remaining) if x is _TENSOR else x, template)

        key = (repr(template), settings)
        if key not in self._kl_foreign:
            self._kl_foreign[key] = describe(refill)
        function = self._kl_foreign[key]
        values = [*(v.value for v in weights), *tensors]
        if scopes.abstract:
            specs = [(tuple(x.shape), module.dtype_of(x)) for x in values]
            results = [
                module.zeros(shape, module.canonical(name))
                for shape, name in function.outline(specs)
            ]
        else:
            results = module.call_foreign(function, values)
        return function.pack(results)

    # -- weights that are parameters of an object of the framework ----------------------------

    def storages(self) -> list[tuple[Variable, Any]]:
        """Return the weights that are parameters of an object, and the tensors that it holds."""
        return []

    def add_shared_weight(self, storage: Any, trainable: bool, name: str) -> Variable:
        """Make a weight of a parameter: at home both are the same memory, elsewhere a copy.

        Args:
            storage: the parameter, or a variable or buffer.
            trainable: whether it is trained.
            name: the weight's name.
        """
        dtype = self._dtype_of(storage)
        variable = self.add_weight(
            tuple(storage.shape), "zeros", dtype=dtype, trainable=trainable, autocast=False,
            name=name,
        )  # fmt: skip
        if self.at_home:
            variable.share(storage)
        else:
            variable.assign(backends.to_numpy(storage))  # a copy: the object may go on changing
        return variable

    def _dtype_of(self, storage: Any) -> str:
        """The dtype of a weight: JAX has no integers of 64 bits."""
        name = backends.load(self._kl_framework or "").dtype_of(storage)
        return backends.load(self.backend).canonical(name)

    def set_backend(self, name: str) -> None:
        """Make the layer one of another backend; at home its weights are the object's own again."""
        super().set_backend(name)
        if self.at_home:
            self.write_storages()
        module = backends.load(name)
        for variable, storage in self.storages():
            dtype = self._dtype_of(storage)
            if self.at_home:
                variable.storage_dtype = dtype
                variable.share(storage)
                module.set_trainable(storage, variable.trainable)
            elif variable.storage_dtype != dtype:  # JAX had no integers of 64 bits, or has none
                value = module.new_value(variable.numpy().astype(dtypes.to_numpy(dtype)), dtype)
                variable.storage_dtype = dtype
                variable.share(module.new_variable(value, variable.trainable, variable.path))

    def write_storages(self) -> None:
        """Give the object of the framework the values of the weights, which it may not share."""
        home = backends.load(self._kl_framework or "")
        for variable, storage in self.storages():
            home.assign(storage, home.convert(variable.numpy(), home.dtype_of(storage)))
