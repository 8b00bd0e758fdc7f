"""Language models against transformers: scores, and texts by every way to choose tokens."""

import itertools
import json
import shutil
from functools import partial

import compare
import numpy as np
import pytest
import text_checkpoints as tiny
import torch
import transformers
from checkpoints import cached
from text_checkpoints import IDS, MASK, T5_IDS, bare, long
from transformers.generation import logits_process as warpers

import hub
import keraslite as keras
from hub.generation import sampling
from hub.generation.sampling import Sampling
from keraslite import ops

DECODER_IDS = np.random.default_rng(1).integers(3, 90, (3, 15)).astype("int32")
DECODER_MASK = np.array([[1] * 15, [1] * 4 + [0] * 11, [1] * 2 + [0] * 13]) > 0
WAYS = {
    "greedy": {},
    "repetition": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
    "praise": {"repetition_penalty": 0.8},
    "late": {"min_new_tokens": 6},
    "beams": {"num_beams": 3},
    "best two": {"num_beams": 4, "num_return_sequences": 2, "length_penalty": 0.5,
                 "early_stopping": True},
    "never": {"num_beams": 2, "length_penalty": 2.0, "early_stopping": "never",
              "no_repeat_ngram_size": 3},
    "suppressed": {"suppress_tokens": [5, 6, 7, 8], "begin_suppress_tokens": list(range(10, 60))},
    "forced": {"forced_eos_token_id": 4},
}  # fmt: skip
CAUSAL = [k for k in tiny.KINDS if not k.startswith("t5")]
SEQ2SEQ = [k for k in tiny.KINDS if k.startswith("t5")]
assert_close = partial(compare.assert_close, rtol=0, atol=2e-5)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return cached(tiny.make, tmp_path_factory)


def their_ids(theirs, ids, count=12, **how):
    out = theirs.generate(
        long(ids)[None], attention_mask=torch.ones(1, len(ids)).long(), max_new_tokens=count,
        do_sample=False, **how,
    )  # fmt: skip
    return [row.tolist() for row in out]


def assert_same_ids(out, theirs, prompts, many, **how):
    rows = iter(zip(out["token_ids"], out["padding_mask"], strict=True))
    for prompt in prompts:
        for expected in their_ids(theirs, prompt, **how):
            ids, mask = next(rows)
            ids = ids[mask].tolist()
            # Theirs goes on with padding behind the end of a text.
            assert ids == expected[: len(ids)]
            assert len(set(expected[len(ids) :])) <= 1


@pytest.mark.parametrize("kind", CAUSAL)
def test_causal_scores(backend, checkpoints, kind):
    folder, theirs = checkpoints(kind)
    expected = theirs(input_ids=long(IDS), attention_mask=long(MASK)).logits
    model = bare(hub.CausalLM, folder)
    out = keras.ops.convert_to_numpy(model({"token_ids": IDS, "padding_mask": MASK}))
    assert_close(out * MASK[..., None], expected * torch.from_numpy(MASK[..., None]))


@pytest.mark.parametrize("kind", SEQ2SEQ)
def test_seq2seq_scores(backend, checkpoints, kind):
    folder, theirs = checkpoints(kind)
    expected = theirs(
        input_ids=long(T5_IDS), attention_mask=long(MASK), decoder_input_ids=long(DECODER_IDS),
        decoder_attention_mask=long(DECODER_MASK),
    ).logits.detach().numpy()  # fmt: skip
    model = bare(hub.Seq2SeqLM, folder)
    out = model({
        "encoder_token_ids": T5_IDS, "encoder_padding_mask": MASK,
        "decoder_token_ids": DECODER_IDS, "decoder_padding_mask": DECODER_MASK,
    })  # fmt: skip
    out = keras.ops.convert_to_numpy(out)
    mask = DECODER_MASK[..., None]
    np.testing.assert_allclose(out * mask, expected * mask, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("kind", "way"),
    [*(("gpt2", way) for way in WAYS), *itertools.product(CAUSAL[1:], ["greedy", "best two"])],
)
def test_a_batch_gives_what_transformers_gives_one_by_one(backend, checkpoints, kind, way):
    folder, theirs = checkpoints(kind)
    how = WAYS[way]
    model = bare(hub.CausalLM, folder)
    out = model.generate({"token_ids": IDS, "padding_mask": MASK}, max_new_tokens=12, **how)
    prompts = [row[mask] for row, mask in zip(IDS, MASK, strict=True)]
    assert_same_ids(out, theirs, prompts, 1, **how)


