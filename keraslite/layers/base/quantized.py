"""Layers whose large weights can be quantized: kept in few bits, or multiplied in few."""

import math
from collections.abc import Iterator
from typing import Any

from keraslite import dtype_policies, ops, quantizers, registry
from keraslite.layers.base.building import register_build_state
from keraslite.layers.base.layer import Layer
from keraslite.layers.base.lora import LoRA
from keraslite.layers.base.modes import MODES, Int4Layout, Mode
from keraslite.layers.base.tracking import forget_variable
from keraslite.registry import public_class
from keraslite.variable import Variable


class Quantized(LoRA):
    """A layer with large weights that can be quantized; `modes` says what a mode makes of them."""

    quantization_modes = dtype_policies.QUANTIZATION_MODES
    zero_point_name = "kernel_zero"  # the name of the variable of zero points, after calibration

    @property
    def weight_mode(self) -> Mode | None:
        """The quantization mode of the large weights; None where they are floats."""
        return MODES.get(self.quantization_mode)

    # -- what a layer says of its weights -------------------------------------------------------

    def weight_shape(self, name: str) -> tuple[int, ...]:
        """Return the shape that a large weight has in floats."""
        shapes = self.__dict__.get("_kl_weight_shapes", {})
        return shapes.get(name) or self.__dict__[name].shape

    def scale_axes(self, name: str) -> tuple[int, ...]:
        """Return the axes of a weight that share a scale."""
        raise NotImplementedError

    def scale_shape(self, name: str) -> tuple[int, ...]:
        """The shape in which the scales of int8 are kept: one number for each output channel."""
        shape, reduced = self.weight_shape(name), self.scale_axes(name)
        return tuple(size for i, size in enumerate(shape) if i not in reduced)

    def stored_scale(self, name: str, scale: Any) -> Any:
        """Scales as a quantizer gives them, in the shape in which they are kept."""
        return scale.reshape(self.scale_shape(name))

    def broadcast_scale(self, name: str) -> Any:
        """The kept scales of int8, in a shape that broadcasts with the weight."""
        return ops.expand_dims(getattr(self, f"{name}_scale").value, self.scale_axes(name))

    def int4_layout(self, name: str) -> Int4Layout:
        """Return how a weight lies in the matrix that int4 packs."""
        shape, summed = self.weight_shape(name), self.scale_axes(name)
        rows = math.prod(shape[i] for i in summed)
        return Int4Layout((rows, math.prod(shape) // rows))

    def matrix_shape(self, name: str) -> tuple[int, int]:
        """Return the (inputs, outputs) of a weight that is fitted to data."""
        rows, columns = self.int4_layout(name).shape
        return rows, columns

    def as_matrix(self, name: str, weight: Any) -> Any:
        """Return a weight as a matrix (inputs, outputs)."""
        return ops.reshape(weight, self.matrix_shape(name))

    def from_matrix(self, name: str, matrix: Any) -> Any:
        """Return a matrix (inputs, outputs) as a weight."""
        return ops.reshape(matrix, self.weight_shape(name))

    def inputs_as_rows(self, inputs: Any) -> Any:
        """Return inputs as rows (rows, inputs)."""
        return ops.reshape(inputs, (-1, self.matrix_shape(self.adapted_weight)[0]))

    def summed_input_axes(self) -> tuple[int, ...]:
        """Return the axes of the inputs that are summed over."""
        return (-1,)

    @property
    def inputs_quantizer(self) -> Any:
        """The quantizer of the inputs; None leaves them floats."""
        if self.quantization_config is None:
            return self.weight_mode.default_quantizer
        return self.quantization_config.activation_quantizer

    # -- products -------------------------------------------------------------------------------

    def multiply(self, inputs: Any, weight: Any) -> Any:
        """Return the product of inputs and the weight in floats."""
        raise NotImplementedError

    def multiply_frozen(
        self, inputs: Any, weight_of: Any, parts: tuple, product: Any = None
    ) -> Any:
        """Return the product with a weight that a function makes of tensors, which are not trained.

        Args:
            inputs: floats.
            weight_of: a function of the tensors; it runs again for gradients.
            parts: the tensors.
            product: a quicker function of rows of inputs and the tensors, for weights that are
                matrices; None makes the weight.
        """
        return self.multiply(inputs, weight_of(*parts))

    def int8_product(self, inputs: Any) -> Any:
        """Return the product of quantized inputs and the weight in int8."""
        raise NotImplementedError

    def effective_weight(self) -> Any:
        """The weight's value in floats, with the update if there is one."""
        mode = self.weight_mode
        if mode is None:
            return super().effective_weight()
        weight = mode.weight(self, self.adapted_weight)
        return ops.add(weight, self.weight_update()) if self.lora_enabled else weight

    def finish_call(self, inputs: Any, out: Any, bias: Any = None, activation: Any = None) -> Any:
        """Return the output of a call from the product: add update and bias, and activate."""
        if self.lora_enabled:
            a, b = (getattr(self, f"lora_{self.adapted_weight}_{side}").value for side in "ab")
            part = ops.multiply(self.apply_update(inputs, a, b), self.lora_alpha / self.lora_rank)
            out = ops.cast(ops.add(out, part), self.compute_dtype)
        if bias is not None:
            out = ops.add(out, MODES[self.quantization_mode].bias(self, bias))
        return out if activation is None else activation(out)

    def apply_update(self, inputs: Any, a: Any, b: Any) -> Any:
        """The product with the two matrices of the update."""
        return ops.matmul(ops.matmul(inputs, a), b)

    # -- variables ------------------------------------------------------------------------------

    @property
    def base_weight(self) -> Any:
        """The variable of the weight, without the update; None before it is built."""
        name = self.adapted_weight
        return self.__dict__.get(name, self.__dict__.get(f"quantized_{name}"))

    def add_large_weight(self, name: str, shape: tuple, **kwargs: Any) -> None:
        """Make a large weight: what the mode of the dtype policy makes of it, if it has one."""
        mode = self.weight_mode
        self.__dict__.setdefault("_kl_weight_shapes", {})[name] = tuple(shape)
        if mode is not None:
            self._check_mode(self.quantization_mode)
            self._add_variables(mode, name)
        if mode is None or mode.keeps_floats:
            setattr(self, name, self.add_named_weight(name, shape, **kwargs))

    def _add_variables(self, mode: Mode, name: str) -> list[Variable]:
        added = []
        for attribute, options in mode.variables(self, name).items():
            if attribute not in self.__dict__:  # two weights may share one
                variable = self.add_weight(**{"name": attribute} | options)
                setattr(self, attribute, variable)
                added.append(variable)
        return added

    def quantize(
        self, mode: str | None = None, type_check: bool = True, config: Any = None
    ) -> None:
        """Quantize the large weights, from now on and in what is saved.

        Args:
            mode: "int8"; "int4"; "float8", which rounds what is multiplied in training; or "gptq"
                and "awq", whose weights stay floats until `Model.quantize` fits them to data.
            type_check: whether classes derived from the package's are refused: their `call` may
                read the weight as floats.
            config: options of the mode, such as a `quantizers.Int8QuantizationConfig`.

        Example:
            >>> layer = layers.Dense(2)
            >>> layer.build((None, 3))
            >>> layer.quantize("int8")
            >>> layer.kernel.dtype, layer.dtype_policy.name
            ('int8', 'int8_from_float32')
        """
        config = self.check_quantizable(mode, type_check, config)
        made = MODES[config.mode]
        values = {}
        for name in self.large_weights():
            values |= made.values(self, name, self.__dict__[name].numpy(), config)
        self.become_quantized(config, keep_floats=made.needs_data)
        self.set_quantized(values)

    def set_quantized(self, values: dict[str, Any]) -> None:
        """Set the variables of quantized weights.

        Args:
            values: by attributes.
        """
        for attribute, value in values.items():
            self.__dict__[attribute].assign(value)

    def calibrate(self, statistic: Any) -> None:
        """Fit the weight to the inputs that a statistic saw, and drop its floats.

        Args:
            statistic: what the mode's `new_statistic` made.
        """
        mode: Any = self.weight_mode
        name = self.adapted_weight
        weight = self.__dict__[name].numpy()
        self.set_quantized(mode.calibrated_values(self, name, weight, statistic))
        forget_variable(self, self.__dict__.pop(name))

    def check_quantizable(self, mode: Any, type_check: bool = True, config: Any = None) -> Any:
        """The config that `quantize` would follow; an error if the layer cannot.

        Args:
            mode: as for `quantize`.
            type_check: as for `quantize`.
            config: as for `quantize`.
        """
        config = quantizers.resolve(mode, config)
        if not self.built:
            raise ValueError(
                f"Cannot quantize a layer that isn't yet built: {self.name!r}. Call it, or build "
                "it first."
            )
        if self.quantization_mode is not None:
            raise ValueError(
                f"Layer {self.name!r} is already quantized with "
                f"dtype_policy={self.own_policy.name!r}. Received: mode={config.mode}"
            )
        if type_check and not public_class(type(self)).__module__.startswith("keraslite."):
            Layer.quantize(self, config.mode)
        self._policy_from(config)  # refuses float16
        self._check_mode(config.mode)
        for name in self.large_weights():
            self.scale_axes(name)
            if MODES[config.mode].needs_data:
                self.matrix_shape(name)
        return config

    def _check_mode(self, mode: Any) -> None:
        if mode not in self.quantization_modes:
            raise NotImplementedError(
                f"Layer {self.name!r} of the class {type(self).__name__}: expected one of the "
                f"quantization modes {self.quantization_modes}, got {mode!r}."
            )

    def _policy_from(self, config: Any) -> dtype_policies.DTypePolicy:
        mode, source = config.dtype_policy_string(), self.own_policy.name
        return dtype_policies.get(f"{mode}_from_{source}")

    def become_quantized(self, config: Any, keep_floats: bool = False) -> None:
        """Put empty variables of the mode in the place of the float weights.

        Args:
            config: how the layer is quantized.
            keep_floats: whether the float weights stay, for now.
        """
        self.quantization_config = config
        self.set_policy(self._policy_from(config))
        mode = MODES[config.mode]
        for name in self.large_weights():
            old = self.__dict__[name]
            if not (keep_floats or mode.keeps_floats):
                del self.__dict__[name]  # anew, so that its scales come next in order
                forget_variable(self, old)
            below = old.path.removesuffix(old.name)
            for variable in self._add_variables(mode, name):
                variable.path = below + variable.name

    def added_variables(self) -> list[Variable]:
        added, mode = super().added_variables(), self.weight_mode
        for name in self.large_weights() if mode is not None else ():
            others = [n for n in mode.variables(self, name) if not n.endswith(name)]
            added += [self.__dict__[n] for n in others]
        return added

    def float_weight(self, name: str) -> Any:
        if name == self.adapted_weight:
            return self.effective_weight()
        mode = self.weight_mode
        return self.__dict__[name].value if mode is None else mode.weight(self, name)

    def large_variable(self, name: str) -> Variable:
        return self.__dict__[name if name in self.__dict__ else f"quantized_{name}"]

    def _file_order(self) -> list[str]:
        """The attributes in the order in which Keras saves them."""
        mode, bias = self.weight_mode, ["bias"] if getattr(self, "bias", None) is not None else []
        if mode is None:
            return [*self.large_weights(), *bias]
        order: list[str] = []
        for name in self.large_weights():
            others = [n for n in mode.variables(self, name) if n != name and n not in order]
            order += [*([] if mode.needs_data else [name]), *bias, *others]
            bias = []
        return order

    def saved_values(self) -> list[Any]:
        values: dict[str, Any] = {}
        mode, name = self.weight_mode, self.adapted_weight
        if self.lora_enabled and mode is None:
            values[name] = self.effective_weight()
        elif self.lora_enabled:
            if mode.needs_data:
                raise NotImplementedError(
                    f"Layer {self.name!r}: a low-rank update cannot be added to weights that were "
                    "fitted to data. `Model.save(..., weights_format='safetensors')` keeps it "
                    "beside them."
                )
            config = self.quantization_config or quantizers.default_config(self.own_policy)
            weight = ops.convert_to_numpy(ops.cast(self.effective_weight(), self.variable_dtype))
            values = {name: weight} | mode.values(self, name, weight, config)
        return [values.get(n, self.__dict__[n]) for n in self._file_order()]

    def saved_variables(self) -> list[Variable]:
        return [self.__dict__[n] for n in self._file_order()]

    def load_own_variables(self, store: Any) -> None:
        super().load_own_variables(store)
        if self.weight_mode is not None and self.weight_mode.needs_data:
            weight = self.__dict__.pop(self.adapted_weight, None)  # what is saved is calibrated
            if weight is not None:
                forget_variable(self, weight)


def _configs_below(layer: Layer) -> dict[str, Any]:
    """Return how the layers inside a layer were quantized, by their paths."""
    below = _quantized_below(layer)
    return {
        p: x.quantization_config or quantizers.default_config(x.own_policy)
        for p, x in below
        if x.quantization_mode is not None
    }


def _quantize_below(layer: Layer, configs: dict[str, Any]) -> None:
    """Give the layers that were quantized empty weights of their modes again, for a file to fill.

    Configs of files that are older than the other modes may be None, for int8.
    """
    for path, below in _quantized_below(layer):
        if path in configs and below.built and below.quantization_mode is None:
            config = registry.deserialize_keras_object(configs[path])
            below.become_quantized(config or quantizers.Int8QuantizationConfig())


def _quantized_below(layer: Layer, prefix: str = "") -> Iterator[tuple[str, "Quantized"]]:
    for name, child in layer.own_layers():
        if isinstance(child, Quantized):
            yield prefix + name, child
        yield from _quantized_below(child, f"{prefix}{name}/")


register_build_state("quantized", _configs_below, _quantize_below)
