"""Rules of the caller inside a generation loop, temperatures and the patience of beam search."""

from dataclasses import dataclass

import numpy as np
import pytest
import text_checkpoints as tiny
import torch
from checkpoints import cached
from text_checkpoints import IDS, MASK, bare, long
from transformers.generation import LogitsProcessor, LogitsProcessorList

import hub
import keraslite as keras
from hub.generation.sampling import Sampling
from keraslite import ops


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return cached(tiny.make, tmp_path_factory)


@dataclass(frozen=True)
class Rising:
    """Allow no token below the last one but the first of the vocabulary, from a step on."""

    first: int

    def __call__(self, scores, tokens, is_written, index, step):
        position = ops.arange(tokens.shape[1], dtype="int32")[None]
        last = ops.max(ops.where(ops.equal(position, index - 1), tokens, 0), axis=1)[:, None]
        token = ops.arange(scores.shape[-1], dtype="int32")[None]
        refused = ops.logical_and(token > 0, token < last)
        return ops.where(ops.logical_and(refused, step >= self.first), float("-inf"), scores)


class TheirRising(LogitsProcessor):
    def __init__(self, first, prompt_length):
        self.first, self.prompt_length = first, prompt_length

    def __call__(self, input_ids, scores):
        if input_ids.shape[1] - self.prompt_length < self.first:
            return scores
        token = torch.arange(scores.shape[-1])[None]
        refused = (token > 0) & (token < input_ids[:, -1:])
        return scores.masked_fill(refused, float("-inf"))


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}])
def test_rules_are_applied_to_scores(backend, checkpoints, settings):
    folder, theirs = checkpoints("gpt2")
    model = bare(hub.CausalLM, folder)
    inputs = {"token_ids": IDS, "padding_mask": MASK}
    out = model.generate(inputs, max_new_tokens=8, rules=[Rising(2)], **settings)
    for row, mask, ids, valid in zip(out["token_ids"], out["padding_mask"], IDS, MASK, strict=True):
        prompt = ids[valid]
        expected = theirs.generate(
            long(prompt)[None], max_new_tokens=8, do_sample=False, **settings,
            logits_processor=LogitsProcessorList([TheirRising(2, len(prompt))]),
        )[0].tolist()  # fmt: skip
        row = row[mask].tolist()
        assert row == expected[: len(row)]
        new = row[len(prompt) + 2 :]
        assert new == sorted(new) or 0 in new


def test_another_temperature_does_not_compile_again(checkpoints):
    folder, _ = checkpoints("gpt2")
    with keras.use_backend("jax"):
        model = hub.CausalLM.from_preset(folder)
        settings = {"do_sample": True, "max_new_tokens": 8, "seed": 3}
        texts = [
            model.generate(tiny.PROMPTS[0], temperature=t, **settings) for t in (0.1, 1.0, 3.0)
        ]
        assert len(set(texts)) > 1
        assert len(model._kl_generator.functions) == 1
        again = hub.CausalLM.from_preset(folder).generate(
            tiny.PROMPTS[0], temperature=3.0, **settings
        )
        assert again == texts[2]


def patient(theirs, prompt, beams, patience, count, end):
    """The best text of a beam search that waits for `beams * patience` ended ones."""
    running, ended = [(0.0, list(prompt))], []
    for step in range(count):
        candidates = []
        for score, ids in running:
            with torch.no_grad():
                logits = theirs(long([ids])).logits[0, -1]
            scores = torch.log_softmax(logits, -1)
            for i in torch.topk(scores, 2 * beams).indices.tolist():
                candidates.append((score + scores[i].item(), [*ids, i]))
        candidates.sort(key=lambda candidate: -candidate[0])
        is_last = step + 1 == count
        for score, ids in candidates[:beams]:
            if ids[-1] == end or is_last:
                ended.append((score / (step + 1), ids))
        ended = sorted(ended, key=lambda text: -text[0])[: round(beams * patience)]
        running = [c for c in candidates if c[1][-1] != end][:beams]
        if len(ended) == round(beams * patience):
            break
    return ended[0][1]


@pytest.mark.parametrize("patience", [0.5, 1.0, 2.5])
def test_patience_is_the_number_of_texts_to_wait_for(backend, checkpoints, patience):
    folder, theirs = checkpoints("gpt2")
    model = bare(hub.CausalLM, folder)
    # A token that ends texts often.
    prompt = IDS[0][MASK[0]]
    end = int(model.generate({"token_ids": [prompt]}, max_new_tokens=3)["token_ids"][0, -1])
    out = model.generate(
        {"token_ids": [prompt]}, max_new_tokens=7, num_beams=2, early_stopping=True,
        patience=patience, stop_token_ids=end,
    )  # fmt: skip
    expected = patient(theirs, prompt.tolist(), 2, patience, 7, end)
    assert out["token_ids"][0].tolist() == expected


def test_patience_must_be_positive():
    with pytest.raises(ValueError, match="patience must be more than 0, got 0"):
        Sampling(patience=0)
    assert hash(Sampling(rules=[Rising(1)])) == hash(Sampling(rules=(Rising(1),)))
    assert np.array_equal(Sampling(suppress_tokens=np.array([3, 4])).suppress_tokens, (3, 4))