@pytest.mark.parametrize("product", ["torch", "onednn"])
@pytest.mark.parametrize("way", ["greedy", "best two"])
@pytest.mark.parametrize("kind", CAUSAL)
def test_packed_weights_give_the_same_texts(checkpoints, monkeypatch, kind, way, product):
    """As of a model that is large enough to be worth it, by either's products before."""
    from keraslite.backend.torch.fast import linear, packing

    monkeypatch.setitem(linear.PRODUCTS, torch.float32, product)
    for module, least in (
        (linear, "_LEAST"),
        (linear, "_LEAST_WEIGHTS"),
        (packing, "_MIN_WEIGHTS"),
    ):
        monkeypatch.setattr(module, least, 0)
    folder, theirs = checkpoints(kind)
    with keras.use_backend("torch"):
        model = bare(hub.CausalLM, folder)
        out = model.generate(
            {"token_ids": IDS, "padding_mask": MASK}, max_new_tokens=12, **WAYS[way]
        )
        assert any(v.value in packing._packs for v in model.weights)
    prompts = [row[mask] for row, mask in zip(IDS, MASK, strict=True)]
    assert_same_ids(out, theirs, prompts, 1, **WAYS[way])


@pytest.mark.parametrize("way", ["greedy", "repetition", "best two", "never"])
@pytest.mark.parametrize("kind", SEQ2SEQ)
def test_answers_are_those_of_transformers(backend, checkpoints, kind, way):
    folder, theirs = checkpoints(kind)
    how = WAYS[way]
    model = bare(hub.Seq2SeqLM, folder)
    out = model.generate(
        {"encoder_token_ids": T5_IDS, "encoder_padding_mask": MASK}, max_new_tokens=12, **how
    )
    prompts = [row[mask] for row, mask in zip(T5_IDS, MASK, strict=True)]
    assert_same_ids(out, theirs, prompts, 1, **how)


def contrastive(theirs, ids, alpha, k, count):
    """The definition: every candidate is read anew."""
    ids = list(ids)
    for _ in range(count):
        with torch.no_grad():
            out = theirs(long([ids]), output_hidden_states=True)
            said = torch.nn.functional.normalize(out.hidden_states[-1][0], dim=-1)
            best = []
            for p, i in zip(*torch.topk(torch.softmax(out.logits[0, -1], -1), k), strict=True):
                new = theirs(long([[*ids, int(i)]]), output_hidden_states=True)
                new = torch.nn.functional.normalize(new.hidden_states[-1][0, -1], dim=-1)
                best.append(((1 - alpha) * float(p) - alpha * float((said @ new).max()), int(i)))
        ids.append(max(best)[1])
        if ids[-1] == 0:
            break
    return ids


def test_contrastive_search_is_its_definition(backend, checkpoints):
    folder, theirs = checkpoints("gpt2")
    model = bare(hub.CausalLM, folder)
    out = model.generate(
        {"token_ids": IDS, "padding_mask": MASK}, max_new_tokens=6, penalty_alpha=0.6, top_k=4
    )
    for row, mask, ids, valid in zip(out["token_ids"], out["padding_mask"], IDS, MASK, strict=True):
        assert row[mask].tolist() == contrastive(theirs, ids[valid], 0.6, 4, 6)


@pytest.mark.parametrize(
    ("settings", "warper"),
    [
        ({"temperature": 0.7}, warpers.TemperatureLogitsWarper(0.7)),
        ({"top_k": 3}, warpers.TopKLogitsWarper(3)),
        ({"top_p": 0.6}, warpers.TopPLogitsWarper(0.6)),
        ({"min_p": 0.1}, warpers.MinPLogitsWarper(0.1)),
    ],
)
def test_what_may_be_drawn_is_transformers(backend, settings, warper):
    scores = np.random.default_rng(3).normal(size=(4, 30)).astype("float32") * 2
    how = Sampling(do_sample=True, top_k=0).updated(**settings)
    ours = keras.ops.convert_to_numpy(sampling.filter_scores(ops.convert_to_tensor(scores), how))
    np.testing.assert_allclose(ours, warper(None, torch.from_numpy(scores)).numpy(), rtol=1e-6)


