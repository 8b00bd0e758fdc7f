"""Trainer: compile, fit, evaluate and predict, once for all backends.

A train step is written in terms of `value_and_grad` and compiled by the engine's `jit`; everything
that differs between backends lies in those two. Logs stay on the device until somebody reads them.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import callbacks as callbacks_module
from keraslite import config, masking, ops, optimizers, tree
from keraslite.layers.base import tracking
from keraslite.layers.base.layer import Layer
from keraslite.metrics import Mean
from keraslite.registry import deserialize_keras_object, serialize_keras_object
from keraslite.scopes import predictor_of
from keraslite.training.class_weights import class_weighting
from keraslite.training.compiled import CompiledFunctions
from keraslite.training.data import Continued, Mapped, adapt, read_ahead
from keraslite.training.guards import Interrupts, NaNWatch
from keraslite.training.loops import (
    check_counts,
    limited,
    prepare,
    refuse_empty,
    run_epoch,
    run_step,
    steps_of,
)
from keraslite.training.objectives import Objectives
from keraslite.training.stateless_steps import StatelessLoss
from keraslite.training.steps import (
    as_list,
    compiled_step,
    logs_to_numbers,
    row_count,
    takes_argument,
)
from keraslite.utils.data import unpack_x_y_sample_weight as unpack

# What a copy does without: the place in a `fit`, what a loop remembers.
_TRANSIENT = {"_kl_place", "_kl_memory", "_kl_ran"}


class Trainer(StatelessLoss):
    """The methods of a model for training, evaluation and prediction."""

    optimizer: Any = None
    stop_training = stop_evaluating = stop_predicting = False
    _kl_loss_takes_training = True
    # Whether `predict` records its operations where a backend runs eagerly and does them again
    # without the Python around them, as compiling backends do: for models whose Python has no
    # effects of its own.
    replays_predict = False

    # -- compile ------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
        auto_scale_loss: bool = True,
    ) -> None:
        """Configure training.

        Args:
            optimizer: a name or an optimizer.
            loss: a name, loss or function; for several outputs a list, or a dict by output name.
            loss_weights: factors of the losses, alike.
            metrics: names, metrics or functions; for several outputs a list of lists, or a dict.
            weighted_metrics: the same, for metrics that take the sample weights.
            run_eagerly: whether steps run without compiling.
            steps_per_execution: the number of batches of one execution of the compiled step.
            jit_compile: "auto" compiles on jax and tensorflow; True also on torch, and with XLA.
            auto_scale_loss: whether the loss is scaled under the policy mixed_float16.
        """
        check_counts(steps_per_execution=steps_per_execution)
        self.__dict__["_kl_compile"] = {
            "optimizer": optimizer, "loss": loss, "loss_weights": loss_weights,
            "metrics": metrics, "weighted_metrics": weighted_metrics,
            "run_eagerly": run_eagerly, "steps_per_execution": steps_per_execution,
            "jit_compile": jit_compile,
        }  # fmt: skip
        with backends.backend_scope(self.backend):
            self.optimizer = optimizers.get(optimizer)
            policy = getattr(self, "dtype_policy", None)
            scaled = isinstance(self.optimizer, optimizers.LossScaleOptimizer)
            if (
                auto_scale_loss and not scaled
                and policy is not None and policy.name == "mixed_float16"
            ):  # fmt: skip
                self.optimizer = optimizers.LossScaleOptimizer(self.optimizer)
            self._loss_tracker = Mean(name="loss")
        self._kl_objectives = Objectives(loss, loss_weights, metrics, weighted_metrics)
        self._kl_loss_takes_training = takes_argument(self.compute_loss, "training")
        self.run_eagerly, self.steps_per_execution = run_eagerly, steps_per_execution
        self.jit_compile, self.stop_training = jit_compile, False
        self.loss = loss
        self._kl_functions = CompiledFunctions()

    @property
    def compiled(self) -> bool:
        """Whether `compile` was called."""
        return "_kl_compile" in self.__dict__

    @property
    def compile_arguments(self) -> dict[str, Any]:
        """The arguments of `compile`; none before it."""
        return self.__dict__.get("_kl_compile", {})

    def __reduce__(self) -> tuple:
        rebuild, args, state = super().__reduce__()
        return rebuild, args, {k: v for k, v in state.items() if k not in _TRANSIENT}

    def _assert_compiled(self, what: str) -> None:
        if not self.compiled:
            raise ValueError(f"Call compile() before {what}().")

    @property
    def metrics(self) -> list[Any]:
        """The loss tracker, the metrics of `compile`, and those inside layers."""
        compiled = self.compiled
        own = [self._loss_tracker, *self._kl_objectives.all_metrics()] if compiled else []
        return list({id(m): m for m in [*own, *tracking.all_metrics(self)]}.values())

    @property
    def metrics_variables(self) -> list[Any]:
        """The variables of the metrics."""
        return [v for m in self.metrics for v in m.variables]

    @property
    def metrics_names(self) -> list[str]:
        """The names of the metrics."""
        return [m.name for m in self.metrics]

    def reset_metrics(self) -> None:
        """Reset all metrics."""
        for metric in self.metrics:
            metric.reset_state()

    def to_backend(self, name: str) -> Any:
        """Move the model, its optimizer and its metrics to another backend, in place.

        Args:
            name: the backend, where training goes on.
        """
        objectives = self.__dict__.get("_kl_objectives")
        for metric in objectives.all_metrics() if objectives else ():
            metric.to_backend(name)
        Layer.to_backend(self, name)
        for optimizer in self.all_optimizers():
            optimizer.to_backend(name)
        return self

    # -- the steps, which subclasses may override ---------------------------------------------

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step of training; overridden, it runs on all backends as it is written.

        In the stateless form of Keras on JAX it is written as `train_step(self, state, data)`, and
        returns the logs and the new state.

        Args:
            data: a batch, (x, y, sample_weight).

        Returns:
            The logs: names and scalars.
        """
        x, y, sample_weight = unpack(data)

        def loss_of() -> tuple:
            y_pred = self(x, training=True)
            loss = self._compute_loss(x, y, y_pred, sample_weight, training=True)
            scaled = loss if self.optimizer is None else self.optimizer.scale_loss(loss)
            return scaled, (loss, y_pred, tree.map_structure(masking.get_mask, y_pred))

        variables = self.trainable_variables
        if variables:
            compute = ops.value_and_grad(loss_of, has_aux=True, variables=variables)
            (_, (loss, y_pred, masks)), grads = compute()
            self.optimizer.apply(grads, variables)
        else:
            _, (loss, y_pred, masks) = loss_of()
        # What comes out of a gradient are other tensors, without the masks of those inside.
        for output, mask in zip(tree.flatten(y_pred), tree.flatten(masks), strict=True):
            if mask is not None:
                masking.set_mask(output, mask)
        self._loss_tracker.update_state(ops.stop_gradient(loss), sample_weight=row_count(x))
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def test_step(self, data: Any) -> dict[str, Any]:
        """One step of evaluation.

        Args:
            data: a batch, (x, y, sample_weight).

        Returns:
            The logs: names and scalars.
        """
        x, y, sample_weight = unpack(data)
        y_pred = self(x, training=False)
        loss = self._compute_loss(x, y, y_pred, sample_weight, training=False)
        self._loss_tracker.update_state(loss, sample_weight=row_count(x))
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def predict_step(self, data: Any) -> Any:
        """The outputs for one batch.

        Args:
            data: a batch; only x is used.
        """
        return self(unpack(data)[0], training=False)

    def _compute_loss(self, *args: Any, training: bool) -> Any:
        # A subclass may have written compute_loss as Keras's first versions had it.
        if self._kl_loss_takes_training:
            return self.compute_loss(*args, training=training)
        return self.compute_loss(*args)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None,
        training: bool = True,
    ) -> Any:  # fmt: skip
        """Return the loss of a batch, with those of `add_loss`.

        Args:
            x: the inputs.
            y: the targets.
            y_pred: the outputs.
            sample_weight: weights of the rows.
            training: whether the call trains.
        """
        self._build_objectives(y, y_pred)
        values = self._kl_objectives.loss(y, y_pred, sample_weight)
        dtype = backends.result_type("float32", config.floatx())
        values += [ops.cast(ops.sum(v), dtype) for v in self.losses]
        if not values:
            raise ValueError("There is no loss: give compile(loss=...), or call add_loss().")
        total = values[0]
        for value in values[1:]:
            total = total + value
        return total

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict:
        """Update the metrics of `compile` and give all results by name.

        Args:
            x: the inputs.
            y: the targets.
            y_pred: the outputs.
            sample_weight: weights of the rows.
        """
        self._build_objectives(y, y_pred)
        self._kl_objectives.update(y, y_pred, sample_weight)
        return self.get_metrics_result()

    def get_metrics_result(self) -> dict[str, Any]:
        """The results of all metrics by name."""
        results = {"loss": self._loss_tracker.result(), **self._kl_objectives.results()}
        reported = {id(m) for m in (self._loss_tracker, *self._kl_objectives.all_metrics())}
        for metric in tracking.all_metrics(self):
            if id(metric) not in reported:
                value = metric.result()
                results |= value if isinstance(value, dict) else {metric.name: value}
        return results

    def _build_objectives(self, y: Any, y_pred: Any) -> None:
        if not self._kl_objectives.built:
            with backends.backend_scope(self.backend):
                self._kl_objectives.build(y, y_pred, getattr(self, "output_names", None))

    # -- building and compiling the steps -----------------------------------------------------

    def all_optimizers(self) -> list[Any]:
        """Return the optimizers in the model's attributes, that of `compile` and others."""
        own = [v for v in self.__dict__.values() if isinstance(v, optimizers.Optimizer)]
        return list({id(o): o for o in own}.values())

    def _state(self) -> list[Any]:
        """Return every variable that a step may assign."""
        variables = [*self.variables, *(v for m in self.metrics for v in m.variables)]
        variables += [v for o in self.all_optimizers() for v in o.variables]
        return list({id(v): v for v in variables}.values())

    def make_train_function(self, force: bool = False) -> Callable:
        """The compiled train step: a function of a batch, giving logs."""
        return self._function("train", self.train_step)

    def make_test_function(self, force: bool = False) -> Callable:
        """The compiled test step."""
        return self._function("test", self.test_step)

    def make_predict_function(self, force: bool = False) -> Callable:
        """The compiled predict step; inside the scope of a compiled predictor its own."""
        predictor = predictor_of(self)
        return predictor.step if predictor else self._function("predict", self.predict_step)

    def _function(self, name: str, step: Callable) -> Callable:
        functions = self.__dict__.setdefault("_kl_functions", CompiledFunctions())
        return functions.get(
            self, name, lambda _: compiled_step(self, name, step, self._state), name == "train"
        )

    # -- the loops ----------------------------------------------------------------------------

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int = 1,
    ) -> callbacks_module.History:
        """Train the model.

        Args:
            x: inputs: arrays, tensors, lists of strings, nested; or something that yields batches.
            y: targets, unless x yields them.
            batch_size: rows in a batch, 32 by default.
            epochs: passes over the data, counted from 0 as `initial_epoch` is.
            verbose: 0 silent, 1 a progress bar, 2 a line an epoch, "auto" is 1.
            callbacks: callbacks.
            validation_split: the last part of the rows, kept for validation.
            validation_data: (x, y), (x, y, sample_weight), or something that yields batches.
            shuffle: whether each epoch has an order of its own.
            class_weight: weights by class number.
            sample_weight: weights by row.
            initial_epoch: where to begin counting.
            steps_per_epoch: batches in an epoch, for sources without an end.
            validation_steps: batches of a validation.
            validation_batch_size: rows in a batch of validation.
            validation_freq: epochs from one validation to the next.

        Returns:
            The History.

        Raises:
            FloatingPointError: the loss became NaN; the message names the step.
        """
        self._assert_compiled("fit")
        check_counts(0, epochs=epochs, initial_epoch=initial_epoch)
        check_counts(steps_per_epoch=steps_per_epoch, validation_steps=validation_steps,
                     validation_freq=validation_freq)  # fmt: skip
        epochs = limited(epochs, config.max_epochs(), "epochs")
        data = self._data(x, y, sample_weight, batch_size, shuffle)
        if validation_split:
            if validation_data is not None:
                raise ValueError("Give validation_split or validation_data, not both.")
            data, validation_data = data.split(validation_split)
        steps = steps_of(data, steps_per_epoch)
        if steps is not None and steps != data.num_batches:
            data = Continued(data, steps)
        self.stop_training = False
        # Callbacks see a model that is built, and may change where it begins.
        first = data.first()
        prepare(self, first)
        if class_weight:
            data = self._weighted_by_class(data, class_weight, first)
        place = {"epoch": initial_epoch, "step": 0, "data": data}
        self.__dict__["_kl_place"] = place
        with Interrupts() as interrupts, read_ahead(data, epochs) as data:
            container = callbacks_module.CallbackList(
                callbacks, add_history=True, add_progbar=verbose != 0, model=self,
                verbose=1 if verbose == "auto" else verbose, epochs=epochs, steps=steps,
            )  # fmt: skip
            place["callbacks"] = container
            container.on_train_begin()
            logs: dict[str, Any] = {}
            for epoch in range(place["epoch"], epochs):
                container.on_epoch_begin(epoch)
                self.reset_metrics()
                watch = NaNWatch(epoch)
                logs, skip = None, place["step"]
                place["step"] = 0
                for step, logs in run_epoch(self, "train", data, epoch, steps, container, skip):
                    watch.record(step, logs)
                    if self.stop_training or interrupts.requested:
                        break
                if logs is None and not skip:  # an iterator at its end does not begin again
                    if epoch == initial_epoch:
                        refuse_empty(logs)
                    warnings.warn(
                        f"Your input ran out of data: training ends after {epoch} of {epochs} "
                        "epochs. Give steps_per_epoch, or data that can be read again.",
                        stacklevel=2,
                    )
                    break
                logs = logs_to_numbers(logs)
                if interrupts.requested:
                    break
                if not container.watches_nan:
                    watch.check(logs, self.stop_training)
                if validation_data is not None and (epoch + 1) % validation_freq == 0:
                    logs |= self._validate(
                        validation_data, validation_batch_size or batch_size, validation_steps,
                        container,
                    )  # fmt: skip
                container.on_epoch_end(epoch, logs)
                if self.stop_training or interrupts.requested:
                    break
            if interrupts.requested:
                container.on_train_interrupt(logs)
                raise KeyboardInterrupt
            for optimizer in self.all_optimizers():
                optimizer.finalize_variable_values(self.trainable_variables)
            container.on_train_end(logs)
        return self.history

    def _transform(self, training: bool) -> Callable | None:
        """A function of (x, y, sample_weight) that makes batches ready; tasks have one."""
        return None

    def _data(self, *args: Any, training: bool = True, **kwargs: Any) -> Any:
        return adapt(*args, transform=self._transform(training), **kwargs)

    def check_batch(self, batch: tuple) -> None:
        """Raise ValueError if a batch of arrays cannot be right; the models of hub extend this.

        Args:
            batch: (x, y, sample_weight).
        """
        if self.compiled:
            self._kl_objectives.check_labels(batch[1])

    def _weighted_by_class(self, data: Any, class_weight: Any, first: tuple) -> Mapped:
        shapes = self._kl_objectives.shapes
        weigh = class_weighting(class_weight, shapes[0] if len(shapes) == 1 else None)
        weigh(*first)  # what cannot be weighted is told here, and not by the thread that reads
        return Mapped(data, weigh, pure=True)

    def _validate(
        self, data: Any, batch_size: int | None, steps: int | None, container: Any
    ) -> dict[str, Any]:
        x, y, weight = unpack(data) if isinstance(data, tuple | list) else (data, None, None)
        logs = self.evaluate(
            x, y, sample_weight=weight, batch_size=batch_size, steps=steps, verbose=0,
            callbacks=container, return_dict=True,
        )  # fmt: skip
        return {f"val_{k}": v for k, v in logs.items()}

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        **kwargs: Any,
    ) -> Any:
        """The loss and the metrics over data.

        Args:
            x: inputs, as for `fit`.
            y: targets, unless x yields them.
            batch_size: rows in a batch, 32 by default.
            verbose: 0 silent, 1 a progress bar, 2 one line.
            sample_weight: weights by row.
            steps: the number of batches.
            callbacks: callbacks.
            return_dict: whether the result is a dict by name; else a list, or the loss alone.
        """
        self._assert_compiled("evaluate")
        data = self._data(x, y, sample_weight, batch_size)
        check_counts(steps=steps)
        container, steps = callbacks, steps_of(data, steps)
        if not isinstance(container, callbacks_module.CallbackList):
            container = callbacks_module.CallbackList(
                callbacks, add_progbar=verbose != 0, model=self, epochs=1, steps=steps,
                verbose=1 if verbose == "auto" else verbose,
            )  # fmt: skip
        container.on_test_begin()
        self.reset_metrics()
        self.stop_evaluating = False
        logs: Any = None
        for _, logs in run_epoch(self, "test", data, 0, steps, container):  # noqa: B007
            if self.stop_evaluating:
                break
        refuse_empty(logs)
        logs = logs_to_numbers(logs)
        container.on_test_end(logs)
        return logs if return_dict else as_list(logs)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """The outputs over data, as numpy arrays.

        Args:
            x: inputs, as for `fit`.
            batch_size: rows in a batch, 32 by default.
            verbose: 0 silent, 1 a progress bar.
            steps: the number of batches.
            callbacks: callbacks.
        """
        data = self._data(x, batch_size=batch_size, training=False)
        check_counts(steps=steps)
        steps = steps_of(data, steps)
        container = callbacks_module.CallbackList(
            callbacks, add_progbar=verbose != 0, model=self, epochs=1, steps=steps,
            verbose=1 if verbose == "auto" else verbose,
        )  # fmt: skip
        container.on_predict_begin()
        outputs: list[Any] = []
        previous: Any = None
        self.stop_predicting = False
        for _, out in run_epoch(self, "predict", data, 0, steps, container):
            if previous is not None:  # one batch behind, so that the device is not waited for
                outputs.append(tree.map_structure(backends.to_numpy, previous))
            previous = out
            if self.stop_predicting:
                break
        refuse_empty(previous)
        outputs.append(tree.map_structure(backends.to_numpy, previous))
        container.on_predict_end()
        return tree.map_structure(lambda *parts: np.concatenate(parts), *outputs)

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None,
        class_weight: dict[int, float] | None = None, return_dict: bool = False,
    ) -> Any:  # fmt: skip
        """Run one step of training on one batch.

        Args:
            x: inputs.
            y: targets.
            sample_weight: weights by row.
            class_weight: weights by class number.
            return_dict: whether the result is a dict by name; else a list, or the loss alone.
        """
        self._assert_compiled("train_on_batch")
        return self._one("train", x, y, sample_weight, class_weight, return_dict)

    def test_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """Run one step of evaluation on one batch; the arguments are `train_on_batch`'s."""
        self._assert_compiled("test_on_batch")
        return self._one("test", x, y, sample_weight, None, return_dict)

    def predict_on_batch(self, x: Any) -> Any:
        """The outputs for one batch, as numpy arrays."""
        out = self._one_step("predict", self._data(x, batch_size=2**62, training=False))
        return tree.map_structure(backends.to_numpy, out)

    def _one(self, mode: str, x: Any, y: Any, weight: Any, classes: Any, as_dict: bool) -> Any:
        data = self._data(x, y, weight, 2**62)
        if classes:
            first = data.first()
            prepare(self, first)
            data = self._weighted_by_class(data, classes, first)
        logs = logs_to_numbers(self._one_step(mode, data))
        return logs if as_dict else as_list(logs)

    def _one_step(self, mode: str, data: Any) -> Any:
        return run_step(self, mode, next(iter(data.epoch(0))))

    # -- configs ------------------------------------------------------------------------------

    def get_compile_config(self) -> dict[str, Any] | None:
        """Return the arguments of `compile`, as a config."""
        if not self.compiled:
            return None
        arguments = {**self.compile_arguments, "optimizer": self.optimizer}
        return {k: serialize_keras_object(v) for k, v in arguments.items()}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as a config says."""
        self.compile(**deserialize_keras_object(config))
        if self.built and self.optimizer is not None:
            with backends.backend_scope(self.backend):
                self.optimizer.build(self.trainable_variables)
