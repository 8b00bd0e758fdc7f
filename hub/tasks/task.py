"""Task: preprocessing, a backbone and a head, from a preset or from parts."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

import keraslite as keras
from hub.families import Family, family_of
from hub.preprocessing.text import BUCKETS, TextPreprocessor, is_text, texts_and_pairs
from hub.presets import build
from hub.presets.files import PresetFiles, resolve
from hub.weights.reader import open_weights
from hub.weights.tables import WeightTable

_TOKENS_A_BATCH = 1024  # what stays in the cache of a CPU
_ACCELERATED = 16384


class Task(keras.Model):
    """A model with its preprocessing: takes texts, gives answers.

    Subclasses name their `task`, build their head in `__init__`, and write `call`.
    """

    task: str = ""
    family: str | None = None
    default_preprocessor: type = TextPreprocessor
    needs_pooler = True
    head_may_be_new = True

    def __init__(self, backbone: Any, preprocessor: Any = None, **kwargs: Any):
        kwargs.setdefault("dtype", backbone.dtype_policy)
        super().__init__(**kwargs)
        self.backbone = backbone
        self._kl_preprocessor = preprocessor
        self._kl_new_weights: list[str] = []

    @property
    def new_weights(self) -> list[str]:
        """Paths of the weights that the checkpoint did not have: a head that is to be trained."""
        return list(self._kl_new_weights)

    @property
    def preprocessor(self) -> Any:
        """What turns texts into inputs; None if inputs are given ready."""
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
        load_head: bool = True,
        revision: str | None = None,
        token: str | None = None,
        sequence_length: int | None = None,
        **kwargs: Any,
    ) -> "Task":
        """The task of a preset, with its weights and its preprocessing.

        Args:
            preset: a built-in name, `org/repo`, `hf://org/repo@revision/subfolder`, or a folder.
            backend: the backend it lives on; the current one by default.
            dtype: a dtype or policy.
            load_weights: whether weights are loaded, or all of them new.
            load_head: whether the head is taken from the checkpoint where that has one.
            revision: a branch, tag or commit of the repository.
            token: a token for the Hub.
            sequence_length: the most tokens of a text; what the checkpoint says by default.
            kwargs: arguments of the task, such as `num_classes`.

        Raises:
            ValueError: the preset is unknown, or its files do not fit; the message says how.
        """
        files = resolve(preset, revision=revision, token=token)
        config = build.read_config(files)
        family = family_of(config["model_type"])
        chosen = cls.for_family(family.model_type)
        with keras.use_backend(backend or keras.backend()):
            return chosen._load(
                files, config, family, dtype, load_weights, load_head, sequence_length, kwargs
            )

    @classmethod
    def for_family(cls, model_type: str) -> type["Task"]:
        """This task's class for a family."""
        if cls.family is not None:
            if cls.family != model_type:
                raise ValueError(
                    f"This is a {model_type} checkpoint; {cls.__name__} is for {cls.family}."
                )
            return cls
        for sub in cls.__subclasses__():
            if sub.family == model_type and sub.task == cls.task:
                return sub
        raise ValueError(f"There is no {cls.__name__} for {model_type} checkpoints.")

    @classmethod
    def over(cls, family: str, name: str) -> type["Task"]:
        """This task's class for one family, under the name that users know it by.

        Args:
            family: the model type.
            name: the name of the class.
        """
        about = f"A `{cls.__name__}` over the backbone of {family} checkpoints."
        made = {"family": family, "__doc__": about, "__module__": cls.__module__}
        return type(cls)(name, (cls,), made)

    @classmethod
    def _load(
        cls, files: PresetFiles, config: dict, family: Family, dtype: Any, load_weights: bool,
        load_head: bool, sequence_length: int | None, kwargs: dict,
    ) -> "Task":  # fmt: skip
        weights = open_weights(files) if load_weights else None
        prefix = build.detect_prefix(family, weights) if weights is not None else ""
        made = build.arguments(family, config)
        pools = cls.needs_pooler and family.classifier is None
        if weights is not None and not pools:
            for path in family.optional:
                made[path] = build.has_optional(family, path, weights, prefix)
        made |= family.for_task.get(cls.task, {})
        backbone = family.backbone(**made, dtype=dtype)
        backbone.source_config = config
        preprocessor = kwargs.pop("preprocessor", None) or cls._preprocessor(
            files, family, sequence_length, backbone
        )
        given = {**cls._from_files(files, config), **kwargs}
        task = cls(backbone, preprocessor=preprocessor, **given)
        for path in () if pools else family.optional:
            if getattr(backbone, path, None) is not None:  # kept for the file, of no use here
                getattr(backbone, path).trainable = False
        if weights is not None:
            task._load_weights(weights, family, prefix, load_head)
        return task

    def _load_weights(self, weights: Any, family: Family, prefix: str, load_head: bool) -> None:
        head = family.heads.get(self.task, WeightTable({}))
        load_head = load_head and not self._is_of_another_task(family)
        claimed = [t for t in weights if _claims(head, t)] if load_head else []
        known = [p for p in family.known if not any(_matches(p, t) for t in claimed)]
        if claimed:
            self._check_head(weights, head)
            known += family.known
        table = family.weights.prefixed("backbone/", prefix)
        rows = head if load_head else WeightTable({k: f"-/{v}" for k, v in head.rows.items()})
        known += build.without(self.backbone, table, "backbone/")
        table = rows.joined(table, WeightTable({}, ignore=tuple(known)))
        new = ["head", "hidden"] if self.head_may_be_new else []
        optional = [*new, *(f"backbone/{p}" for p in family.optional)]
        self._kl_new_weights = build.load_into(self, weights, table, tuple(optional))

    def _is_of_another_task(self, family: Family) -> bool:
        """Whether the checkpoint says that its head is another task's, whose names may be ours."""
        stated = getattr(self.backbone, "source_config", {}).get("architectures") or [None]
        others = {name for task, name in family.architectures.items() if task != self.task}
        return stated[0] in others and stated[0] != family.architectures.get(self.task)

    def _check_head(self, weights: Any, head: WeightTable) -> None:
        """Raise ValueError if the checkpoint's head has another size; tasks that can, say more."""

    @classmethod
    def _from_files(cls, files: PresetFiles, config: dict) -> dict[str, Any]:
        """Arguments of the task that a checkpoint decides."""
        return {}

    @classmethod
    def _preprocessor(
        cls, files: PresetFiles, family: Family, length: int | None, backbone: Any
    ) -> Any:
        from hub import tokenizers

        tokenizer = getattr(tokenizers, family.tokenizer).from_files(files)
        most = min(tokenizer.max_length, backbone.max_sequence_length)
        if length is not None and length > backbone.max_sequence_length:
            raise ValueError(
                f"sequence_length={length} is more than the {backbone.max_sequence_length} "
                "positions of the model."
            )
        return cls.default_preprocessor(tokenizer, sequence_length=length or most)

    def save_to_preset(self, preset_dir: Any) -> None:
        """Write weights, tokenizer and config as transformers reads them.

        Args:
            preset_dir: a folder, made if need be; `from_preset(preset_dir)` reads it again.
        """
        family = family_of(self.backbone.family)
        head = family.heads.get(self.task)
        prefix = "" if head is None else family.prefix
        table = (head or WeightTable({})).joined(family.weights.prefixed("backbone/", prefix))
        name = "Backbone" if head is None else self.task
        config = build.written_config(family, self.backbone, name, self._to_config())
        tokenizer = getattr(self.preprocessor, "tokenizer", None)
        build.write_preset(preset_dir, self, table, config, tokenizer)

    def _to_config(self) -> dict[str, Any]:
        """Keys of config.json that the task adds."""
        return {}

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
        from hub.weights import adapters

        return adapters.enable_lora(self, rank, alpha, **kwargs)

    def save_adapter(self, adapter_dir: Any) -> None:
        """Write the low-rank update and the head alone, as PEFT reads them.

        Args:
            adapter_dir: a folder, made if need be.
        """
        from hub.weights import adapters

        adapters.save_adapter(self, adapter_dir)

    def load_adapter(self, adapter: Any, **kwargs: Any) -> None:
        """Take over an adapter that `save_adapter` or PEFT wrote.

        Args:
            adapter: a folder, `org/repo`, or `hf://org/repo@revision/subfolder`.
            kwargs: `revision` and `token`.
        """
        from hub.weights import adapters

        adapters.load_adapter(self, adapter, **kwargs)

    # -- compiling and running ----------------------------------------------------------------

    def _defaults(self) -> dict[str, Any]:
        """Arguments of `compile` that were left out."""
        return {}

    def compile(self, optimizer: Any = "auto", loss: Any = "auto", **kwargs: Any) -> None:
        """Say how the task is trained; what is left out has a sensible default.

        Args:
            optimizer: as for `Model.compile`; AdamW with a learning rate of 5e-5 by default.
            loss: as for `Model.compile`; the task's own by default.
            kwargs: as for `Model.compile`; `metrics` are the task's own by default.
        """
        with keras.use_backend(self.backend):
            defaults = self._defaults()
            if optimizer == "auto":
                optimizer = keras.optimizers.AdamW(5e-5, weight_decay=0.01)
                optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
            if loss == "auto":
                loss = defaults.pop("loss", None)
                for key, value in defaults.items():
                    kwargs.setdefault(key, value)
            super().compile(optimizer=optimizer, loss=loss, **kwargs)

    def fit(self, x: Any = None, y: Any = None, **kwargs: Any) -> Any:
        """Train on what the task takes, or on ready inputs; the arguments are those of `Model.fit`.

        Args:
            x: texts: a list of strings or of pairs, a pair of lists, or what else the class names;
                or ready inputs.
            y: targets.
            kwargs: as for `Model.fit`.
        """
        if not self.compiled:
            self.compile()
        held_out = kwargs.get("validation_data")
        if isinstance(held_out, tuple):
            first, second, *rest = (*held_out, None)[: max(len(held_out), 2)]
            kwargs["validation_data"] = (*self._columns(first, second), *rest)
        return super().fit(*self._columns(x, y), **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """The loss and the metrics on what `fit` takes.

        Args:
            x: as for `fit`.
            y: as for `fit`.
            args: as for `Model.evaluate`.
            kwargs: as for `Model.evaluate`.
        """
        return super().evaluate(*self._columns(x, y), *args, **kwargs)

    def _columns(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Inputs and targets with as many rows each, which batches are cut from."""
        return x, y

    def _transform(self, training: bool) -> Any:
        if self.preprocessor is None:
            return None

        def ready(x: Any, y: Any, sample_weight: Any) -> tuple:
            if not self._takes(x):
                return x, y, sample_weight
            made = self.preprocessor(x, y, sample_weight)
            return keras.utils.unpack_x_y_sample_weight(made)

        return ready

    def _takes(self, x: Any) -> bool:
        """Whether an input is for the preprocessor."""
        return is_text(x)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> Any:
        """The outputs for texts or ready inputs.

        Texts are sorted by length and put into batches of about equal numbers of tokens, which
        saves most of the padding; the answers come back in the order of the texts.

        Args:
            x: texts or ready inputs.
            batch_size: the most texts of a batch.
            verbose: 0 silent, 1 a progress bar.
            steps: as for `Model.predict`, for ready inputs.
            callbacks: as for `Model.predict`, for ready inputs.
        """
        if self.preprocessor is None or not is_text(x):
            return super().predict(x, batch_size, verbose, steps, callbacks)
        encodings = self.preprocessor.encode(x)
        return self._predict_encoded(encodings, batch_size, verbose)

    def _predict_encoded(
        self, encodings: list, batch_size: int | None, verbose: Any, ragged: bool = False
    ) -> Any:
        """Outputs of encodings in their order; ragged, a list of those of each one's own tokens."""
        lengths = np.array([len(ids) for ids, _ in encodings])
        bar = None
        if verbose not in (0, False) and len(lengths) > 64:
            bar = keras.utils.Progbar(len(lengths), unit_name="text")
        answers: Any = [None] * len(encodings) if ragged else None
        done = 0
        fixed = keras.backend.compiles(self.backend)
        accelerated = keras.backend.accelerated(self.backend)
        tokens = _ACCELERATED if accelerated else _TOKENS_A_BATCH
        limit = self.preprocessor.sequence_length
        for rows, length in _plan(lengths, batch_size, fixed, limit, tokens):
            inputs = self.preprocessor.pack([encodings[i] for i in rows], length)
            if fixed:
                inputs = padded(inputs, round_up(len(rows)))
            out = self.predict_on_batch(inputs)
            if ragged:
                for row, values in zip(rows, out, strict=False):
                    answers[row] = values[: lengths[row]]
            else:
                if answers is None:
                    answers = keras.tree.map_structure(
                        lambda a: np.empty((len(lengths), *a.shape[1:]), a.dtype), out
                    )
                keras.tree.map_structure(
                    lambda whole, part, rows=rows: whole.__setitem__(rows, part[: len(rows)]),
                    answers,
                    out,
                )
            done += len(rows)
            if bar is not None:
                bar.update(done)
        return answers

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the task again, its backbone among them."""
        serialize = keras.saving.serialize_keras_object
        return {**super().get_config(), "backbone": serialize(self.backbone)}


def _plan(
    lengths: np.ndarray, batch_size: int | None, fixed: bool, limit: int, tokens: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Rows of each batch and its length, longest first."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        longest = int(lengths[order[start]])
        if fixed:
            longest = min(next((b for b in _FINE if b >= longest), limit), limit)
        rows = max(1, tokens // longest)
        if fixed:
            rows = 1 << int(math.log2(rows))
        rows = min(rows, batch_size or rows)
        yield order[start : start + rows], longest
        start += rows


_FINE = tuple(sorted({*range(16, 129, 16), *range(160, 257, 32), *BUCKETS}))


def round_up(rows: int) -> int:
    """The number of rows that a compiled call is made for: a power of two.

    Args:
        rows: how many are needed.

    >>> round_up(5)
    8
    """
    return 1 << math.ceil(math.log2(rows)) if rows > 1 else 1


def padded(inputs: dict[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
    """Inputs with copies of their last row behind it.

    Args:
        inputs: arrays of as many rows each.
        rows: how many are wanted.

    >>> padded({"x": np.array([1, 2])}, 4)["x"]
    array([1, 2, 2, 2])
    """
    return {k: np.concatenate([v, np.repeat(v[-1:], rows - len(v), 0)]) for k, v in inputs.items()}


def _matches(pattern: str, name: str) -> bool:
    import re

    return re.fullmatch(pattern, name) is not None


def _claims(table: WeightTable, tensor: str) -> bool:
    return any(tensor == v or tensor.startswith(f"{v}.") for v in table.rows.values())


def first_texts(x: Any) -> list[str]:
    """The texts of an input, without the second ones of pairs."""
    return texts_and_pairs(x)[0]