def test_draws_follow_the_probabilities():
    scores = np.log(np.array([[0.5, 0.3, 0.15, 0.05]], "float32")).repeat(4000, 0)
    how = Sampling(do_sample=True, top_k=3)
    drawn = sampling.choose_tokens(ops.convert_to_tensor(scores), how, (5, 0))
    shares = np.bincount(keras.ops.convert_to_numpy(drawn), minlength=4) / 4000
    np.testing.assert_allclose(shares, [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0], atol=0.025)


@pytest.mark.slow
def test_a_seed_gives_one_text_on_every_backend(checkpoints):
    folder, _ = checkpoints("gpt2")
    found = set()
    for name in ("torch", "jax", "tensorflow", "numpy"):
        with keras.use_backend(name):
            model = hub.CausalLM.from_preset(folder)
            texts = model.generate(
                tiny.PROMPTS, max_new_tokens=10, sampler="top_p", top_p=0.95, seed=4
            )
            found.add(tuple(texts))
            assert texts != model.generate(
                tiny.PROMPTS, max_new_tokens=10, sampler="top_p", top_p=0.95, seed=5
            )
    assert len(found) == 1


@pytest.mark.parametrize("kind", ["gpt2", "opt", "t5"])
def test_texts_are_those_of_the_pipeline(backend, checkpoints, kind):
    folder, theirs = checkpoints(kind)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    task = hub.Seq2SeqLM if kind == "t5" else hub.CausalLM
    model = task.from_preset(folder)
    assert type(model).__name__ == {
        "gpt2": "GPT2CausalLM", "opt": "OPTCausalLM", "t5": "T5Seq2SeqLM",
    }[kind]  # fmt: skip
    texts = model.generate(tiny.PROMPTS, max_new_tokens=9)
    for prompt, text in zip(tiny.PROMPTS, texts, strict=True):
        ids = their_ids(theirs, tokenizer(prompt).input_ids, 9)[0]
        assert text == tokenizer.decode(ids, skip_special_tokens=True)
        assert model.generate(prompt, max_new_tokens=9) == text
    if kind != "t5":
        new = model.generate(tiny.PROMPTS[0], max_new_tokens=9, strip_prompt=True)
        assert tiny.PROMPTS[0] + new == texts[0]


def test_streams(backend, checkpoints):
    folder, _ = checkpoints("gpt2")
    model = hub.CausalLM.from_preset(folder)
    plain = {"max_new_tokens": 8, "suppress_tokens": range(96, 304)}  # whole characters only
    new = model.generate(tiny.PROMPTS, strip_prompt=True, **plain)
    pieces = list(model.generate(tiny.PROMPTS[0], stream=True, **plain))
    assert "".join(pieces) == new[0]
    assert len(pieces) > 3
    rows = list(model.generate(tiny.PROMPTS, stream=True, **plain))
    assert ["".join(column) for column in zip(*rows, strict=True)] == new
    bytewise = model.generate(tiny.PROMPTS[0], max_new_tokens=8, stream=True)
    assert "".join(bytewise) == model.generate(tiny.PROMPTS[0], max_new_tokens=8, strip_prompt=True)
    with pytest.raises(ValueError, match="cannot stream"):
        model.generate("a", num_beams=2, stream=True)


def test_a_stream_leaves_the_callers_contexts_alone(checkpoints):
    folder, _ = checkpoints("gpt2")
    with keras.use_backend("torch"):
        model = hub.CausalLM.from_preset(folder)
    with keras.use_backend("numpy"):
        plain = {"max_new_tokens": 8, "suppress_tokens": range(96, 304)}
        pieces = model.generate(tiny.PROMPTS[0], stream=True, **plain)
        next(pieces)
        assert keras.backend() == "numpy"
        assert torch.is_grad_enabled()
        pieces.close()
        assert keras.backend() == "numpy"
    assert torch.is_grad_enabled()


def test_stop_strings(backend, checkpoints):
    folder, _ = checkpoints("gpt2")
    model = hub.CausalLM.from_preset(folder)
    new = model.generate(tiny.PROMPTS[0], max_new_tokens=20, strip_prompt=True)
    stop = new[4:7]
    until = new[: new.index(stop) + len(stop)]
    kwargs = {"max_new_tokens": 20, "stop_strings": stop}
    assert model.generate(tiny.PROMPTS[0], strip_prompt=True, **kwargs) == until
    assert model.generate(tiny.PROMPTS[0], **kwargs) == tiny.PROMPTS[0] + until
    assert "".join(model.generate(tiny.PROMPTS[0], stream=True, **kwargs)) == until


