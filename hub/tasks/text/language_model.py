"""LanguageModel: the base of tasks that generate text: settings, prompts, streams, texts."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Unpack, overload

import numpy as np

import keraslite as keras
from hub.generation.loop import Generator
from hub.generation.sampling import SAMPLERS, Sampling
from hub.generation.settings import GenerationSettings
from hub.generation.stream import TextStream, first_stop
from hub.models.inputs import check_not_none
from hub.preprocessing.text import bucket, plain_texts
from hub.tasks.text.text_task import TextTask, example_texts

_NEW_TOKENS = 128  # where neither the caller nor generation_config.json says

_Yes = Literal[True]
_No = Literal[False]


class LanguageModel(TextTask):
    """A task that generates text, one token after the other.

    Subclasses have `init_cache` and `decode_step` for `hub.generation.loop.Generator`, and
    `_prompts`.
    """

    may_be_new = ()
    answers_compiled = False
    command_options = {"--max-new-tokens": {"type": int, "help": "the most tokens of an answer"}}

    def __init__(
        self, backbone: Any, preprocessor: Any = None, sampling: Any = None, **kwargs: Any
    ):
        super().__init__(backbone, preprocessor, **kwargs)
        if isinstance(sampling, dict):  # of a config
            sampling = Sampling().updated(**sampling)
        self.sampling = Sampling() if sampling is None else sampling
        self._kl_generator = Generator(self)

    @classmethod
    def checkpoint_arguments(cls, files: Any, config: dict) -> dict[str, Any]:
        name = "generation_config.json"
        settings = files.json(name) if name in files else {}
        if settings.get("eos_token_id") is None and config.get("eos_token_id") is not None:
            settings["eos_token_id"] = config["eos_token_id"]
        try:
            return {"sampling": Sampling.from_config(settings)}
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} of {files.location}: {error}") from error

    def compile(
        self, optimizer: Any = "auto", loss: Any = "auto", sampler: Any = None, **kwargs: Any
    ) -> None:
        """Set optimizer, loss, metrics and the sampler.

        Args:
            optimizer: as for `Task.compile`.
            loss: as for `Task.compile`.
            sampler: "greedy", "random", "top_k", "top_p", "beam" or "contrastive", or a
                `hub.Sampling`; what the checkpoint says by default.
            kwargs: as for `Model.compile`.
        """
        if sampler is not None:
            self.sampling = self._sampling(sampler)
        super().compile(optimizer, loss, **kwargs)

    def _sampling(self, sampler: Any, **settings: Any) -> Sampling:
        sampling = self.sampling
        if isinstance(sampler, Sampling):
            eos_token_id = sampler.eos_token_id or sampling.eos_token_id
            sampling = sampler.updated(eos_token_id=eos_token_id)
        elif sampler is not None:
            if sampler not in SAMPLERS:
                raise ValueError(
                    f"sampler must be a hub.Sampling or one of {sorted(SAMPLERS)}, got {sampler!r}."
                )
            sampling = sampling.updated(**{**SAMPLERS["greedy"], **SAMPLERS[sampler]})
        return sampling.updated(**settings)

    # -- generation ---------------------------------------------------------------------------

    @overload
    def generate(
        self, inputs: str, max_length: int | None = None, stop_token_ids: Any = "auto",
        strip_prompt: bool = False, *, stream: _Yes, **settings: Unpack[GenerationSettings],
    ) -> Iterator[str]: ...  # fmt: skip

    @overload
    def generate(
        self, inputs: Sequence[str], max_length: int | None = None, stop_token_ids: Any = "auto",
        strip_prompt: bool = False, *, stream: _Yes, **settings: Unpack[GenerationSettings],
    ) -> Iterator[list[str]]: ...  # fmt: skip

    @overload
    def generate(
        self, inputs: str, max_length: int | None = None, stop_token_ids: Any = "auto",
        strip_prompt: bool = False, *, stream: _No = False, return_ids: _No = False,
        return_scores: _No = False, **settings: Unpack[GenerationSettings],
    ) -> str: ...  # fmt: skip

    @overload
    def generate(
        self, inputs: str, max_length: int | None = None, stop_token_ids: Any = "auto",
        strip_prompt: bool = False, *, num_return_sequences: int, stream: _No = False,
        return_ids: _No = False, return_scores: _No = False, **settings: Unpack[GenerationSettings],
    ) -> list[str]: ...  # fmt: skip

    @overload
    def generate(
        self, inputs: Sequence[str], max_length: int | None = None, stop_token_ids: Any = "auto",
        strip_prompt: bool = False, *, stream: _No = False, return_ids: _No = False,
        return_scores: _No = False, **settings: Unpack[GenerationSettings],
    ) -> list[str]: ...  # fmt: skip

    @overload
    def generate(
        self, inputs: Sequence[str], max_length: int | None = None, stop_token_ids: Any = "auto",
        strip_prompt: bool = False, *, num_return_sequences: int, stream: _No = False,
        return_ids: _No = False, return_scores: _No = False, **settings: Unpack[GenerationSettings],
    ) -> list[list[str]]: ...  # fmt: skip

    @overload
    def generate(
        self, inputs: str, max_length: int | None = None, stop_token_ids: Any = "auto",
        strip_prompt: bool = False, *, return_scores: _Yes, stream: _No = False,
        return_ids: _No = False, **settings: Unpack[GenerationSettings],
    ) -> tuple[str, np.ndarray]: ...  # fmt: skip

    @overload
    def generate(
        self, inputs: Sequence[str], max_length: int | None = None, stop_token_ids: Any = "auto",
        strip_prompt: bool = False, *, return_scores: _Yes, stream: _No = False,
        return_ids: _No = False, **settings: Unpack[GenerationSettings],
    ) -> tuple[list[str], np.ndarray]: ...  # fmt: skip

    @overload
    def generate(
        self, inputs: str | Sequence[str] | Mapping[str, Any], max_length: int | None = None,
        stop_token_ids: Any = "auto", strip_prompt: bool = False, *, return_ids: _Yes,
        stream: _No = False, return_scores: _No = False, **settings: Unpack[GenerationSettings],
    ) -> dict[str, np.ndarray]: ...  # fmt: skip

    @overload
    def generate(
        self, inputs: str | Sequence[str] | Mapping[str, Any], max_length: int | None = None,
        stop_token_ids: Any = "auto", strip_prompt: bool = False, *, return_ids: _Yes,
        return_scores: _Yes, stream: _No = False, **settings: Unpack[GenerationSettings],
    ) -> tuple[dict[str, np.ndarray], np.ndarray]: ...  # fmt: skip

    @overload
    def generate(
        self, inputs: str, max_length: int | None = None, stop_token_ids: Any = "auto",
        strip_prompt: bool = False, *, return_ids: Literal["ragged"], stream: _No = False,
        return_scores: _No = False, **settings: Unpack[GenerationSettings],
    ) -> np.ndarray: ...  # fmt: skip

    @overload
    def generate(
        self, inputs: Sequence[str], max_length: int | None = None, stop_token_ids: Any = "auto",
        strip_prompt: bool = False, *, return_ids: Literal["ragged"], stream: _No = False,
        return_scores: _No = False, **settings: Unpack[GenerationSettings],
    ) -> list[np.ndarray]: ...  # fmt: skip

    @overload
    def generate(
        self, inputs: Mapping[str, Any], max_length: int | None = None,
        stop_token_ids: Any = "auto", strip_prompt: bool = False, *, stream: _No = False,
        return_ids: _No = False, return_scores: _No = False, **settings: Unpack[GenerationSettings],
    ) -> dict[str, np.ndarray]: ...  # fmt: skip

    @overload
    def generate(
        self, inputs: Mapping[str, Any], max_length: int | None = None,
        stop_token_ids: Any = "auto", strip_prompt: bool = False, *, return_scores: _Yes,
        stream: _No = False, return_ids: _No = False, **settings: Unpack[GenerationSettings],
    ) -> tuple[dict[str, np.ndarray], np.ndarray]: ...  # fmt: skip

    def generate(
        self,
        inputs: Any,
        max_length: int | None = None,
        stop_token_ids: Any = "auto",
        strip_prompt: bool = False,
        *,
        sampler: Any = None,
        stop_strings: Any = (),
        stream: bool = False,
        seed: int | None = None,
        batch_size: int = 32,
        return_ids: bool | str = False,
        return_scores: bool = False,
        **settings: Any,
    ) -> Any:
        """Continue prompts.

        A batch gives what its prompts would give one by one; draws are the same on every backend.

        Args:
            inputs: a text or a list of texts; without a preprocessor, a dict of `token_ids` and
                `padding_mask`, each (batch, length).
            max_length: the most tokens of a text, those of the prompt included.
            stop_token_ids: the tokens that end a text: an id, a list or an array; those of the
                checkpoint for "auto", None for none.
            strip_prompt: whether the answers leave the prompts out.
            sampler: as for `compile`; what was said there by default.
            stop_strings: texts at whose first appearance an answer ends.
            stream: return an iterator over pieces of text as they come: strings for a single
                prompt, else lists of one string a prompt.
            seed: of the draws; a new one by default.
            batch_size: the most prompts that are continued at a time.
            return_ids: whether to return token ids in place of texts: True for a dict of
                `token_ids`, padded on the right with the padding token, and `padding_mask`;
                "ragged" for an array a text.
            return_scores: whether to return a pair of the answers and their scores, the
                log-probabilities of their new tokens under the model, (prompts,) or (prompts,
                texts) of float32.
            settings: any of `hub.Sampling`, such as `max_new_tokens`, `temperature`, `top_p`,
                `num_beams`, `num_return_sequences`.

        Returns:
            A text for a text, a list for a list; for each prompt a list where
            `num_return_sequences` is above 1. Without a preprocessor, a dict of arrays.

        Raises:
            ValueError: prompt and answer are longer than the positions of the model, an id has no
                embedding, or a setting is invalid.

        >>> from hub import GPT2Backbone, CausalLM
        >>> model = CausalLM(GPT2Backbone(9, num_layers=1, num_heads=2, hidden_dim=8))
        >>> out, scores = model.generate(
        ...     {"token_ids": [[1, 2], [3, 4]]}, max_new_tokens=3, return_scores=True
        ... )
        >>> out["token_ids"].shape, scores.shape
        ((2, 5), (2,))
        """
        if not isinstance(stop_token_ids, str):
            settings["eos_token_id"] = () if stop_token_ids is None else stop_token_ids
        if return_ids not in (False, True, "ragged"):
            raise ValueError(f'return_ids must be False, True or "ragged", got {return_ids!r}.')
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be an integer, at least 1, got {batch_size!r}.")
        sampling = self._sampling(sampler, max_length=max_length, **settings)
        stops = [stop_strings] if isinstance(stop_strings, str) else list(stop_strings)
        if self.preprocessor is None and (stops or stream):
            raise ValueError("stop_strings and stream need a preprocessor, got a task without one.")
        if stream and (return_ids or return_scores):
            raise ValueError("stream yields texts: it excludes return_ids and return_scores.")
        if stream and sampling.num_beams > 1:
            raise ValueError("Beam search cannot stream: its text is only known at the end.")
        if seed is None:
            with keras.backend.backend_scope(self.backend):
                seed = keras.random.SeedGenerator().get_config()["seed"]
        check_not_none(inputs)
        inputs = inputs if isinstance(inputs, Mapping) else plain_texts(inputs)
        single = isinstance(inputs, str)
        if isinstance(inputs, Mapping):
            inputs = self._named_inputs({k: np.asarray(v) for k, v in inputs.items()})
        prompts, extra = self._prompts([inputs] if single else inputs)
        if max_length is not None or settings.get("max_new_tokens") is not None:
            self._check_room(max(map(len, prompts)), sampling)
        if stream:
            return self._stream(prompts, extra, sampling, seed, stops, single)
        answers: list[list[np.ndarray]] = []
        for start in range(0, len(prompts), batch_size):
            part = slice(start, start + batch_size)
            part_extra = {k: v[part] for k, v in extra.items()}
            new = list(self._decode(prompts[part], part_extra, sampling, seed, stops))[-1]
            answers += [list(rows) for rows in new]
        texts: Any = None
        if self.preprocessor is not None and not return_ids:
            texts = self._nested(
                [[self._text(prompt, new, stops, strip_prompt) for new in rows]
                 for prompt, rows in zip(prompts, answers, strict=True)], single,
            )  # fmt: skip
        if stops and (return_ids or return_scores):
            answers = [[self._until_stop(new, stops) for new in rows] for rows in answers]
        out = texts
        if texts is None:
            before = [prompt[:0] if strip_prompt else prompt for prompt in prompts]
            rows = [[np.concatenate([p, new]) for new in group]
                    for p, group in zip(before, answers, strict=True)]  # fmt: skip
            ragged = return_ids == "ragged"
            out = self._nested(rows, single) if ragged else _padded(rows, self._pad_id(sampling))
        if not return_scores:
            return out
        scores = self._answer_scores(prompts, answers, extra, batch_size)
        return out, np.array(self._nested(scores.tolist(), single), "float32")

    @staticmethod
    def _nested(rows: list[list], single: bool) -> Any:
        """Return the answers of each prompt: one, or a list of them; of a single prompt its own."""
        nested = [group[0] if len(group) == 1 else group for group in rows]
        return nested[0] if single else nested

    def _decode(
        self, prompts: list[np.ndarray], extra: dict, sampling: Sampling, seed: int,
        stops: list[str], interval: int | None = None,
    ) -> Iterator[list[list[np.ndarray]]]:  # fmt: skip
        """Yield the new ids of each text of each prompt, up to their ends, every few steps."""
        width = bucket(max(len(p) for p in prompts), 2**30)
        limits = [self._new_tokens(len(p), sampling) for p in prompts]
        pad_id = self._pad_id(sampling)
        tokens = np.full((len(prompts), width), pad_id, "int32")
        attention_mask = np.zeros(tokens.shape, bool)
        for row, prompt in enumerate(prompts):
            tokens[row, width - len(prompt) :] = prompt
            attention_mask[row, width - len(prompt) :] = True
        for generated in self._kl_generator(
            tokens, attention_mask, extra, sampling, max(limits), pad_id, seed, interval,
            self._stop_test(stops) if stops else None,
        ):  # fmt: skip
            yield [
                [_until_end(ids[:limit], sampling.eos_token_id) for ids in rows]
                for rows, limit in zip(generated.tokens, limits, strict=True)
            ]

    def _new_tokens(self, length: int, sampling: Sampling) -> int:
        """Return the largest number of new tokens for a prompt of some length."""
        positions = self._positions()
        if positions is not None and length >= positions:
            raise ValueError(
                f"A prompt has {length} tokens, but the model has {positions} positions: nothing "
                "could follow it. Give a shorter prompt."
            )
        count = sampling.max_new_tokens
        if count is None:
            max_length = sampling.max_length
            count = _NEW_TOKENS if max_length is None else max_length - length
        if count < 1:
            raise ValueError(
                f"max_length={sampling.max_length} leaves no room after a prompt of {length} "
                "tokens."
            )
        return count if positions is None else min(count, positions - length)

    def _check_room(self, length: int, sampling: Sampling) -> None:
        """Raise ValueError if the model has too few positions for what a caller asks for."""
        positions = self._positions()
        if positions is None or length >= positions:
            return  # the latter is another error
        name = "max_length" if sampling.max_new_tokens is None else "max_new_tokens"
        asked = getattr(sampling, name)
        total = asked if name == "max_length" else length + asked
        if total > positions:
            room = positions if name == "max_length" else positions - length
            raise ValueError(
                f"{name} must be at most {room} after a prompt of {length} tokens, since the model "
                f"has {positions} positions; got {asked}."
            )

    def _positions(self) -> int | None:
        """Return the limit of prompt and answer together, in tokens; None for no limit."""
        return self.backbone.max_sequence_length

    def _pad_id(self, sampling: Sampling) -> int:
        if self.preprocessor is not None:
            return self.preprocessor.tokenizer.pad_token_id
        return sampling.eos_token_id[0] if sampling.eos_token_id else 0

    def _prompts(self, inputs: Any) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        """Return the ids that the decoder begins with, and its further inputs, a row a prompt."""
        raise NotImplementedError

    def _text(
        self, prompt: np.ndarray, new: np.ndarray, stops: list[str], strip_prompt: bool
    ) -> str:
        detokenize = self.preprocessor.tokenizer.detokenize
        text = detokenize(new)
        if stops:
            end = first_stop(text, stops)
            if end is not None:
                return text[:end] if strip_prompt else detokenize(prompt) + text[:end]
        return text if strip_prompt else detokenize([*prompt, *new])

    def _until_stop(self, new: np.ndarray, stops: list[str]) -> np.ndarray:
        """Return ids up to the first with which a stop string is complete."""
        detokenize = self.preprocessor.tokenizer.detokenize
        ends = (n for n in range(1, len(new) + 1) if first_stop(detokenize(new[:n]), stops))
        return new[: next(ends, len(new))]

    def _stop_test(self, stops: list[str]) -> Callable[[np.ndarray], np.ndarray]:
        detokenize = self.preprocessor.tokenizer.detokenize
        return lambda rows: np.array([first_stop(detokenize(r), stops) is not None for r in rows])

    def _stream(
        self, prompts: list, extra: dict, sampling: Sampling, seed: int, stops: list[str],
        single: bool,
    ) -> Iterator[Any]:  # fmt: skip
        """Yield pieces of text: strings for a single prompt, else lists of one string a prompt."""
        stream = TextStream(self.preprocessor.tokenizer.detokenize, stops, len(prompts))
        snapshots = self._decode(prompts, extra, sampling, seed, stops, interval=1)
        for pieces in stream.pieces([ids for ids, *_ in rows] for rows in snapshots):
            yield pieces[0] if single else pieces

    def answers(self, inputs: list[str], options: Any) -> list[dict[str, Any]]:
        """Return the text for each prompt."""
        texts = self.generate(inputs, max_new_tokens=options.max_new_tokens, seed=options.seed)
        return [{"text": text} for text in texts]

    def workload(self, count: int) -> tuple[Any, int, str]:
        """Return the generation of texts, the number of tokens, and the unit.

        Args:
            count: the most prompts.
        """
        prompts = example_texts(min(count, 8), 3)
        new = min(32, (self.backbone.max_sequence_length or 64) // 4)
        settings = {"max_new_tokens": new, "stop_token_ids": None, "num_return_sequences": 1}
        return (
            lambda: self.generate(prompts, **settings, seed=0), new * len(prompts), "tokens"
        )  # fmt: skip

    # -- training -----------------------------------------------------------------------------

    def _defaults(self) -> dict[str, Any]:
        return {
            "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "weighted_metrics": [keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        }

    def score(self, inputs: Any, batch_size: int = 32, verbose: int = 0) -> np.ndarray:
        """Return the log-probability of each text, or of each response after its prompt.

        Args:
            inputs: what `fit` takes.
            batch_size: the most texts at a time.
            verbose: 1 shows a progress bar.

        Returns:
            (texts,) float32: sums over the tokens that `fit` would learn.
        """
        check_not_none(inputs)
        inputs, _ = self._columns(plain_texts(inputs), None)
        count = len(next(iter(inputs.values())) if isinstance(inputs, dict) else inputs)
        bar = keras.utils.Progbar(count, unit_name="text") if verbose else None
        out = []
        for start in range(0, count, batch_size):
            part = slice(start, start + batch_size)
            rows = (
                {k: v[part] for k, v in inputs.items()}
                if isinstance(inputs, dict)
                else inputs[part]
            )
            out.append(self._log_probabilities(*self.preprocessor(rows)))
            if bar is not None:
                bar.update(min(start + batch_size, count))
        return np.concatenate(out).astype("float32")

    def _log_probabilities(self, x: Any, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the sum of the weighted log-probabilities of the labels of each row."""
        logits = np.asarray(self.predict_on_batch(x), "float32")
        shifted = logits - logits.max(-1, keepdims=True)
        picked = np.take_along_axis(shifted, labels[..., None].astype(int), -1)[..., 0]
        return ((picked - np.log(np.exp(shifted).sum(-1))) * weights).sum(-1)

    def _answer_scores(
        self, prompts: list, answers: list, extra: dict, batch_size: int
    ) -> np.ndarray:
        """Return the log-probability of each answer, (prompts, texts)."""
        texts = len(answers[0])
        rows = [(p, new) for p, group in zip(prompts, answers, strict=True) for new in group]
        extra = {name: np.repeat(value, texts, axis=0) for name, value in extra.items()}
        longest = max(len(p) + len(new) for p, new in rows) - 1
        length = bucket(max(longest, 1), self._positions() or 2**30)
        scores = []
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            ids = np.zeros((len(part), length + 1), "int32")
            weights = np.zeros((len(part), length), "float32")
            padding_mask = np.zeros(weights.shape, bool)
            for row, (prompt, new) in enumerate(part):
                end = len(prompt) + len(new)
                ids[row, :end] = np.concatenate([prompt, new])
                padding_mask[row, : max(end - 1, 1)] = True
                weights[row, len(prompt) - 1 : end - 1] = 1.0
            inputs = self._model_inputs(
                ids[:, :-1], padding_mask,
                {name: value[start : start + batch_size] for name, value in extra.items()},
            )  # fmt: skip
            scores.append(self._log_probabilities(inputs, ids[:, 1:], weights))
        return np.concatenate(scores).reshape(len(prompts), texts)

    def _model_inputs(self, token_ids: Any, padding_mask: Any, extra: dict) -> dict[str, Any]:
        """Return the inputs of `call`, given those of the decoder and what `_prompts` gave."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the task."""
        sampling = dataclasses.asdict(dataclasses.replace(self.sampling, rules=()))
        return {**super().get_config(), "sampling": sampling}

    def config_json(self) -> dict[str, Any]:
        return {"eos_token_id": _plain(self.sampling.eos_token_id)}


def _padded(rows: list[list[np.ndarray]], pad_id: int) -> dict[str, np.ndarray]:
    """Return ids of texts of prompts as one batch, padded on the right."""
    texts = [row for group in rows for row in group]
    lengths = np.array([len(text) for text in texts])[:, None]
    padding_mask = np.arange(lengths.max())[None] < lengths
    token_ids = np.full(padding_mask.shape, pad_id, "int32")
    token_ids[padding_mask] = np.concatenate(texts)
    return {"token_ids": token_ids, "padding_mask": padding_mask}


def _plain(ids: tuple[int, ...]) -> Any:
    return None if not ids else ids[0] if len(ids) == 1 else list(ids)


def _until_end(ids: np.ndarray, eos_token_id: tuple[int, ...]) -> np.ndarray:
    """Return ids up to the first that ends a text, which is kept."""
    ends = np.flatnonzero(np.isin(ids, eos_token_id))
    return ids[: ends[0] + 1] if len(ends) else ids
