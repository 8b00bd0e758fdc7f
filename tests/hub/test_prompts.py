"""Long and weighted prompts against CLIP's text tower of transformers, piece by piece."""

import numpy as np
import pytest
import torch
import transformers
from diffusion_checkpoints import PROMPT, pipeline

import hub
import keraslite as keras
from hub.diffusion.prompts import chunk_prompt, repeat_to_same_length, weighted_parts
from hub.presets import resolve
from keraslite import ops

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")]
LONG = " ".join([PROMPT, "and it is dark"] * 20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("pipeline")
    pipeline(made)
    return made


def pieces_of(folder, prompt):
    """transformers' tokenizer: the ids of each piece of 75 tokens."""
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    ids = tokenizer(prompt, add_special_tokens=False).input_ids
    ends = tokenizer.bos_token_id, tokenizer.eos_token_id
    parts = [[ends[0], *ids[i : i + 75], ends[1]] for i in range(0, len(ids) or 1, 75)]
    return np.array([part + [tokenizer.pad_token_id] * (77 - len(part)) for part in parts])


def encoded(folder, prompt):
    """transformers' context of a prompt: its pieces one after the other."""
    tower = transformers.CLIPTextModel.from_pretrained(folder / "text_encoder")
    with torch.no_grad():
        out = tower(torch.tensor(pieces_of(folder, prompt))).last_hidden_state
    return out.reshape(1, -1, out.shape[-1]).numpy()


def test_a_long_prompt_is_encoded_in_pieces(backend, folder):
    model = hub.StableDiffusion.from_preset(folder)
    assert pieces_of(folder, LONG).shape[0] > 1
    found = ops.convert_to_numpy(model.encode_text([LONG, PROMPT]))
    np.testing.assert_allclose(found[:1], encoded(folder, LONG), atol=2e-5)
    short = encoded(folder, PROMPT)
    np.testing.assert_allclose(found[1:], np.tile(short, (1, found.shape[1] // 77, 1)), atol=2e-5)


def test_an_image_does_not_depend_on_the_length_of_other_prompts(folder):
    with keras.use_backend("torch"):
        model = hub.StableDiffusion.from_preset(folder, img_height=16, img_width=16)
        how = {"num_steps": 3, "output": "latent", "negative_prompt": "it is dark"}
        both = model.text_to_image([PROMPT, LONG], seed=1, **how)
        alone = [
            model.text_to_image(text, seed=i + 1, **how) for i, text in enumerate((PROMPT, LONG))
        ]
    np.testing.assert_allclose(both, np.concatenate(alone), atol=2e-5 * np.abs(both).max())


def test_weights(backend, folder):
    model = hub.StableDiffusion.from_preset(folder)
    plain = encoded(folder, PROMPT)
    weights = np.ones((1, 77, 1), "float32")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    start, count = (
        len(tokenizer(text, add_special_tokens=False).input_ids) for text in ("a", "photo")
    )
    weights[:, 1 + start : 1 + start + count] = 1.5
    wanted = plain * weights
    wanted *= plain.mean() / wanted.mean()
    marked = PROMPT.replace("photo", "(photo:1.5)")
    found = ops.convert_to_numpy(model.encode_text(marked, weighted=True))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    unmarked = ops.convert_to_numpy(model.encode_text(PROMPT, weighted=True))
    np.testing.assert_allclose(unmarked, plain, atol=2e-5)
    literal = ops.convert_to_numpy(model.encode_text(marked))  # brackets are text unless asked
    np.testing.assert_allclose(literal, encoded(folder, marked), atol=2e-5)


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("((x)) y", [("x", 1.21), (" y", 1.0)]),
        ("(a (b:2) c", [("a ", 1.1), ("b", 2.2), (" c", 1.1)]),
        (r"\(a\) (b)", [("(a) ", 1.0), ("b", 1.1)]),
        ("a:b) c", [("a:b) c", 1.0)]),
        ("at 12:30", [("at 12:30", 1.0)]),
        ("(a: b) [c:0.5]", [("a: b", 1.1), (" ", 1.0), ("c:0.5", 0.909)]),
        ("(x:-0.5)\\", [("x", -0.5), ("\\", 1.0)]),
        ("", [("", 1.0)]),
    ],
)  # fmt: skip
def test_the_grammar_of_weights(prompt, parts):
    assert weighted_parts(prompt) == parts


def test_pieces_of_nothing(folder):
    tokenizer = hub.CLIPTokenizer.from_files(resolve(folder / "tokenizer"))
    ids, weights = chunk_prompt(tokenizer, "", 77)
    np.testing.assert_array_equal(ids, pieces_of(folder, ""))
    assert (weights == 1).all()


def test_contexts_of_many_lengths():
    made = [np.arange(2 * n, dtype="float32").reshape(1, n, 2) for n in (2, 3, 6)]
    with keras.use_backend("numpy"):
        found = repeat_to_same_length(made)
    assert [x.shape for x in found] == [(1, 6, 2)] * 3
    np.testing.assert_array_equal(found[0], np.tile(made[0], (1, 3, 1)))
