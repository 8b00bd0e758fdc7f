"""Task: preprocessing, a backbone and a head, from a preset or from parts."""

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import keraslite as keras
from hub.families import Family, Head, class_prefixes, family_of
from hub.models.inputs import check_ids, check_no_text, check_not_none, named_inputs
from hub.preprocessing.summary import parts_of, preprocessor_table
from hub.presets.build import Checkpoint, find_checkpoint, load
from hub.presets.files import PresetFiles, resolve
from hub.presets.save import config_of, write_preset
from hub.tasks.discovery import all_tasks
from hub.tasks.docstrings import class_docstring
from hub.tasks.exporting import export_task
from hub.weights import adapters
from hub.weights.tables import WeightTable
from keraslite.naming import to_snake_case

# Losses that take logits or probabilities.
_OF_LOGITS = (
    "BinaryCrossentropy", "BinaryFocalCrossentropy", "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy", "SparseCategoricalCrossentropy",
)  # fmt: skip
# Of `hub run`, for tasks that write images.
OUT_OPTION: Mapping[str, Any] = {"type": Path, "help": "a folder for images"}


class Task(keras.Model):
    """A model with its preprocessing: from texts, images or files to answers.

    Subclasses name their `task`, build their head in `__init__`, and write `call`.

    Attributes:
        task: the name of the class.
        family: the model type of a class for one family.
        pipeline: the Hub's name of what it does; `hub run` takes it.
        transformers_class: the class of transformers that opens its checkpoints.
        adapter_type: what PEFT calls it.
        aliases: other names of the class.
        family_aliases: what follows a family's name in other names of its class for the family.
        preprocessor_options: arguments of `from_preset` that `make_preprocessor` takes.
        command_options: options of `hub run` -> arguments for argparse.
        head_options: the options that a family's `Head` for it may have.
        may_be_new: prefixes of paths of weights that a checkpoint may lack, all of a prefix or
            none, to be trained.
        answers_compiled: whether `answers` runs the network of `compiled_for` in its scope.
    """

    task: str = ""
    family: str | None = None
    pipeline: str = ""
    transformers_class: str = "AutoModel"
    adapter_type: str | None = None
    aliases: tuple[str, ...] = ()
    family_aliases: tuple[str, ...] = ()
    preprocessor_options: tuple[str, ...] = ()
    command_options: Mapping[str, Mapping[str, Any]] = {}
    head_options: tuple[str, ...] = ()
    may_be_new: tuple[str, ...] = ("head", "hidden")
    answers_compiled = True
    replays_predict = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Register our tasks, those of families and of none, so that a file can name them."""
        super().__init_subclass__(**kwargs)
        if cls.__module__.partition(".")[0] == "hub":
            keras.saving.register_keras_serializable("hub")(cls)

    def __init__(self, backbone: Any, preprocessor: Any = None, **kwargs: Any):
        self._check_head(getattr(backbone, "family", None))
        kwargs.setdefault("dtype", backbone.dtype_policy)
        super().__init__(**kwargs)
        self.backbone = backbone
        self._kl_preprocessor = preprocessor
        self._kl_new_weights: list[str] = []

    @classmethod
    def _check_head(cls, model_type: str | None) -> None:
        """Refuse options of a family's head that the task would not look at."""
        head = family_of(model_type).head(cls.task) if model_type else None
        unknown = sorted(set(head.options) - set(cls.head_options)) if head else []
        if unknown:
            raise ValueError(
                f"The head of {model_type} for {cls.task} has unknown options {unknown}: expected "
                f"some of {list(cls.head_options)}."
            )

    @property
    def new_weights(self) -> list[str]:
        """Paths of the weights that the checkpoint did not have: a head that is to be trained."""
        return list(self._kl_new_weights)

    @property
    def preprocessor(self) -> Any:
        """The preprocessor of `fit` and `predict`; None if inputs are ready arrays."""
        return self._kl_preprocessor

    @preprocessor.setter
    def preprocessor(self, value: Any) -> None:
        self._kl_preprocessor = value

    # -- presets ------------------------------------------------------------------------------

    @classmethod
    def from_preset(
        cls,
        preset: Any,
        *,
        backend: str | None = None,
        dtype: Any = None,
        load_weights: bool = True,
        load_head: bool | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        variant: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load the task of a preset, with its weights and its preprocessing.

        Args:
            preset: a built-in name, `org/repo`, `hf://org/repo@revision/subfolder`, or a folder.
            backend: the backend it lives on; the current one by default.
            dtype: a dtype or policy.
            load_weights: whether weights are loaded, or all of them new.
            load_head: whether the head is taken from the checkpoint where that has one; by default
                unless an image classifier is asked for another number of classes.
            revision: a branch, tag or commit of the repository.
            token: a token for the Hub.
            variant: of several weights in one folder, such as "fp16".
            kwargs: arguments of the task, such as `num_classes`; of those that read texts also
                `sequence_length`, the most tokens of a text; `preprocessor=None` turns
                preprocessing off, and `num_layers` takes the first layers of the backbone alone.

        Raises:
            ValueError: the preset is unknown, or its files do not fit; the message says how.
        """
        checkpoint = find_checkpoint(
            preset, lambda family: family.head(cls.task) is not None, revision=revision, token=token
        )  # fmt: skip
        chosen = cls.for_family(checkpoint.family.model_type)
        head = checkpoint.family.head(cls.task)
        table = head.weights or WeightTable({})
        keeps = chosen.keeps_head(checkpoint, kwargs) if load_head is None else load_head
        if not keeps or _has_another_head(checkpoint, head):
            table = table.prefixed("", "-/")  # no tensor has such a name
            new: tuple[str, ...] = ()
        else:
            table, new = chosen.kept_of_head(table, checkpoint.config, kwargs)
        all_layers = chosen.needs_all_layers(checkpoint.family)
        names = ("num_layers", "num_decoder_layers")
        layers = {**head.backbone, **{name: kwargs.pop(name) for name in names if name in kwargs}}

        def assemble(backbone: Any, weights: Any) -> Task:
            task = chosen._assemble(checkpoint, backbone, kwargs)
            of_backbone = checkpoint.family.table(backbone.get_config())
            for path in () if all_layers else of_backbone.optional:
                if getattr(backbone, path, None) is not None:  # kept for the file, not used here
                    getattr(backbone, path).trainable = False
            if any(_claims(table, tensor) for tensor in weights or ()):
                task.check_head(weights, table)
            return task

        task, fresh = load(
            checkpoint, assemble, head=table, new=(*cls.may_be_new, *new),
            all_layers=all_layers, overrides=layers, backend=backend, dtype=dtype,
            load_weights=load_weights, variant=variant,
        )  # fmt: skip
        task._kl_new_weights = fresh
        return task

    @classmethod
    def _assemble(cls, checkpoint: Checkpoint, backbone: Any, kwargs: dict[str, Any]) -> Self:
        """Return the task over a backbone, with its preprocessor."""
        stated = cls.checkpoint_arguments(checkpoint.files, checkpoint.config)
        if kwargs.get("labels") is not None:  # which say how many classes there are
            stated.pop("num_classes", None)
        kwargs = {**stated, **kwargs}
        options = {name: kwargs.pop(name, None) for name in cls.preprocessor_options}
        if "preprocessor" not in kwargs:
            kwargs["preprocessor"] = cls.make_preprocessor(
                checkpoint.files, checkpoint.family, backbone, **options
            )
        return cls(backbone, **kwargs)

    @classmethod
    def for_family(cls, model_type: str) -> type["Task"]:
        """Return the class of this task for a family; a subclass of a user's is for all of them.

        Args:
            model_type: of the family.

        Raises:
            ValueError: there is none; the message names the tasks there are.

        >>> hub.TextClassifier.for_family("bert").__name__
        'BertTextClassifier'
        """
        family = family_of(model_type)
        is_other = cls.family is not None and family_of(cls.family).backbone is not family.backbone
        if is_other or family.head(cls.task) is None:
            names = [task.task for task in all_tasks() if family.head(task.task) is not None]
            raise ValueError(
                f"There is no {cls.__name__} for {model_type} checkpoints; expected one of "
                f"{sorted(names)}."
            )
        if cls.__name__ != cls.task:
            return cls
        return _class_over(cls, class_prefixes()[family.backbone.__name__.removesuffix("Backbone")])

    @classmethod
    def needs_all_layers(cls, family: Family) -> bool:
        """Return whether it needs the layers of a backbone that some checkpoints lack.

        Args:
            family: of the backbone.
        """
        return False

    @classmethod
    def keeps_head(cls, checkpoint: Checkpoint, arguments: Mapping[str, Any]) -> bool:
        """Return whether the head of a checkpoint is loaded where `load_head` is not given.

        Args:
            checkpoint: the checkpoint.
            arguments: those of the task that the caller gave.
        """
        return True

    @classmethod
    def kept_of_head(
        cls, table: WeightTable, config: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[WeightTable, tuple[str, ...]]:
        """Return the names of the head's weights, and paths below which they need not be loaded.

        By default all of them are.

        Args:
            table: the names of all.
            config: the config.json of the checkpoint.
            arguments: those of the task that the caller gave.
        """
        return table, ()

    def check_head(self, weights: Any, head: WeightTable) -> None:
        """Raise ValueError if the checkpoint's head has another size; none by default.

        Args:
            weights: the checkpoint.
            head: the names of the head's weights.
        """

    @classmethod
    def checkpoint_arguments(cls, files: PresetFiles, config: dict) -> dict[str, Any]:
        """Return the arguments of the task that a checkpoint decides.

        Args:
            files: of the checkpoint.
            config: its config.json.
        """
        return {}

    @classmethod
    def make_preprocessor(
        cls, files: PresetFiles, family: Family, backbone: Any, **options: Any
    ) -> Any:
        """Return the preprocessor of a checkpoint; None where inputs are ready.

        Args:
            files: of the checkpoint.
            family: of the backbone.
            backbone: the backbone.
            options: those of `preprocessor_options`; None where they are not given.
        """
        return None

    def save_to_preset(self, preset_dir: Any) -> None:
        """Write weights, tokenizer and config as transformers reads them.

        Args:
            preset_dir: a folder, made if need be; `from_preset(preset_dir)` reads it again.
        """
        family = family_of(self.backbone.family)
        head = family.head(self.task)
        architecture = None if head is None else head.architecture
        config = config_of(family, self.backbone, architecture, self.config_json())
        tokenizer = getattr(self.preprocessor, "tokenizer", None)
        write_preset(
            preset_dir, self, family.task_weights(self.task, self.backbone), config, tokenizer
        )

    def config_json(self) -> dict[str, Any]:
        """Return the keys of config.json that the task adds."""
        return {}

    def summary(self, line_length: int | None = None, print_fn: Any = None, **kwargs: Any) -> None:
        """Print the preprocessor, and the layers with their output shapes and parameter counts.

        Args:
            line_length: the width in characters.
            print_fn: a function of the text; `print` by default.
            kwargs: as for `Model.summary`.
        """
        if line_length is None:
            line_length = keras.utils.line_length_for(88)
        if self.preprocessor is not None:
            name = to_snake_case(type(self.preprocessor).__name__)
            table = preprocessor_table(name, parts_of(self.preprocessor), line_length)
            (print_fn or print)(table)
        super().summary(line_length, print_fn, **kwargs)

    def symbolic_inputs(self) -> list[Any]:
        """Return symbolic inputs of `call`, of two sizes."""
        return self.backbone.symbolic_inputs()

    # -- other programs -----------------------------------------------------------------------

    def export_inputs(self) -> list[Any] | None:
        """Return symbolic inputs of `call`, whose free sizes are None."""
        own = super().export_inputs()
        return self.backbone.export_inputs() if own is None else own

    def export_parts(self) -> dict[str, Any]:
        """Return the models that `export` writes, by name: the task, or parts of it."""
        return {"model": self}

    def export_answers(self) -> dict[str, Any]:
        """Return what a program must know to read the outputs of the network, for JSON."""
        return {}

    def export(
        self, filepath: Any, format: str = "tf_saved_model", verbose: bool | None = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        """Write the network for another program, and beside it how its inputs are prepared.

        Args:
            filepath: a folder, for the network ("model", or its parts), the files of the tokenizer
                and of the preprocessing, and `preparation.json`.
            format: as for `Model.export`: "onnx", "openvino", "tf_saved_model" ...
            verbose: whether a line says what was written; True by default.
            kwargs: as for `Model.export`.

        Raises:
            ValueError: there is no such format, or the folder has the name of a file.
            NotImplementedError: the format cannot hold the network.
            OSError: it could not be written; what was there before is unchanged.
        """
        export_task(self, filepath, format, verbose, **kwargs)

    # -- the command line ---------------------------------------------------------------------

    def answers(self, inputs: list[str], options: Any) -> Iterable[dict[str, Any]]:
        """Return what `hub run` prints for each input: dicts for JSON.

        Args:
            inputs: the words of the command line: texts or files.
            options: the values of `command_options` and of `seed`.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be run from the command line.")

    def workload(self, count: int) -> tuple[Any, int, str]:
        """Return something for `hub bench` to run, how much of it that is, and its unit.

        Args:
            count: the number of inputs.
        """
        raise NotImplementedError(f"{type(self).__name__} has nothing to measure.")

    # -- adapters -----------------------------------------------------------------------------

    def enable_lora(self, rank: int, alpha: float | None = None, **kwargs: Any) -> list[str]:
        """Freeze the backbone but for a low-rank update of some of its layers.

        Args:
            rank: the rank of the update.
            alpha: it is scaled by `alpha / rank`; the rank by default.
            kwargs: `targets`, as for `hub.weights.adapters.enable_lora`.

        Returns:
            The paths of the layers that are adapted.
        """
        return adapters.enable_lora(self, rank, alpha, **kwargs)

    def disable_lora(self, merge: bool = False) -> None:
        """Remove the low-rank update; the backbone is trained as it was before.

        Args:
            merge: whether the update is added to the weights first.
        """
        adapters.disable_lora(self, merge)

    def save_adapter(self, adapter_dir: Any) -> None:
        """Write the low-rank update and the head alone, as PEFT reads them.

        Args:
            adapter_dir: a folder, made if need be.
        """
        adapters.save_adapter(self, adapter_dir)

    def load_adapter(
        self, adapter: Any, *, revision: str | None = None, token: str | bool | None = None
    ) -> None:
        """Take over an adapter that `save_adapter` or PEFT wrote.

        Args:
            adapter: a folder, `org/repo`, or `hf://org/repo@revision/subfolder`.
            revision: a branch, tag or commit of the repository.
            token: a token for the Hub.
        """
        adapters.load_adapter(self, resolve(adapter, revision=revision, token=token))

    # -- compiling and running ----------------------------------------------------------------

    def _defaults(self) -> dict[str, Any]:
        """Return the defaults of `compile`."""
        return {}

    def _gives_logits(self) -> bool:
        """Return whether the outputs are logits and not probabilities."""
        return True

    def compile(self, optimizer: Any = "auto", loss: Any = "auto", **kwargs: Any) -> None:
        """Set optimizer, loss and metrics; each has a default.

        Args:
            optimizer: as for `Model.compile`; AdamW with a learning rate of 5e-5 by default.
            loss: as for `Model.compile`; the task's own by default. The name of a crossentropy
                means that of the task's outputs, which are logits unless it has an activation.
            kwargs: as for `Model.compile`; `metrics` are the task's own by default, with a loss
                that is of the same class as the task's own.
        """
        with keras.backend.backend_scope(self.backend):
            defaults = self._defaults()
            if optimizer == "auto":
                optimizer = keras.optimizers.AdamW(5e-5, weight_decay=0.01)
                optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
            own_loss = defaults.pop("loss", None)
            if isinstance(loss, str) and loss == "auto":
                loss = own_loss
            elif self._gives_logits():
                loss = _of_logits(loss)
            if type(loss) is type(own_loss) or loss == getattr(own_loss, "name", None):
                for key, value in defaults.items():
                    kwargs.setdefault(key, value)
            super().compile(optimizer=optimizer, loss=loss, **kwargs)

    def fit(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """Train on texts or what else the task takes, or on ready inputs.

        Args:
            x: texts: a list of strings or of pairs, a pair of lists, or what else the class takes;
                or ready inputs.
            y: targets.
            kwargs: as for `Model.fit`.
        """
        check_not_none(x)
        if not self.compiled:
            self.compile()
        held_out = kwargs.get("validation_data")
        if isinstance(held_out, tuple):
            first, second, *rest = (*held_out, None)[: max(len(held_out), 2)]
            kwargs["validation_data"] = (*self._columns(first, second), *rest)
        return super().fit(*self._columns(x, y), **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return the loss and the metrics on what `fit` takes.

        Args:
            x: as for `fit`.
            y: as for `fit`.
            args: as for `Model.evaluate`.
            kwargs: as for `Model.evaluate`.
        """
        check_not_none(x)
        return super().evaluate(*self._columns(x, y), *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the outputs of what `fit` takes.

        Args:
            x: as for `fit`.
            args: as for `Model.predict`.
            kwargs: as for `Model.predict`.
        """
        return super().predict(self._columns(x, None)[0], *args, **kwargs)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the outputs of ready inputs.

        Args:
            inputs: arrays or tensors, as the preprocessor returns them.
            args: further arguments of `call`.
            kwargs: further arguments of `call`, such as `training`.

        Raises:
            TypeError: the inputs are texts.
            ValueError: an id in an array is out of the range of its embedding.
        """
        check_no_text(self, inputs)
        return super().__call__(self._named_inputs(inputs), *args, **kwargs)

    def check_batch(self, batch: tuple) -> None:
        """Raise ValueError if an id in a batch has no embedding.

        Args:
            batch: (x, y, sample_weight).
        """
        self._named_inputs(batch[0])
        super().check_batch(batch)

    def _named_inputs(self, inputs: Any) -> Any:
        """Return inputs under our names, after a check of the ids in arrays."""
        inputs = named_inputs(inputs, self.backbone.input_names)
        check_ids(inputs, self.backbone.vocabulary_size, self.backbone.num_segments)
        return inputs

    def _columns(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Return inputs and targets with as many rows each, which batches are cut from."""
        return x, y

    def _transform(self, training: bool) -> Any:
        if self.preprocessor is None:
            return None

        def prepare(x: Any, y: Any, sample_weight: Any) -> tuple:
            if not self._takes(x):
                return x, y, sample_weight
            return keras.utils.unpack_x_y_sample_weight(self.preprocessor(x, y, sample_weight))

        return prepare

    def _takes(self, x: Any) -> bool:
        """Return whether an input is for the preprocessor."""
        return False

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the task, its backbone and its preprocessor among them."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "backbone": serialize(self.backbone),
            "preprocessor": serialize(self.preprocessor),
            "source_config": getattr(self.backbone, "source_config", None),
            "adapter": adapters.settings_of(self),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the task of a config.

        Args:
            config: what `get_config` returned.
        """
        config = dict(config)
        source_config, adapter = (config.pop(k, None) for k in ("source_config", "adapter"))
        task = super().from_config(config)
        if source_config is not None:
            task.backbone.source_config = source_config
        if adapter is not None:
            adapters.restore(task, adapter)
        return task


@functools.cache
def _class_over(task: type[Task], model_type: str) -> type[Task]:
    """Make the class of a task for one family, which `hub` has under its name."""
    backbone = family_of(model_type).backbone
    name = backbone.__name__.removesuffix("Backbone") + task.task
    attributes = {"family": model_type, "__module__": "hub"}
    attributes["__doc__"] = class_docstring(task, name, backbone, model_type)
    return type(task)(name, (task,), attributes)


def _has_another_head(checkpoint: Checkpoint, head: Head) -> bool:
    """Whether a checkpoint says that its head is another task's, whose names may be ours."""
    own = (checkpoint.config.get("architectures") or [None])[0]
    family = checkpoint.family
    others = {family.architecture, *(head.architecture for head in family.heads.values())}
    return own in others - {None, head.architecture, *head.included_in}


def _of_logits(loss: Any) -> Any:
    """Return losses with those of logits for the names and functions of crossentropies."""
    if isinstance(loss, Mapping):
        return {name: _of_logits(value) for name, value in loss.items()}
    if isinstance(loss, list | tuple):
        return [_of_logits(value) for value in loss]
    for cls in _OF_LOGITS:
        name = to_snake_case(cls)
        if (isinstance(loss, str) and loss in (name, cls)) or loss is getattr(keras.losses, name):
            return getattr(keras.losses, cls)(from_logits=True)
    return loss


def _claims(table: WeightTable, tensor: str) -> bool:
    return any(tensor == name or tensor.startswith(f"{name}.") for name in table.rows.values())
