"""Layer: build, call, state, config, nothing else.

A layer belongs to the backend that was current when it was made. Under torch it is a
torch.nn.Module and under TensorFlow a tf.Module: a class derived for that backend is used in the
place of the one named, so the class a user wrote stays free of frameworks. Variables and sublayers
are found by looking at the layer's attributes, so nothing has to be registered.
"""

from functools import cache
from typing import Any, Self

from keraslite import backend as backends
from keraslite import (
    constraints,
    dtype_policies,
    initializers,
    masking,
    quantizers,
    regularizers,
)
from keraslite.dtype_policies import PolicyAtPath
from keraslite.layers.base import losses, moving
from keraslite.layers.base.building import (
    as_shape,
    collect_build_config,
    restore_build_state,
    scoped,
    set_build_shapes,
    shapes_for_build,
    shapes_in,
    shapes_of,
)
from keraslite.layers.base.calls import CallContext, CallSpec, resolve_training
from keraslite.layers.base.config import layer_config, own_arguments
from keraslite.layers.base.input_spec import check_input_spec
from keraslite.layers.base.inputs import InGraphError, any_symbolic, convert_input
from keraslite.layers.base.masks import (
    FOLLOW_MASKS,
    any_masked,
    fill_masks,
    follows_masks,
    set_masks,
)
from keraslite.layers.base.stateless import stateless_call
from keraslite.layers.base.symbolic_call import (
    KEEP_SHAPE,
    add_node,
    infer_masks,
    infer_output_shape,
    infer_outputs,
    known_output,
)
from keraslite.layers.base.tracking import Tracked
from keraslite.naming import auto_name, fix_path, layer_scope, to_snake_case
from keraslite.operation import Operation
from keraslite.registry import deserialize_keras_object, public_class
from keraslite.scopes import scopes, state_lock
from keraslite.symbolic import values_of
from keraslite.typing import Tensor
from keraslite.variable import Variable


@cache
def _call_spec(cls: type) -> CallSpec:
    return CallSpec(cls.call, cls.compute_mask not in FOLLOW_MASKS)


class _UnknownArgumentsError(ValueError):
    """A constructor got keywords that nobody takes."""