def test_lengths(checkpoints):
    folder, _ = checkpoints("gpt2")
    with keras.use_backend("numpy"):
        model = bare(hub.CausalLM, folder)
    rows = {"token_ids": IDS, "padding_mask": MASK}
    out = model.generate(rows, max_length=20, stop_token_ids=None)
    assert out["padding_mask"].sum(1).tolist() == [20, 20, 20]
    out = model.generate(rows, stop_token_ids=None)  # as many as the model has positions
    assert out["padding_mask"].sum(1).tolist() == [48, 48, 48]
    first = int(model.generate(rows, max_length=20)["token_ids"][0, 17])
    out = model.generate(rows, max_length=20, stop_token_ids=[first])
    assert out["padding_mask"].sum(1)[0] == 18
    with pytest.raises(ValueError, match="max_length=5 leaves no room"):
        model.generate(rows, max_length=5)
    with pytest.raises(ValueError, match="has 50 tokens, but the model has 48 positions"):
        model.generate({"token_ids": np.ones((1, 50), "int32")})


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"temperature": 0.0}, "temperature must be more than 0, got 0.0"),
        ({"num_beams": 2, "do_sample": True}, "beam search excludes both"),
        ({"num_return_sequences": 3}, "need do_sample=True"),
        ({"early_stopping": "soon"}, 'True, False or "never"'),
        ({"top_p": 0.0}, "top_p must be more than 0"),
        ({"top_p": 2.0}, "top_p must be more than 0 and at most 1, got 2.0"),
        ({"min_p": -0.1}, "min_p must be from 0 to 1"),
        ({"max_new_tokens": 0}, "max_new_tokens must be an integer, at least 1, got 0"),
        ({"max_length": 2.5}, "max_length must be an integer, at least 1, got 2.5"),
        ({"top_k": -1}, "top_k must be an integer, 0 or more, got -1"),
    ],
)
def test_settings_that_make_no_sense(settings, error):
    with pytest.raises(ValueError, match=error):
        Sampling().updated(**settings)
    with pytest.raises(ValueError, match=error):
        Sampling(**settings)


@pytest.mark.parametrize("ids", [0, [0], (0,), np.int64(0), np.array(0), np.array([0, 5])])
def test_stop_tokens_of_every_form(checkpoints, ids):
    assert Sampling(eos_token_id=ids).eos_token_id == tuple(np.ravel(ids).tolist())
    assert Sampling().updated(suppress_tokens=ids).suppress_tokens == tuple(np.ravel(ids).tolist())
    folder, _ = checkpoints("gpt2")
    with keras.use_backend("numpy"):
        model = bare(hub.CausalLM, folder)
    rows = {"token_ids": IDS[:1]}
    whole = model.generate(rows, max_new_tokens=9, stop_token_ids=None)["token_ids"][0].tolist()
    stop = whole[19]
    end = whole.index(stop, 17) + 1
    other = np.asarray(ids) * 0 + stop  # the stop token in the form of `ids`
    other = type(ids)(other) if isinstance(ids, int | np.generic) else other
    out = model.generate(rows, max_new_tokens=9, stop_token_ids=other)
    assert out["token_ids"][0].tolist() == whole[:end]


def test_more_tokens_than_positions_are_refused(checkpoints):
    folder, _ = checkpoints("gpt2")
    with keras.use_backend("numpy"):
        model = bare(hub.CausalLM, folder)
    rows = {"token_ids": IDS, "padding_mask": MASK}
    message = (
        "max_new_tokens must be at most 31 after a prompt of 17 tokens.* 48 positions; got 500"
    )
    with pytest.raises(ValueError, match=message):
        model.generate(rows, max_new_tokens=500)
    with pytest.raises(ValueError, match="max_length must be at most 48 .*got 49"):
        model.generate(rows, max_length=49)
    with pytest.raises(ValueError, match="max_new_tokens must be an integer, at least 1, got 0"):
        model.generate(rows, max_new_tokens=0)
    for size in (0, 2.5):
        with pytest.raises(ValueError, match=f"batch_size must be an integer, .*got {size}"):
            model.generate(rows, batch_size=size)
    assert model.generate(rows, max_new_tokens=31, stop_token_ids=None)["token_ids"].shape[1] == 48


