"""Layer: build, call, state, config, nothing else.

A layer belongs to the backend that was current when it was made. Under torch it is a
torch.nn.Module and under TensorFlow a tf.Module: a class derived for that backend is used in the
place of the one named, so the class a user wrote stays free of frameworks. Variables and sublayers
are found by looking at the layer's attributes, so nothing has to be registered.
"""

import inspect
import weakref
from functools import cache, wraps
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import dtype_policies, initializers, masking, regularizers, tree
from keraslite.backend import OF
from keraslite.layers.base import tracking
from keraslite.layers.input_spec import check_input_spec
from keraslite.naming import auto_name, name_scope, path_of, to_snake_case
from keraslite.ops import core
from keraslite.ops import numpy as knp
from keraslite.registry import public_class
from keraslite.scopes import scopes
from keraslite.symbolic import KerasTensor, Node, infer, is_symbolic
from keraslite.variable import (
    SpecScope,
    StatelessScope,
    Variable,
)

_derived: dict[tuple[type, str], type] = {}
_lossy: "weakref.WeakSet[Layer]" = weakref.WeakSet()  # the layers that hold losses of a call


class _CallContext:
    """What the outermost call says to the layers inside it."""

    __slots__ = ("training",)

    def __init__(self, training: bool | None):
        self.training = training


def _for_backend(cls: type, name: str) -> type:
    """The class to instantiate for `cls` under a backend; itself where layers need no base."""
    public = public_class(cls)
    base = backends.load(name).LAYER_BASE
    if base is None:
        return public
    key = (public, name)
    if key not in _derived:
        body = {"__module__": public.__module__, "__qualname__": public.__qualname__,
                "__doc__": public.__doc__, "_kl_public": public}  # fmt: skip
        _derived[key] = type(public.__name__, (public, base), body)
    return _derived[key]


def _rebuild(cls: type, backend: str) -> "Layer":
    with backends.use_backend(backend):
        return cls.__new__(cls)


def _scoped(build: Any) -> Any:
    """`build` in the layer's own backend and name scope, also when a parent's `build` calls it."""

    @wraps(build)
    def scoped(self: "Layer", *args: Any, **kwargs: Any) -> None:
        if self.__dict__.get("_kl_building"):  # by super().build()
            build(self, *args, **kwargs)
            return
        self.__dict__["_kl_building"] = True
        try:
            with backends.use_backend(self.backend), name_scope(self.name):
                build(self, *args, **kwargs)
        finally:
            del self.__dict__["_kl_building"]
        shapes = dict(_signature(build).bind(self, *args, **kwargs).arguments)
        self.__dict__["_kl_build_shapes"] = {k: v for k, v in shapes.items() if k != "self"}
        self.built = True

    return scoped


@cache
def _signature(function: Any) -> inspect.Signature:
    return inspect.signature(function)


