"""TextTask: tasks that read texts, in batches of about equal numbers of tokens."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

import keraslite as keras
from hub import tokenizers
from hub.families import Family
from hub.models.inputs import check_not_none
from hub.preprocessing.text import BUCKETS, TextPreprocessor, is_text
from hub.presets.files import PresetFiles
from hub.tasks.batches import padded, round_up
from hub.tasks.task import Task

_TOKENS_A_BATCH = 1024  # what stays in the cache of a CPU
_ACCELERATED = 16384
_WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and")


def text_preprocessor(
    cls: type, files: PresetFiles, family: Family, backbone: Any, sequence_length: int | None
) -> Any:
    """Return a preprocessor with the tokenizer of a checkpoint.

    Args:
        cls: of the preprocessor.
        files: of the checkpoint.
        family: of the backbone.
        backbone: the backbone; its positions limit the length.
        sequence_length: the most tokens of a text; what the checkpoint says where it is None.

    Raises:
        ValueError: the length is not a positive integer or exceeds the positions of the model, or
            the tokenizer has more tokens than the model.
    """
    tokenizer = getattr(tokenizers, family.tokenizer).from_files(files)
    last, size = len(tokenizer.get_vocabulary()) - 1, backbone.vocabulary_size
    if last >= size:
        raise ValueError(
            f"The tokenizer of {files.location} has ids up to {last} "
            f"({tokenizer.id_to_token(last)!r}), but the model has embeddings for {size} tokens: "
            "the files are not of one checkpoint, or the embedding must be resized."
        )
    positions = backbone.max_sequence_length
    if isinstance(sequence_length, int) and sequence_length > positions:
        raise ValueError(
            f"sequence_length={sequence_length} is more than the {positions} positions of the "
            "model."
        )
    limit = min(tokenizer.max_length, positions)
    return cls(tokenizer, sequence_length=limit if sequence_length is None else sequence_length)


def example_texts(count: int, lengths: Any = None) -> list[str]:
    """Return texts to measure with: words in a random order, the same each time.

    Args:
        count: the number of texts.
        lengths: the number of words of each; from 8 to 79 where it is None.
    """
    generator = np.random.default_rng(0)
    lengths = generator.integers(8, 80, count) if lengths is None else [lengths] * count
    return [" ".join(generator.choice(_WORDS, n)) for n in lengths]


class TextTask(Task):
    """A task that reads texts.

    Attributes:
        default_preprocessor: the class of preprocessor that `from_preset` makes.
    """

    default_preprocessor: type = TextPreprocessor
    preprocessor_options = ("sequence_length",)

    @classmethod
    def make_preprocessor(
        cls, files: PresetFiles, family: Family, backbone: Any,
        sequence_length: int | None = None, **options: Any,
    ) -> Any:  # fmt: skip
        """Return the preprocessor with the tokenizer of a checkpoint.

        Args:
            files: of the checkpoint.
            family: of the backbone.
            backbone: the backbone.
            sequence_length: the most tokens of a text; what the checkpoint says by default.
            options: none.
        """
        return text_preprocessor(cls.default_preprocessor, files, family, backbone, sequence_length)

    def _takes(self, x: Any) -> bool:
        """Return whether an input is for the preprocessor."""
        return is_text(x)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks: Any = None,
    ) -> np.ndarray:
        """Return the outputs for texts or ready inputs.

        Texts are sorted by length and put into batches of about equal numbers of tokens, which
        saves most of the padding; the answers come back in the order of the texts.

        Args:
            x: texts or ready inputs.
            batch_size: the most texts of a batch.
            verbose: 0 silent, 1 a progress bar.
            steps: as for `Model.predict`, for ready inputs.
            callbacks: as for `Model.predict`, for ready inputs.
        """
        check_not_none(x)
        if self.preprocessor is None or not is_text(x):
            return super().predict(x, batch_size, verbose, steps, callbacks)
        encodings = self.preprocessor.encode(x)
        return self._predict_encoded(encodings, batch_size, verbose)

    def _predict_encoded(
        self, encodings: list, batch_size: int | None, verbose: Any, ragged: bool = False
    ) -> Any:
        """Return outputs in the order of encodings; ragged, a list of each one's tokens."""
        integer = isinstance(batch_size, int | np.integer) and batch_size >= 1
        if batch_size is not None and not integer:
            raise ValueError(f"batch_size must be a positive integer, got {batch_size!r}.")
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

    def workload(self, count: int) -> tuple[Any, int, str]:
        """Return a prediction of texts, their number, and the unit.

        Args:
            count: the number of texts.
        """
        texts = example_texts(count)
        return lambda: self.predict(texts, verbose=0), count, "texts"


def _plan(
    lengths: np.ndarray, batch_size: int | None, fixed: bool, limit: int, tokens: int
) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the rows of each batch and its length, longest first."""
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