class Layer(Tracked, Operation):
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

    # The framework whose code its calls run, on whatever backend; None where it is keraslite's.
    _kl_framework: str | None = None
    # Whether XLA can compile its calls; a step that is to be compiled runs without it otherwise.
    supports_jit: bool = True
    # Makes a layer of a torch.nn.Module that becomes an attribute, as in Keras.
    _kl_wrapped_module: Any = None
    _kl_hooked = False  # whether it has hooks of torch.nn.Module

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        name = backends.backend()
        derived = moving.class_for_backend(cls, name)
        self = object.__new__(derived)
        self.__dict__.update(
            backend=name, built=False, supports_masking=False, _kl_init=(args, kwargs),
            _kl_trainable=True, input_spec=None, activity_regularizer=None,
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
            cls = public_class(type(self)).__name__
            message = f"Unrecognized keyword arguments passed to {cls}: {kwargs}"
            raise _UnknownArgumentsError(message)
        if not isinstance(trainable, bool):
            raise ValueError(f"`trainable` must be a boolean, got {trainable!r}.")
        self._name = name or auto_name(to_snake_case(type(self).__name__))
        self._kl_policy = self._policy_of(dtype_policies.get(dtype))
        self.activity_regularizer = regularizers.get(activity_regularizer)
        self.autocast = autocast
        self._kl_trainable = trainable

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "build" in cls.__dict__:
            cls.build = scoped(cls.__dict__["build"])

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.__dict__.get("_name") or to_snake_case(type(self).__name__)

    @name.setter
    def name(self, value: str) -> None:
        self.__dict__["_name"] = value

    @property
    def path(self) -> str | None:
        """The beginning of its variables' paths: the layers around it; None until it is built."""
        path = self.__dict__.get("_kl_path")
        return path.removesuffix("/") if path else None

    # -- dtypes -------------------------------------------------------------------------------

    @property
    def dtype_policy(self) -> dtype_policies.DTypePolicy:
        """The dtypes of the variables and of the computation; set, a name or a dtype will do.

        To set a quantized one, such as "int8_from_float32", quantizes a layer that is built. Of a
        layer with a `DTypePolicyMap` it is the map; to set it changes the entry of its path.
        """
        policy = self._kl_policy
        return policy.policies if isinstance(policy, PolicyAtPath) else policy

    @dtype_policy.setter
    def dtype_policy(self, value: Any) -> None:
        policy = dtype_policies.get(value)
        if policy.quantization_mode and self.built and not self.quantization_mode:
            config = quantizers.config_of_policy(policy)
            self.quantize(policy.quantization_mode, config=config)
        self.set_policy(policy)

    @property
    def own_policy(self) -> dtype_policies.DTypePolicy:
        """The policy of the layer itself: of a `DTypePolicyMap` the one of its path."""
        policy = self._kl_policy
        return policy.policy if isinstance(policy, PolicyAtPath) else policy

    def set_policy(self, policy: dtype_policies.DTypePolicy) -> None:
        """Set the policy, and change nothing else; within a map the one of the layer's path."""
        if isinstance(self._kl_policy, PolicyAtPath) and self.path:
            self._kl_policy.policy = policy
        else:
            self._kl_policy = self._policy_of(policy)

    def _policy_of(self, policy: dtype_policies.DTypePolicy) -> Any:
        mapped = isinstance(policy, dtype_policies.DTypePolicyMap)
        return PolicyAtPath(policy, self) if mapped else policy

    @property
    def dtype(self) -> str:
        """The dtype of the variables."""
        return self._kl_policy.variable_dtype

    variable_dtype = dtype

    @property
    def compute_dtype(self) -> str:
        """The dtype of the computation."""
        return self._kl_policy.compute_dtype

    @property
    def input_dtype(self) -> str:
        """The dtype to which float inputs are cast."""
        return self._kl_policy.compute_dtype

    @property
    def quantization_mode(self) -> str | None:
        """The quantization mode of the large weights, such as "int8"; None if there is none."""
        return self.own_policy.quantization_mode

    def quantize(
        self, mode: str | None = None, type_check: bool = True, config: Any = None
    ) -> None:
        """Keep the large weights in few bits; Dense, EinsumDense and Embedding can."""
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
        overwrite_with_gradient: bool = False,
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
            overwrite_with_gradient: whether its gradient is its next value.
            name: its name.
        """
        if None in (shape or ()):
            raise ValueError(
                f"Layer {self.name!r}: the shape of a weight must be known, got {tuple(shape)}. "
                "Give the Input the size of that axis."
            )
        if initializer is None:
            whole = dtype is not None and not str(dtype).startswith(("float", "bfloat"))
            initializer = "zeros" if whole else "glorot_uniform"
        with backends.backend_scope(self.backend), layer_scope(self):
            variable = Variable(
                initializers.get(initializer) if not callable(initializer) else initializer,
                shape=shape or (), dtype=dtype or self.variable_dtype, trainable=trainable,
                autocast=autocast, aggregation=aggregation, name=name,
            )  # fmt: skip
        variable.regularizer = regularizers.get(regularizer)
        variable.constraint = constraints.get(constraint)
        variable.overwrite_with_gradient = overwrite_with_gradient
        self.__dict__.setdefault("_kl_added", []).append(variable)
        return variable

    def add_variable(
        self,
        shape: tuple,
        initializer: Any,
        dtype: Any = None,
        trainable: bool = True,
        autocast: bool = True,
        **kwargs: Any,
    ) -> Variable:
        """The same as `add_weight`."""
        return self.add_weight(shape, initializer, dtype, trainable, autocast, **kwargs)

    def build(self, *args: Any, **kwargs: Any) -> None:
        """Make the variables for an input shape; by default the layers inside build themselves.

        A layer that overrides it names its shapes: `input_shape`, or one `..._shape` an input.
        """
        self.built = True

    def _build(self, args: tuple, kwargs: dict) -> None:
        """Call `build` with the shapes of the arguments it names."""
        if type(self).build is Layer.build:
            set_build_shapes(self, {"input_shape": shapes_of(args[0])} if args else {})
            return
        with state_lock:
            if self.built:  # by another thread
                return
            shapes = shapes_for_build(self, args, kwargs)
            self.build(**shapes)
            set_build_shapes(self, shapes)

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Build from what `get_build_config` gave."""
        shapes = {k: as_shape(v) for k, v in shapes_in(config).items()}
        if len(shapes) == 1:  # Keras's configs call it `input_shape`, whatever `build` does
            self.build(*shapes.values())
        else:
            self.build(**shapes)
        set_build_shapes(self, shapes)
        restore_build_state(self, config)

    def restore_build(self, config: dict[str, Any]) -> None:
        """Bring a layer of a file to how it was built: in its constructor, or by that file.

        Args:
            config: what `get_build_config` gave.
        """
        if not self.built:
            self.build_from_config(config)
        restore_build_state(self, config)

    def get_build_config(self) -> dict[str, Any] | None:
        """The shapes that the layer was built with, and what else changed inside it since."""
        return collect_build_config(self)

    # -- calling ------------------------------------------------------------------------------

    def call(self, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's function; subclasses write it."""
        raise NotImplementedError(f"{type(self).__name__} does not implement call().")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The same as calling, without the hooks of torch; torch's name for it."""
        outer, scopes.backend = scopes.backend, self.backend
        try:
            return self._call(args, kwargs)
        finally:
            scopes.backend = outer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._kl_hooked and not (any_symbolic(args) or any_symbolic(kwargs.values())):
            return self._kl_call_with_hooks(args, kwargs)
        outer, scopes.backend = scopes.backend, self.backend
        try:
            return self._call(args, kwargs)
        finally:
            scopes.backend = outer

    __call__.autograph_info__ = None  # TensorFlow's autograph need not convert what is inside

    def _call(self, args: tuple, kwargs: dict) -> Any:
        spec, compute = self._kl_spec, self._kl_policy.compute_dtype
        target = backends.MODULES[self.backend].native(compute) if self.autocast else None
        try:
            converted = tuple([convert_input(self, x, target) for x in args])
            if kwargs:
                kwargs = {k: convert_input(self, v, target) for k, v in kwargs.items()}
        except InGraphError:  # as in tf.data.Dataset.map
            return moving.copy_for_graph(self)(*args, **kwargs)
        args = converted
        symbolic = any_symbolic(args) or (bool(kwargs) and any_symbolic(kwargs.values()))
        if not self.built:
            self._build(args, kwargs)
        if self.input_spec is not None and args:
            check_input_spec(self.input_spec, args[0], self.name)
        outer, asked = scopes.call, kwargs.get("training")
        training = resolve_training(self, spec, args, kwargs, outer)
        if symbolic:
            return self._symbolic(args, kwargs, training, asked)
        if masking.any_masks():
            fill_masks(self, args, kwargs)
        if outer is None or outer.training != training:
            scopes.call = CallContext(training)
        if outer is None and scopes.losses:
            losses.clear_losses(self)
        cast, scopes.autocast = scopes.autocast, compute if self.autocast else None
        path, scopes.path = scopes.path, self.__dict__.get("_kl_path") or fix_path(self)
        try:
            outputs = self.call(*args, **kwargs)
        finally:
            scopes.autocast, scopes.call, scopes.path = cast, outer, path
        if masking.any_masks() or spec.makes_masks:
            set_masks(self, args, kwargs, outputs)
        if self.activity_regularizer is not None:
            losses.penalize_outputs(self, outputs)
        return outputs

    def _symbolic(
        self, args: tuple, kwargs: dict, training: bool | None, asked: bool | None
    ) -> Any:
        if scopes.value_of is not None:  # in a function that a symbolic call was given
            args, kwargs = values_of((args, kwargs))
            return self(*args, **kwargs)
        if type(self).compute_output_spec is not Layer.compute_output_spec:
            outputs = self.compute_output_spec(*args, **kwargs)
        else:
            outputs = known_output(self, args, kwargs)
            if outputs is None:
                outputs = infer_outputs(self, args, kwargs, training)
        add_node(self, args, kwargs, outputs, asked)
        if self._kl_spec.makes_masks or any_masked((args, kwargs)):
            infer_masks(self, args, kwargs, training, outputs)
        return outputs

    def keeps_shape(self) -> bool:
        """Whether the output has the shape of the input, as the `call` of the class says."""
        return type(self).call in KEEP_SHAPE

    def known_dims(self, dims: tuple) -> tuple | None:
        """The sizes of the output of a plain call; None where `call` has to be looked at.

        Args:
            dims: the sizes of the input: ints, and Dims where they are not known.
        """
        return dims if self.keeps_shape() else None

    def merged_dims(self, shapes: list[tuple]) -> tuple | None:
        """The sizes of the output of a plain call on a list, as those of `known_dims`.

        Args:
            shapes: the sizes of each input.
        """
        return None

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """The symbolic outputs for symbolic inputs, by abstract evaluation of `call`."""
        return infer_outputs(self, args, kwargs, kwargs.get("training"))

    def compute_output_shape(self, *args: Any, **kwargs: Any) -> Any:
        """The shapes of the outputs for input shapes, by abstract evaluation."""
        return infer_output_shape(self, args, kwargs)

    # -- masks and losses ---------------------------------------------------------------------

    @follows_masks
    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> Any:
        """The mask of the outputs: the inputs', where the layer supports masking."""
        return previous_mask if self.supports_masking else None

    def add_loss(self, loss: Any) -> None:
        """Add scalars to the loss of the training step; call it inside `call`."""
        losses.add_loss(self, loss)

    @property
    def losses(self) -> list[Any]:
        """The losses of `add_loss` in the last call, and the penalties on the variables."""
        return losses.all_losses(self)

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
        return stateless_call(
            self, trainable_variables, non_trainable_variables, args, kwargs, return_losses
        )

    # -- configs, copies, backends ------------------------------------------------------------

    def keep_config(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Make the arguments of a constructor the layer's config, as they are.

        A class that neither calls this nor has a `get_config` of its own is described by the
        arguments that it was made with.

        Args:
            arguments: `locals()`, as the first thing in `__init__`; those that every layer takes
                are left out.

        Returns:
            The arguments of the config, to be read and changed until the constructor is through.

        >>> class Shift(Layer):
        ...     def __init__(self, by=None, **kwargs):
        ...         config = self.keep_config(locals())
        ...         config["by"] = config["by"] or 1
        ...         super().__init__(**kwargs)
        >>> Shift(name="shift").get_config()["by"]
        1
        """
        self._kl_config = own_arguments(arguments)
        return self._kl_config

    def get_config(self) -> dict[str, Any]:
        """The arguments to make the layer again."""
        cls = public_class(type(self))
        automatic = cls.get_config is Layer.get_config and cls.__init__ is not Layer.__init__
        return layer_config(self, automatic)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The layer of a config."""
        try:
            return cls(**{k: deserialize_keras_object(v) for k, v in config.items()})
        except (TypeError, _UnknownArgumentsError) as error:
            raise TypeError(
                f"{cls.__name__} cannot be made from the config {sorted(config)}: {error}. Write "
                "get_config() and from_config() so that they match its __init__()."
            ) from error

    def to_backend(self, name: str) -> Self:
        """Move the layer and all inside it to another backend, in place.

        Args:
            name: the backend; values move by DLPack where both sides allow it, else by numpy.
        """
        moving.move_layer(self, name)
        return self

    def set_backend(self, name: str) -> None:
        """Make the layer one of another backend; its variables are moved by `to_backend`."""
        object.__setattr__(self, "__class__", moving.class_for_backend(type(self), name))
        self.__dict__["backend"] = name
        if hasattr(type(self), "_init_backend"):
            self._init_backend()

    def __reduce__(self) -> tuple:
        return moving.new_layer, (public_class(type(self)), self.backend), self.__getstate__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"