class _CallSpec:
    """What a class's `call` takes, worked out once."""

    def __init__(self, call: Any):
        parameters = list(inspect.signature(call).parameters.values())[1:]
        kinds = inspect.Parameter
        by_position = (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        self.names = [p.name for p in parameters if p.kind in by_position]
        every = {p.name for p in parameters}
        self.any_keyword = any(p.kind is kinds.VAR_KEYWORD for p in parameters)
        self.training = "training" in every
        self.training_default = next((p.default for p in parameters if p.name == "training"), None)
        self.masks = [n for n in every if n == "mask" or n.endswith("_mask")]
        self.makes_masks = False


@cache
def _call_spec(cls: type) -> _CallSpec:
    spec = _CallSpec(cls.call)
    spec.makes_masks = cls.compute_mask is not Layer.compute_mask
    return spec


class Layer(tracking.Tracked):
    """A function of tensors with state.

    Subclasses write `build(input_shape)`, which adds weights, and `call(inputs)`.

    Args:
        activity_regularizer: a regularizer of the outputs.
        trainable: whether its variables are trained.
        dtype: a dtype or policy.
        autocast: whether float inputs and variables are cast to the compute dtype.
        name: a name; made from the class's where it is None.

    >>> class Double(Layer):
    ...     def call(self, x):
    ...         return x * 2
    >>> ops.convert_to_numpy(Double()([1.0, 2.0])).tolist()
    [2.0, 4.0]
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> "Layer":
        name = backends.backend()
        derived = _for_backend(cls, name)
        self = object.__new__(derived)
        self.__dict__.update(
            backend=name, built=False, supports_masking=False, _kl_init=(args, kwargs),
            _kl_losses=[], _kl_trainable=True, input_spec=None, activity_regularizer=None,
            autocast=True, _kl_spec=_call_spec(public_class(cls)),
        )  # fmt: skip
        if hasattr(derived, "_init_backend"):
            self._init_backend()
        if not issubclass(derived, cls):  # a class derived for another backend: Python stops here
            self.__init__(*args, **kwargs)
        return self

    def __init__(
        self,
        *,
        activity_regularizer: Any = None,
        trainable: bool = True,
        dtype: Any = None,
        autocast: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ):
        shape = kwargs.pop("input_shape", None)
        if shape is not None:
            self._kl_input_shape = (kwargs.pop("batch_size", None), *shape)
        if kwargs:
            raise TypeError(f"{type(self).__name__} does not know the arguments {sorted(kwargs)}.")
        self._name = name or auto_name(to_snake_case(type(self).__name__))
        self.dtype_policy = dtype_policies.get(dtype)
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.autocast = autocast
        self._kl_trainable = trainable

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "build" in cls.__dict__:
            cls.build = _scoped(cls.__dict__["build"])

    # Plain attributes: neither nn.Module's nor tf.Module's bookkeeping is wanted.
    __setattr__ = object.__setattr__
    __delattr__ = object.__delattr__

    # -- what it is made of -------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.__dict__.get("_name") or to_snake_case(type(self).__name__)

    @name.setter
    def name(self, value: str) -> None:
        self.__dict__["_name"] = value

    def own_variables(self) -> list[tuple[str, Variable]]:
        """(name, variable) of the layer's own variables, without those of sublayers."""
        return tracking.own_variables(self)

    def own_layers(self) -> list[tuple[str, "Layer"]]:
        """(name, layer) of the layers directly inside."""
        return tracking.own_layers(self)

    def flatten_layers(self, include_self: bool = True) -> list["Layer"]:
        """This layer and all below it, each once, parents first."""
        return tracking.flatten_layers(self, include_self)

    @property
    def variables(self) -> list[Variable]:
        """All variables: weights, random states, metrics."""
        return tracking.all_variables(self)

    @property
    def metrics(self) -> list[Any]:
        """The metrics of this layer and those inside it."""
        return tracking.all_metrics(self)

    @property
    def metrics_variables(self) -> list[Variable]:
        """The variables of the metrics."""
        return [v for m in tracking.all_metrics(self) for v in m.variables]

    @property
    def weights(self) -> list[Variable]:
        """All variables but random states and metrics."""
        return [v for _, v in self.named_weights()]

    def named_weights(self) -> list[tuple[str, Variable]]:
        """(path below this layer, variable) of the weights: the names that are saved."""
        return tracking.named_weights(self)

    @property
    def trainable_variables(self) -> list[Variable]:
        """The variables that are trained."""
        return [v for _, v, trained in tracking.tracked_weights(self) if trained]

    @property
    def trainable_weights(self) -> list[Variable]:
        """The variables that are trained."""
        return self.trainable_variables

    @property
    def non_trainable_variables(self) -> list[Variable]:
        """The variables that are not trained, random states among them."""
        return [v for _, v, trained in tracking.tracked_weights(self) if not trained]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The weights that are not trained."""
        return [v for v in self.non_trainable_variables if v.name != "seed_generator_state"]

    @property
    def trainable(self) -> bool:
        """Whether the layer's variables are trained; setting it sets the layers inside too."""
        return self._kl_trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        tracking.set_trainable(self, value)

    def count_params(self) -> int:
        """The number of scalars in the weights."""
        if not self.built:
            raise ValueError(f"Layer {self.name!r} is not built yet: call it, or build it first.")
        return sum(int(np.prod(v.shape, dtype=np.int64)) for v in self.weights)

    def get_weights(self) -> list[np.ndarray]:
        """The weights as numpy arrays."""
        return [np.array(v.numpy()) for v in self.weights]  # live memory would go on changing

    def set_weights(self, weights: list[Any]) -> None:
        """Set the weights from a list in the order of `weights`."""
        tracking.set_weights(self, weights)

    # -- dtypes -------------------------------------------------------------------------------

    @property
    def dtype(self) -> str:
        """The dtype of the variables."""
        return self.dtype_policy.variable_dtype

    variable_dtype = dtype

    @property
    def compute_dtype(self) -> str:
        """The dtype of the computation."""
        return self.dtype_policy.compute_dtype

    @property
    def input_dtype(self) -> str:
        """The dtype to which float inputs are cast."""
        return self.dtype_policy.compute_dtype

    @property
    def quantization_mode(self) -> str | None:
        """What the large weights are quantized to; None if they are not."""
        return self.dtype_policy.quantization_mode

    def quantize(
        self, mode: str | None = None, type_check: bool = True, config: Any = None
    ) -> None:
        """Keep the large weights in integers of few bits; Dense, EinsumDense and Embedding can."""
        raise NotImplementedError(
            f"Layer {self.name!r} of the class {type(self).__name__} has no quantized form."
        )

    # -- building -----------------------------------------------------------------------------

    def add_weight(
        self,
        shape: tuple | None = None,
        initializer: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        regularizer: Any = None,
        constraint: Any = None,
        aggregation: str = "none",
        name: str | None = None,
    ) -> Variable:
        """Make a variable of this layer; keep it in an attribute.

        Args:
            shape: its shape; a scalar's by default.
            initializer: a name, initializer or function; Glorot uniform for floats by default.
            dtype: a dtype name; the layer's variable dtype by default.
            trainable: whether it is trained.
            autocast: whether it is cast to the compute dtype when read.
            regularizer: a penalty on it.
            constraint: a projection applied after updates.
            aggregation: how replicas are combined; kept for Keras code.
            name: its name.
        """
        if initializer is None:
            whole = dtype is not None and not str(dtype).startswith(("float", "bfloat"))
            initializer = "zeros" if whole else "glorot_uniform"
        with backends.use_backend(self.backend):
            variable = Variable(
                initializers.get(initializer) if not callable(initializer) else initializer,
                shape=shape or (), dtype=dtype or self.variable_dtype, trainable=trainable,
                autocast=autocast, aggregation=aggregation, name=name,
            )  # fmt: skip
        variable.path = path_of(variable.name)
        variable.regularizer = regularizers.get(regularizer)
        variable.constraint = _constraint(constraint)
        self.__dict__.setdefault("_kl_added", []).append(variable)
        return variable

    def build(self, input_shape: Any = None) -> None:
        """Make the variables for an input shape; by default the layers inside build themselves."""
        self.built = True

    def _build(self, args: tuple, kwargs: dict) -> None:
        """Call `build` with the shapes of the arguments it names."""
        if type(self).build is Layer.build:
            self.__dict__["_kl_build_shapes"] = {"input_shape": _shapes(args[0])} if args else {}
            self.built = True
            return
        spec = self._kl_spec
        given = {**dict(zip(spec.names, args, strict=False)), **kwargs}
        names = [n for n in _signature(type(self).build).parameters if n != "self"]
        if len(names) == 1 and _signature(type(self).build).parameters[names[0]].kind not in (
            inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL,
        ):  # fmt: skip
            first = args[0] if args else next(iter(given.values()), None)
            shapes: dict[str, Any] = {names[0]: _shapes(first)}
        else:
            shapes = {
                n: _shapes(given[n.removesuffix("_shape")])
                for n in names
                if n.endswith("_shape") and given.get(n.removesuffix("_shape")) is not None
            }
        self.build(**shapes)
        self.__dict__["_kl_build_shapes"] = shapes
        self.built = True

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Build from what `get_build_config` gave."""
        from keraslite.layers.quantized import quantize_below

        shapes = {k: v for k, v in config.items() if k != "quantized"}
        self.build(**{k: _as_shape(v) for k, v in shapes.items()})
        self.__dict__["_kl_build_shapes"] = shapes
        self.built = True
        quantize_below(self, config)

    def restore_build(self, config: dict[str, Any]) -> None:
        """Bring a layer of a file to how it was built: in its constructor, or by that file.

        Args:
            config: what `get_build_config` gave.
        """
        from keraslite.layers.quantized import quantize_below

        if not self.built:
            self.build_from_config(config)
        quantize_below(self, config)

    def get_build_config(self) -> dict[str, Any] | None:
        """The shapes that the layer was built with, and which layers inside it were quantized."""
        from keraslite.layers.quantized import quantized_below

        shapes = self.__dict__.get("_kl_build_shapes")
        found = quantized_below(self)
        return {**(shapes or {}), "quantized": found} if found else shapes

    # -- calling ------------------------------------------------------------------------------

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """The layer's function; subclasses write it."""
        raise NotImplementedError(f"{type(self).__name__} does not implement call().")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The same as calling; torch's name for it."""
        return self(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        outer, scopes.backend = scopes.backend, self.backend
        try:
            return self._call(args, kwargs)
        finally:
            scopes.backend = outer

    __call__.autograph_info__ = None  # TensorFlow's autograph need not convert what is inside

    def _call(self, args: tuple, kwargs: dict) -> Any:
        spec = self._kl_spec
        compute = self.dtype_policy.compute_dtype
        module = backends.MODULES[self.backend]
        target = module.native(compute) if self.autocast else None
        args = tuple([self._input(x, target) for x in args])
        if kwargs:
            kwargs = {k: self._input(v, target) for k, v in kwargs.items()}
        symbolic = _any_symbolic(args) or (bool(kwargs) and _any_symbolic(kwargs.values()))
        if not self.built:
            self._build(args, kwargs)
        if self.input_spec is not None and args:
            check_input_spec(self.input_spec, args[0], self.name)

        # training: said here, else by the outer call, else the default
        outer = scopes.call
        training = kwargs.pop("training", None) if not spec.training else kwargs.get("training")
        if training is None and spec.training and "training" in spec.names[: len(args)]:
            training = args[spec.names.index("training")]
        if training is None:
            training = outer.training if outer is not None else self.__dict__.get("_kl_mode")
        if training is None and spec.training:
            default = spec.training_default
            training = default if isinstance(default, bool) else None
        if spec.training and "training" not in spec.names[: len(args)]:
            kwargs["training"] = bool(training) if training is not None else False

        if masking.any_masks() and not symbolic:
            self._fill_masks(spec, args, kwargs)
        if symbolic:
            return self._symbolic(args, kwargs, training)

        if outer is None or outer.training != training:
            scopes.call = _CallContext(training)
        if outer is None and _lossy:
            self._clear_losses()
        cast, scopes.autocast = scopes.autocast, compute if self.autocast else None
        try:
            outputs = self.call(*args, **kwargs)
        finally:
            scopes.autocast, scopes.call = cast, outer
        if masking.any_masks() or spec.makes_masks:
            self._set_masks(args, kwargs, outputs)
        if self.activity_regularizer is not None:
            for x in tree.flatten(outputs):
                self.add_loss(_per_sample(self.activity_regularizer(x), x))
        return outputs

    def _input(self, x: Any, target: Any) -> Any:
        """One argument: literals become tensors, foreign tensors are moved, floats are cast."""
        kind = type(x)
        name = OF.get(kind) or (None if kind in _PLAIN else backends.of(x))
        if name == self.backend:
            if target is None or x.dtype == target:
                return x
            # Of its own backend alone: Dynamo cannot hash another framework's dtypes.
            if x.dtype not in backends.MODULES[name].FLOATING:
                return x
        elif name == "symbolic" or kind in _PLAIN:
            return x
        made = self._converted(x, name, target)
        if masking.any_masks() and (mask := masking.get_mask(x)) is not None:
            masking.set_mask(made, self._input(mask, None))
        return made

    def _converted(self, x: Any, name: str | None, target: Any) -> Any:
        module = backends.MODULES[self.backend]
        if name == self.backend:
            return module.cast(x, self.compute_dtype)
        if name is not None:
            return self._input(backends.to_backend(x, self.backend), target)
        if isinstance(x, Variable):
            return self._input(x.value, target)
        if isinstance(x, _ARRAYS):
            if x.dtype.kind in "OSU":
                return x
            if x.dtype == np.float64 or (target is not None and x.dtype.kind == "f"):
                return module.convert(x, module.canonical(self.compute_dtype))
            x = module.convert(x)
            return self._input(x, target) if self.backend != "numpy" else self._numpy(x, target)
        if isinstance(x, _SEQUENCES) and x and all(type(y) in (int, float, list) for y in x):
            return self._input(np.asarray(x, *(() if _whole(x) else ("float32",))), target)
        if tree.is_nested(x):
            return tree.map_structure(lambda y: self._input(y, target), x)
        return x

    def _numpy(self, x: np.ndarray, target: Any) -> np.ndarray:
        floating = target is not None and x.dtype in backends.FLOATING
        return x.astype(target, copy=False) if floating else x

    def _symbolic(self, args: tuple, kwargs: dict, training: bool | None) -> Any:
        custom = type(self).compute_output_spec is not Layer.compute_output_spec
        if custom:
            outputs = self.compute_output_spec(*args, **kwargs)
        else:
            outputs = self._infer(args, kwargs, training)
        # The graph keeps training=True; otherwise a later call of the model decides.
        kwargs = {k: v for k, v in kwargs.items() if k != "training" or v}
        Node(self, args, kwargs, outputs)
        return outputs

    def _infer(self, args: tuple, kwargs: dict, training: bool | None) -> Any:
        module = backends.load(self.backend)
        target = module.native(self.compute_dtype) if self.autocast else None

        def run(*a: Any, **k: Any) -> Any:
            a = [self._input(x, target) for x in a]  # as a real call casts them
            k = {name: self._input(x, target) for name, x in k.items()}
            outer = scopes.call, scopes.autocast
            scopes.call = _CallContext(training)
            scopes.autocast = self.compute_dtype if self.autocast else None
            try:
                with SpecScope():
                    return self.call(*a, **k)
            finally:
                scopes.call, scopes.autocast = outer
                self._clear_losses()

        return infer(run, args, kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """The symbolic outputs for symbolic inputs, by abstract evaluation of `call`."""
        return self._infer(args, kwargs, kwargs.get("training"))

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        """The shapes of the outputs for input shapes, by abstract evaluation."""
        with backends.use_backend(self.backend):
            dtype = self.compute_dtype
            inputs = [_map_shapes(lambda s: KerasTensor(s, dtype), a) for a in args]
            named = {
                k.removesuffix("_shape"): _map_shapes(lambda s: KerasTensor(s, dtype), v)
                for k, v in kwargs.items()
            }
            out = self(*inputs, **named)
        return tree.map_structure(lambda x: x.shape, out)

    # -- masks and losses ---------------------------------------------------------------------

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The mask of the outputs: the inputs', where the layer supports masking."""
        return previous_mask if self.supports_masking else None

    def _fill_masks(self, spec: _CallSpec, args: tuple, kwargs: dict) -> None:
        given = dict(zip(spec.names, args, strict=False))
        for name in spec.masks:
            if kwargs.get(name) is None and given.get(name) is None:
                source = name.removesuffix("mask").rstrip("_")
                x = args[0] if not source and args else given.get(source, kwargs.get(source))
                if x is not None:
                    mask = tree.map_structure(masking.get_mask, x)
                    if any(m is not None for m in tree.flatten(mask)):
                        kwargs[name] = mask

    def _set_masks(self, args: tuple, kwargs: dict, outputs: Any) -> None:
        if not args:
            return
        previous = kwargs.get("mask")
        if previous is None:
            previous = tree.map_structure(masking.get_mask, args[0])
        custom = type(self).compute_mask is not Layer.compute_mask
        if not custom and not self.supports_masking:
            return
        flat = tree.flatten(previous)
        if not custom and all(m is None for m in flat):
            return
        mask = self.compute_mask(args[0], previous)
        if not custom and tree.is_nested(mask) and not tree.is_nested(outputs):
            mask = next((m for m in tree.flatten(mask) if m is not None), None)
        masks = tree.flatten(mask)
        for x, m in zip(tree.flatten(outputs), masks, strict=False):
            if m is not None and all(x is not a for a in tree.flatten(args)):
                masking.set_mask(x, m)

    def add_loss(self, loss: Any) -> None:
        """Add scalars to the loss of the training step; call it inside `call`."""
        _lossy.add(self)
        self._kl_losses.extend(tree.flatten(loss))

    @property
    def losses(self) -> list[Any]:
        """What `add_loss` collected in the last call, and the penalties on the variables."""
        found = [x for layer in self.flatten_layers() for x in layer._kl_losses]
        for _, variable, trained in tracking.tracked_weights(self):
            if variable.regularizer is not None and trained:
                found.append(variable.regularizer(variable.value))
        return found

    def _clear_losses(self) -> None:
        if _lossy:
            for layer in _lossy.intersection(self.flatten_layers()):
                layer._kl_losses.clear()
                _lossy.discard(layer)

    # -- state without side effects -----------------------------------------------------------

    def stateless_call(
        self,
        trainable_variables: list[Any],
        non_trainable_variables: list[Any],
        *args: Any,
        return_losses: bool = False,
        **kwargs: Any,
    ) -> tuple:
        """Call with given values of the variables, changing nothing.

        Args:
            trainable_variables: values in the order of `trainable_variables`.
            non_trainable_variables: values in the order of `non_trainable_variables`.
            args: what the layer is called with.
            return_losses: whether `losses` are returned too.
            kwargs: keyword arguments of the call.

        Returns:
            (outputs, new values of the non-trainable variables), and the losses if asked for.
        """
        if not self.built:
            raise ValueError(f"Layer {self.name!r} must be built before stateless_call.")
        pairs = []
        for variables, values, kind in (
            (self.trainable_variables, list(trainable_variables), "trainable"),
            (self.non_trainable_variables, list(non_trainable_variables), "non-trainable"),
        ):
            if len(variables) != len(values):
                raise ValueError(
                    f"Layer {self.name!r} has {len(variables)} {kind} variables, "
                    f"but {len(values)} values were given."
                )
            pairs += zip(variables, values, strict=True)
        with StatelessScope(pairs) as scope:
            outputs = self(*args, **kwargs)
            losses = self.losses if return_losses else None
        self._clear_losses()
        new = [
            value if (value := scope.get(v)) is not None else v.value
            for v in self.non_trainable_variables
        ]
        return (outputs, new, losses) if return_losses else (outputs, new)

    # -- configs, copies, backends ------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """The arguments to make the layer again."""
        from keraslite.registry import serialize_keras_object as serialize

        config = {
            "name": self.name, "trainable": self.trainable, "dtype": serialize(self.dtype_policy),
        }  # fmt: skip
        if self.activity_regularizer is not None:
            config["activity_regularizer"] = serialize(self.activity_regularizer)
        cls = public_class(type(self))
        if cls.get_config is Layer.get_config and cls.__init__ is not Layer.__init__:
            args, kwargs = self._kl_init
            bound = _signature(cls.__init__).bind_partial(self, *args, **kwargs).arguments
            given = {k: v for k, v in bound.items() if k not in ("self", "kwargs")}
            config |= {k: serialize(v) for k, v in {**given, **bound.get("kwargs", {})}.items()}
            names = _signature(cls.__init__).parameters
            if not any(p.kind is p.VAR_KEYWORD for p in names.values()):
                config = {k: v for k, v in config.items() if k in names}
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Layer":
        """The layer of a config."""
        from keraslite.registry import deserialize_keras_object as deserialize

        try:
            return cls(**{k: deserialize(v) for k, v in config.items()})
        except TypeError as error:
            raise TypeError(
                f"{cls.__name__} cannot be made from the config {sorted(config)}: {error}. Write "
                "get_config() and from_config() so that they match its __init__()."
            ) from error

    def to_backend(self, name: str) -> "Layer":
        """Move the layer and all inside it to another backend, in place.

        Args:
            name: the backend; values move by DLPack where both sides allow it, else by numpy.
        """
        for variable in self.variables:
            variable.to_backend(name)
        for layer in self.flatten_layers():
            layer._rehome(name)
        for metric in tracking.all_metrics(self):
            metric.to_backend(name)
        return self

    def _rehome(self, name: str) -> None:
        backends.load(name)
        object.__setattr__(self, "__class__", _for_backend(type(self), name))
        self.__dict__["backend"] = name
        if hasattr(type(self), "_init_backend"):
            self._init_backend()

    def __reduce__(self) -> tuple:
        return _rebuild, (public_class(type(self)), self.backend), self.__dict__.copy()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"

    def save_own_variables(self, store: dict[str, Any]) -> None:
        """Put the layer's own variables into a mapping, by number."""
        for i, (_, variable) in enumerate(self.own_variables()):
            store[str(i)] = variable.numpy()

    def load_own_variables(self, store: dict[str, Any]) -> None:
        """Take the layer's own variables from a mapping, by number."""
        for i, (_, variable) in enumerate(self.own_variables()):
            variable.assign(store[str(i)])


# Tuples, not unions: Dynamo does not trace `list | tuple`.
_ARRAYS, _SEQUENCES = (np.ndarray, np.generic), (list, tuple)
_PLAIN = (type(None), bool, int, float, str, slice)


def _per_sample(loss: Any, x: Any) -> Any:
    """A penalty on outputs as a mean over the batch, as Keras takes it."""
    count = core.shape(x)[0] if len(x.shape) else 1
    return knp.divide_no_nan(loss, core.cast(count, core.dtype(loss)))


def _any_symbolic(values: Any) -> bool:
    return any(
        type(x) is KerasTensor or (type(x) in (list, tuple, dict) and is_symbolic(x))
        for x in values
    )


def _whole(x: Any) -> bool:
    return np.asarray(x).dtype.kind in "iub"


def _shapes(x: Any) -> Any:
    return tree.map_structure(lambda t: tuple(t.shape) if hasattr(t, "shape") else None, x)


def _as_shape(value: Any) -> Any:
    """A shape out of JSON: a list of ints becomes a tuple, nested ones are gone through."""
    if isinstance(value, dict):
        return {k: _as_shape(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        if all(v is None or isinstance(v, int) for v in value):
            return tuple(value)
        return [_as_shape(v) for v in value]
    return value


def _map_shapes(make: Any, shape: Any) -> Any:
    shape = _as_shape(shape)
    if isinstance(shape, dict):
        return {k: _map_shapes(make, v) for k, v in shape.items()}
    return make(shape) if isinstance(shape, tuple) else [_map_shapes(make, s) for s in shape]


def _constraint(identifier: Any) -> Any:
    from keraslite import constraints

    return constraints.get(identifier)