def test_no_preprocessor_on_request(checkpoints):
    for kind in ("gpt2", "t5"):
        folder, _ = checkpoints(kind)
        task = hub.Seq2SeqLM if kind == "t5" else hub.CausalLM
        assert task.from_preset(folder, preprocessor=None).preprocessor is None
        assert task.from_preset(folder).preprocessor is not None


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
@pytest.mark.parametrize("how", [{}, {"num_beams": 3, "num_return_sequences": 2}])
def test_ids_and_scores_of_answers(backend, checkpoints, kind, how):
    folder, theirs = checkpoints(kind)
    model = (hub.Seq2SeqLM if kind == "t5" else hub.CausalLM).from_preset(folder)
    tokenizer = model.preprocessor.tokenizer
    texts = model.generate(tiny.PROMPTS, max_new_tokens=6, **how)
    ids, scores = model.generate(
        tiny.PROMPTS, max_new_tokens=6, return_ids="ragged", return_scores=True, batch_size=2, **how
    )
    padded = model.generate(tiny.PROMPTS, max_new_tokens=6, return_ids=True, **how)
    count = how.get("num_return_sequences", 1)
    assert scores.shape == ((3,) if count == 1 else (3, 2))
    flat = ids if count == 1 else [row for group in ids for row in group]
    for row, padded_ids, mask in zip(flat, *padded.values(), strict=True):
        assert padded_ids[mask].tolist() == row.tolist()
        assert set(padded_ids[~mask].tolist()) <= {tokenizer.pad_token_id}
    expected_texts = [tokenizer.detokenize(row) for row in flat]
    assert expected_texts == (texts if count == 1 else [text for group in texts for text in group])
    rows = iter(zip(flat, scores.ravel(), strict=True))
    for prompt in tiny.PROMPTS:
        encoded = long(tokenizer.encode_batch(prompt)[0][0])[None]
        for _ in range(count):
            row, score = next(rows)
            whole = long(row)[None]
            if kind == "t5":
                logits, start = theirs(encoded, decoder_input_ids=whole[:, :-1]).logits, 0
            else:
                logits, start = theirs(whole[:, :-1]).logits, encoded.shape[1] - 1
            logs = torch.log_softmax(logits[0].detach(), -1)
            picked = logs.gather(1, whole[0, 1:, None])[start:]
            np.testing.assert_allclose(score, float(picked.sum()), rtol=1e-4)
    one, score = model.generate(
        tiny.PROMPTS[0], max_new_tokens=6, strip_prompt=True, return_ids="ragged",
        return_scores=True, **how,
    )  # fmt: skip
    assert score.shape == scores[0].shape
    if count == 1:
        assert flat[0].tolist()[len(flat[0]) - len(one) :] == one.tolist()


def test_ids_end_at_a_stop_string(checkpoints):
    folder, _ = checkpoints("gpt2")
    with keras.use_backend("numpy"):
        model = hub.CausalLM.from_preset(folder)
    new = model.generate(tiny.PROMPTS[0], max_new_tokens=20, strip_prompt=True)
    stop = new[2:4]
    how = {"max_new_tokens": 20, "stop_strings": stop, "strip_prompt": True}
    ids = model.generate(tiny.PROMPTS[0], return_ids="ragged", **how)
    text = model.preprocessor.tokenizer.detokenize(ids)
    assert stop in text
    assert stop not in model.preprocessor.tokenizer.detokenize(ids[:-1])
    with pytest.raises(ValueError, match="stream yields texts"):
        model.generate(tiny.PROMPTS[0], stream=True, return_scores=True)


def test_unknown_settings():
    with pytest.raises(TypeError, match="Unknown settings topk"):
        Sampling().updated(topk=3)


