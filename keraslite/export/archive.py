"""ExportArchive: endpoints and variables as a SavedModel of TensorFlow."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from keraslite import backend as backends
from keraslite.export.concrete import copied_to
from keraslite.export.files import write_folder
from keraslite.export.signature import specs_of
from keraslite.layers.base.layer import Layer
from keraslite.scopes import scopes
from keraslite.utils.progress import message
from keraslite.variable import Variable

_HOME = "tensorflow"  # the backend on which endpoints run


class ExportArchive:
    """A SavedModel with endpoints of one's own, for TensorFlow Serving or `tf.saved_model.load`.

    Endpoints run in TensorFlow. Layers and models of other backends go there as copies.

    Args:
        format: "saved_model".

    Raises:
        ImportError: TensorFlow is not installed.
        ValueError: there is no such format.

    Source: Keras 3, `keras.export.ExportArchive`.

    Example:
        >>> import tempfile, tensorflow as tf
        >>> model = models.Sequential([layers.Input((2,)), layers.Dense(1)])
        >>> archive = ExportArchive()
        >>> archive.track(model)
        >>> _ = archive.add_endpoint("serve", model.call, [layers.InputSpec("float32", (None, 2))])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     archive.write_out(folder, verbose=False)
        ...     served = tf.saved_model.load(folder)
        >>> served.serve(tf.ones((3, 2))).shape.as_list()
        [3, 1]
    """

    def __init__(self, format: str = "saved_model", **kwargs: Any):
        if format != "saved_model" or kwargs:
            raise ValueError(f"ExportArchive has the format 'saved_model' alone, got {format!r}.")
        from keraslite.backend.tensorflow import export

        self._tensorflow = export
        self._root = export.trackable()
        self._copies: dict[int, tuple[Any, Any]] = {}
        self._tracked: list[Layer] = []
        self._resources: list[Any] = []
        self._endpoints: dict[str, Any] = {}
        self._tables: list[Any] = []
        self._collections: dict[str, list[Any]] = {}

    @property
    def variables(self) -> list[Variable]:
        """The weights of the layers that are tracked."""
        return self._distinct([v for layer in self._tracked for v in layer.weights])

    @property
    def trainable_variables(self) -> list[Variable]:
        """Those that are trained."""
        return self._distinct([v for layer in self._tracked for v in layer.trainable_weights])

    @property
    def non_trainable_variables(self) -> list[Variable]:
        """Those that are not trained."""
        return self._distinct([v for layer in self._tracked for v in layer.non_trainable_weights])

    def _distinct(self, variables: list[Variable]) -> list[Variable]:
        return list({id(v): v for v in variables}.values())

    def track(self, resource: Any) -> None:
        """Have the variables of a layer or model, or an object of TensorFlow, in the archive.

        Args:
            resource: a built layer or model, or what TensorFlow can save, such as a lookup table.

        Raises:
            ValueError: a layer is not built, or the resource is something else.
        """
        if isinstance(resource, Layer):
            if not resource.built:
                raise ValueError(
                    f"Layer {resource.name!r} is not built: it must be, to be exported. Call it."
                )
            self._tracked.append(self._on_tensorflow(resource))
        elif self._tensorflow.is_trackable(resource):
            self._resources.append(resource)
        else:
            raise ValueError(
                "Expected a layer, a model or a trackable object of TensorFlow, got "
                f"{type(resource).__name__}."
            )

    def _on_tensorflow(self, layer: Layer) -> Layer:
        """Return a layer, or if it is of another backend one copy of it."""
        if layer.backend == _HOME:
            return layer
        if id(layer) not in self._copies:
            self._copies[id(layer)] = layer, copied_to(layer, _HOME)
        return self._copies[id(layer)][1]

    def add_endpoint(
        self, name: str, fn: Callable, input_signature: Any = None, **kwargs: Any
    ) -> Any:
        """Add a function that can be called after loading.

        Args:
            name: its name.
            fn: a callable of tensors, such as `model.call`; or a `tf.function` that was called.
            input_signature: for each argument nested InputSpecs, `tf.TensorSpec`s, KerasTensors or
                tensors.
            kwargs: "is_static" and "jax2tf_kwargs", which Keras's JAX backend needs, are left out.

        Returns:
            The `tf.function`.

        Raises:
            ValueError: the name is taken, or the shapes of the inputs are not known.
        """
        _check_keywords(kwargs)
        if name in self._endpoints:
            raise ValueError(f"Endpoint name {name!r} is already taken.")
        if input_signature is None:
            function = self._traced(fn)
        else:
            specs = specs_of(input_signature)
            function = self._record(lambda: self._tensorflow.function_of(self._moved(fn), specs))
        self._endpoints[name] = function
        return function

    def _traced(self, fn: Any) -> Any:
        if not self._tensorflow.is_function(fn) or not self._tensorflow.concrete_functions(fn):
            raise ValueError(
                "Without an `input_signature` the endpoint must be a tf.function that was called "
                "at least once. Give input_signature=[keras.InputSpec(shape=..., dtype=...)]."
            )
        return fn

    def _moved(self, fn: Callable) -> Callable:
        """Return a method of a layer of another backend as that of the copy."""
        owner = getattr(fn, "__self__", fn)
        if not isinstance(owner, Layer):
            return fn
        moved = self._on_tensorflow(owner)
        return moved if owner is fn else getattr(moved, fn.__name__)

    def _record(self, trace: Callable[[], Any]) -> Any:
        """Trace a function of TensorFlow; lookup layers in it leave their tables here."""
        outer, scopes.tables = scopes.tables, self._tables
        try:
            with backends.backend_scope(_HOME):
                return trace()
        finally:
            scopes.tables = outer

    def track_and_add_endpoint(
        self, name: str, resource: Any, input_signature: Any, **kwargs: Any
    ) -> Any:
        """Track a layer or model, and add its call as an endpoint.

        Args:
            name: the name of the endpoint.
            resource: the layer or model.
            input_signature: as of `add_endpoint`.
            kwargs: as of `add_endpoint`.

        Returns:
            The `tf.function`.
        """
        self.track(resource)
        return self.add_endpoint(name, resource.__call__, input_signature, **kwargs)

    def add_variable_collection(self, name: str, variables: Any) -> None:
        """Have variables in the archive as a list, which is an attribute after loading.

        Args:
            name: the name of the attribute.
            variables: a list, tuple or set of variables, of any backend.

        Raises:
            ValueError: they are something else.
        """
        if not isinstance(variables, list | tuple | set):
            raise ValueError(
                f"`variables` must be a list, a tuple or a set, got {type(variables).__name__}."
            )
        wrong = [
            type(v).__name__
            for v in variables
            if not isinstance(v, Variable) and not self._tensorflow.is_trackable(v)
        ]
        if wrong:
            raise ValueError(f"`variables` must be variables, got {sorted(set(wrong))}.")
        self._collections[name] = [_raw(v) for v in variables]

    def write_out(self, filepath: Any, options: Any = None, verbose: bool = True) -> None:
        """Write the SavedModel.

        The first endpoint is the signature "serving_default" too, unless there is one of that name.

        Args:
            filepath: the folder.
            options: a `tf.saved_model.SaveOptions`.
            verbose: whether the endpoints are printed.

        Raises:
            ValueError: there are no endpoints.
            NotImplementedError: an endpoint calls back into Python.
            OSError: it could not be written; what was there before is unchanged.
        """
        write = self.writer(options)
        write_folder(Path(filepath), write)
        if verbose:
            endpoints = [self._tensorflow.describe(n, f) for n, f in self._endpoints.items()]
            text = "\n\n".join(endpoints)
            message(f"Saved artifact at '{filepath}'. It has these endpoints:\n\n{text}")

    def writer(
        self, options: Any = None, signatures: dict[str, Any] | None = None
    ) -> Callable[[Path], None]:
        """Return a function that writes the SavedModel into a folder.

        Args:
            options: a `tf.saved_model.SaveOptions`.
            signatures: concrete functions by name, beside those of the endpoints.
        """
        if not self._endpoints:
            raise ValueError("No endpoints have been set yet: call add_endpoint().")
        concrete = {
            name: self._tensorflow.concrete_functions(function)[0]
            for name, function in self._endpoints.items()
        }
        for name, function in concrete.items():
            if self._tensorflow.calls_python(function):
                raise NotImplementedError(
                    f"Endpoint {name!r} calls back into Python (a layer of another framework, or "
                    "one that computes on the host), which a SavedModel cannot hold."
                )
        signatures = {"serving_default": next(iter(concrete.values())), **concrete} | (
            signatures or {}
        )
        root = self._root
        tracked = [_raw(v) for v in self.variables]
        used = [v for f in self._endpoints.values() for v in self._tensorflow.variables_of(f)]
        collected = [v for some in self._collections.values() for v in some]
        held = {id(v) for v in (*tracked, *collected)}
        root.variables = tracked
        root.trainable_variables = [_raw(v) for v in self.trainable_variables]
        root.non_trainable_variables = [_raw(v) for v in self.non_trainable_variables]
        root.other_variables = [v for v in used if id(v) not in held]
        root.resources = [*self._resources, *self._tables]
        for name, value in (self._collections | self._endpoints).items():
            setattr(root, name, value)
        return lambda folder: self._tensorflow.save(root, str(folder), signatures, options)


def _check_keywords(kwargs: dict[str, Any]) -> None:
    unknown = sorted(set(kwargs) - {"is_static", "jax2tf_kwargs"})
    if unknown:
        raise TypeError(f"Unknown arguments: {', '.join(unknown)}.")


def _raw(variable: Any) -> Any:
    """Return TensorFlow's own variable of one; a copy, if it is of another backend."""
    if not isinstance(variable, Variable):
        return variable
    if variable.backend == _HOME:
        return variable._kl_raw
    with backends.backend_scope(_HOME):
        return Variable(variable.numpy(), trainable=variable.trainable, name=variable.name)._kl_raw
