"""The types of the settings of `generate`, for type checkers and editors."""

from collections.abc import Callable, Sequence
from typing import Any, TypedDict


class GenerationSettings(TypedDict, total=False):
    """Settings of `generate` by name: those of `hub.Sampling`, and what else does not change what
    it returns.
    """

    sampler: Any
    stop_strings: str | Sequence[str]
    seed: int | None
    batch_size: int
    do_sample: bool
    temperature: float
    top_k: int
    top_p: float
    min_p: float | None
    num_beams: int
    length_penalty: float
    early_stopping: bool | str
    patience: float
    penalty_alpha: float | None
    repetition_penalty: float
    no_repeat_ngram_size: int
    min_length: int
    min_new_tokens: int
    max_new_tokens: int | None
    suppress_tokens: Sequence[int]
    begin_suppress_tokens: Sequence[int]
    forced_bos_token_id: int | None
    forced_eos_token_id: int | None
    rules: Sequence[Callable[..., Any]]