def test_settings_come_from_the_checkpoint(checkpoints, tmp_path):
    folder, _ = checkpoints("gpt2")
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    stated = {"eos_token_id": [0, 9], "num_beams": 3, "max_new_tokens": 4, "use_cache": True}
    (tmp_path / "generation_config.json").write_text(json.dumps(stated))
    with keras.use_backend("numpy"):
        model = hub.CausalLM.from_preset(tmp_path)
    assert model.sampling == Sampling(num_beams=3, eos_token_id=(0, 9), max_new_tokens=4)
    (tmp_path / "generation_config.json").write_text('{"num_beams": 0}')
    with pytest.raises(ValueError, match=r"generation_config.json of .*num_beams must be"):
        hub.CausalLM.from_preset(tmp_path)


def test_a_new_length_does_not_compile_again(checkpoints, monkeypatch):
    folder, _ = checkpoints("gpt2")
    with keras.use_backend("jax"):
        model = hub.CausalLM.from_preset(folder)
        model.generate(tiny.PROMPTS[0], max_new_tokens=5)
        functions = model._kl_generator.functions
        assert len(functions) == 1
        model.generate(tiny.PROMPTS[1], max_new_tokens=9)
        model.generate(tiny.PROMPTS[1] + " x", max_new_tokens=7, seed=3)
        assert len(functions) == 1


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_transformers_opens_what_we_save(checkpoints, kind, tmp_path):
    folder, theirs = checkpoints(kind)
    task = hub.Seq2SeqLM if kind in SEQ2SEQ else hub.CausalLM
    with keras.use_backend("numpy"):
        task.from_preset(folder).save_to_preset(tmp_path)
    again, info = type(theirs).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    for name, parameter in theirs.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name)), name
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    before = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert tokenizer(tiny.TEXTS).input_ids == before(tiny.TEXTS).input_ids
    prompt = tokenizer(tiny.PROMPTS[0]).input_ids
    assert their_ids(again, prompt, 6) == their_ids(theirs, prompt, 6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_files(backend, tmp_path, dtype):
    theirs = tiny.make(tmp_path, "opt", dtype=dtype).float()
    model = bare(hub.CausalLM, tmp_path)  # float32 variables
    assert_close(
        model({"token_ids": IDS[:1], "padding_mask": MASK[:1]}),
        theirs(input_ids=long(IDS[:1])).logits,
    )
    half = bare(hub.CausalLM, tmp_path, dtype=dtype)
    out = half.generate({"token_ids": IDS[:1]}, max_new_tokens=4, stop_token_ids=None)
    assert out["token_ids"].shape == (1, 21)


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
def test_training_on_texts(trains, checkpoints, kind):
    folder, _ = checkpoints(kind, scale=0.05)
    if kind == "t5":
        model = hub.Seq2SeqLM.from_preset(folder)
        data = {"encoder_text": tiny.TEXTS, "decoder_text": [*tiny.PROMPTS, "so"]}
    else:
        model = hub.CausalLM.from_preset(folder)
        data = tiny.TEXTS
    before = model.score(data)
    model.compile(keras.optimizers.AdamW(1e-2))
    losses = model.fit(data, epochs=4, batch_size=2, verbose=0).history["loss"]
    assert losses[-1] < losses[0] * 0.9
    assert (model.score(data) > before).all()


def test_scores_are_log_probabilities(backend, checkpoints):
    folder, theirs = checkpoints("gpt2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = hub.CausalLM.from_preset(folder)
    rows = {"prompts": ["The movie", "An"], "responses": [" was good", " amazing story"]}
    ours = model.score(rows)
    for i, (prompt, response) in enumerate(zip(*rows.values(), strict=True)):
        first, second = tokenizer(prompt).input_ids, [*tokenizer(response).input_ids, 0]
        logs = torch.log_softmax(theirs(long([first + second])).logits[0], -1).detach()
        expected = sum(float(logs[len(first) - 1 + k, token]) for k, token in enumerate(second))
        np.testing.assert_allclose(ours[i], expected, rtol=1e-5)
    with pytest.raises(ValueError, match="Expected prompts and responses"):
        model.score({"prompts": ["a"], "answers": ["b"]})
    as_rows = [dict(zip(("prompt", "response"), r)) for r in zip(*rows.values(), strict=True)]
    np.testing.assert_allclose(model.score(as_rows), ours, rtol=1e-6)


def test_scores_of_a_checkpoint_without_special_tokens(backend, checkpoints, tmp_path):
    """As GPT-2 is published: the end token stands in the model's config alone."""
    folder, theirs = checkpoints("gpt2")
    shutil.copytree(folder, tmp_path / "a")
    (tmp_path / "a/tokenizer_config.json").write_text('{"model_max_length": 48}')
    model = hub.CausalLM.from_preset(tmp_path / "a")
    assert model.preprocessor.tokenizer.eos_token_id == 0
    ids = [*model.preprocessor.prompts(["An amazing movie"])[0].tolist(), 0]
    logs = torch.log_softmax(theirs(long(ids)[None]).logits[0].detach(), -1)
    expected = sum(float(logs[i, token]) for i, token in enumerate(ids[1:]))
    np.testing.assert_allclose(model.score(["An amazing movie"]), [expected], rtol=1e-5)


def test_encoder_alone(backend, checkpoints, tmp_path):
    folder, theirs = checkpoints("t5")
    expected = theirs.encoder(input_ids=long(T5_IDS), attention_mask=long(MASK)).last_hidden_state
    model = hub.T5Backbone.from_preset(folder, encoder_only=True)
    out = keras.ops.convert_to_numpy(
        model({"token_ids": T5_IDS, "padding_mask": MASK})["sequence_output"]
    )
    assert_close(out * MASK[..., None], expected * torch.from_numpy(MASK[..., None]))
    embedder = hub.TextEmbedder.from_preset(folder)
    assert embedder.predict(tiny.TEXTS, verbose=0).shape == (4, 12)
    embedder.save_to_preset(tmp_path)
    again, info = transformers.T5EncoderModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    assert torch.equal(again.shared.weight, theirs.shared.weight)


@pytest.mark.parametrize(
    ("kind", "change", "error"),
    [
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention=True"),
        ("opt", {"enable_bias": False}, "enable_bias=False"),
        ("t5", {"feed_forward_proj": "gated-swish"}, "feed_forward_proj='gated-swish'"),
    ],
)
def test_options_that_are_not_supported(checkpoints, tmp_path, kind, change, error):
    folder, _ = checkpoints(kind)
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ValueError, match=error):
        hub.Backbone.from_preset(tmp_path)


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize(
    ("kind", "copy", "original"),
    [("gpt2", "lm_head", "transformer.wte"), ("opt", "lm_head", "model.decoder.embed_tokens"),
     ("t5", "lm_head", "shared"), ("t5", "decoder.embed_tokens", "shared"),
     ("t5[v1.1]", "decoder.embed_tokens", "shared")],
)  # fmt: skip
def test_a_file_with_a_copy_of_the_embedding_alone(
    backend, checkpoints, tmp_path, kind, copy, original, prefix
):
    """As safetensors writes tied weights: under the name that comes first."""
    from safetensors.numpy import load_file, save_file

    folder, _ = checkpoints(kind)
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    tensors[f"{copy}.weight"] = tensors.pop(f"{original}.weight")
    if not prefix:
        tensors = {
            k.removeprefix("transformer." if kind == "gpt2" else "model."): v
            for k, v in tensors.items()
        }
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    task = hub.Seq2SeqLM if kind.startswith("t5") else hub.CausalLM
    for cls in (hub.Backbone, task):
        ours, theirs = cls.from_preset(tmp_path), cls.from_preset(folder)
        for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_missing_head_is_an_error(checkpoints, tmp_path):
    from safetensors.numpy import load_file, save_file

    folder, _ = checkpoints("t5[v1.1]")
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"Missing in the checkpoint \(1\): lm_head.weight"):
        hub.Seq2SeqLM.from_preset(tmp_path)


def test_prompts_are_continued_in_parts(checkpoints):
    folder, _ = checkpoints("gpt2")
    with keras.use_backend("torch"):
        model = hub.CausalLM.from_preset(folder)
        prompts = [*itertools.islice(itertools.cycle(tiny.PROMPTS), 5)]
        whole = model.generate(prompts, max_new_tokens=4)
        assert model.generate(prompts, max_new_tokens=4, batch_size=2) == whole


def test_settings_are_typed_by_their_names():
    import dataclasses
    import inspect

    from hub.generation.settings import GenerationSettings

    signature = inspect.signature(hub.CausalLM.generate).parameters
    ours = {*GenerationSettings.__annotations__, "max_length", "num_return_sequences"}
    theirs = {field.name for field in dataclasses.fields(Sampling)} - {"eos_token_id"}
    assert theirs <= ours
    assert ours - theirs <= set(signature)
