"""Tiny random presets of KerasHub, with what KerasHub answers; run in a process of its own.

python tests/support/kerashub_presets.py FOLDER

A backend is chosen for a process there, and importing it takes seconds. Every preset is a folder;
beside the presets lie `<name>.npz` with inputs and outputs, and `texts.json` with token ids. Any
test may use the fixture `presets`.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from keras_process import run_with_keras

TEXTS = ["the movie was good!", "bad film", "An amazing movie was not bad"]
WORDS = ["the", "movie", "was", "good", "bad", "an", "amazing", "film", "##s", "!", ".", "not"]
SIZES = {
    "vocabulary_size": 170, "num_layers": 3, "num_heads": 3, "hidden_dim": 12,
    "intermediate_dim": 20, "max_sequence_length": 24,
}  # fmt: skip
_ELECTRA = {"vocab_size": 170, **{k: v for k, v in SIZES.items() if k != "vocabulary_size"}}
_T5 = {k: v for k, v in SIZES.items() if k != "max_sequence_length"}
# Name -> KerasHub's class, its arguments beside the sizes, the arguments of its task if it has one.
PRESETS = {
    "bert": ("Bert", {**SIZES, "num_segments": 3}, None),
    "roberta": ("Roberta", SIZES, None),
    "xlm-roberta": ("XLMRoberta", SIZES, None),
    "distilbert": ("DistilBert", SIZES, None),
    "albert": (
        "Albert",
        {**SIZES, "num_layers": 4, "embedding_dim": 8, "num_groups": 2,
         "num_inner_repetitions": 2},
        None,
    ),
    "electra": ("Electra", {**_ELECTRA, "embedding_dim": 8}, None),
    "electra[wide]": ("Electra", {**_ELECTRA, "embedding_dim": 12}, None),
    "gpt2": ("GPT2", SIZES, None),
    "opt": ("OPT", SIZES, None),
    "t5": ("T5", {**_T5, "use_gated_activation": False, "key_value_dim": 5}, None),
    "t5[v1.1]": (
        "T5", {**_T5, "activation": "gelu_approximate", "tie_embedding_weights": False}, None,
    ),
    "whisper": (
        "Whisper",
        {**_T5, "num_mels": 80, "max_encoder_sequence_length": 40,
         "max_decoder_sequence_length": 24},
        None,
    ),
    **{
        f"{name}[classes]": (name, {**SIZES, **more}, ("TextClassifier", {"num_classes": 4}))
        for name, more in (
            ("Bert", {}), ("Roberta", {}), ("XLMRoberta", {}), ("DistilBert", {}),
            ("Albert", {"embedding_dim": 8}),
        )
    },
    **{
        f"{name}[masks]": (name, SIZES, ("MaskedLM", {}))
        for name in ("Bert", "DistilBert", "Roberta", "XLMRoberta")
    },
    "Albert[masks]": ("Albert", {**SIZES, "embedding_dim": 8}, ("MaskedLM", {})),
    "gpt2[task]": ("GPT2", SIZES, ("CausalLM", {})),
    "opt[task]": ("OPT", SIZES, ("CausalLM", {})),
    "t5[task]": ("T5", {**_T5, "use_gated_activation": False}, ("Seq2SeqLM", {})),
    "t5[v1.1,task]": (
        "T5", {**_T5, "activation": "gelu_approximate", "tie_embedding_weights": False},
        ("Seq2SeqLM", {}),
    ),
}  # fmt: skip


@pytest.fixture(scope="session")
def presets(tmp_path_factory):
    """The folder with all of them."""
    folder = tmp_path_factory.mktemp("kerashub")
    run_with_keras(__file__, folder, backend="numpy")
    return folder


def inputs(name: str) -> dict[str, np.ndarray]:
    """A batch with padding on the right; the names are those of both sides."""
    generator = np.random.default_rng(0)
    mask = np.array([[1] * 7, [1] * 4 + [0] * 3, [1] + [0] * 6])
    ids = generator.integers(5, 170, (3, 7)).astype("int32")
    ids = np.where(mask, ids, 1 if "roberta" in name.lower() else ids)
    if name.lower().startswith("t5"):
        other = generator.integers(5, 170, (3, 5)).astype("int32")
        return {
            "encoder_token_ids": ids, "encoder_padding_mask": mask, "decoder_token_ids": other,
            "decoder_padding_mask": np.ones((3, 5), "int32"),
        }  # fmt: skip
    if name == "whisper":
        features = generator.normal(size=(3, 40, 80)).astype("float32")
        return {
            "encoder_features": features, "decoder_token_ids": ids, "decoder_padding_mask": mask,
        }  # fmt: skip
    batch = {"token_ids": ids, "padding_mask": mask}
    if name.lower().startswith(("bert", "albert", "electra")):
        batch["segment_ids"] = np.array([[0, 0, 0, 1, 1, 0, 1]] * 3, "int32")
    return batch


def main(folder: Path) -> None:
    """Write all presets."""
    import keras
    import keras_hub
    from keras_hub.src.utils.keras_utils import gelu_approximate

    keras.utils.set_random_seed(0)  # the noise comes on top of weights that are drawn
    models, generator = keras_hub.models, np.random.default_rng(1)

    def scrambled(model, scale=0.3):
        for variable in model.weights:  # no zeros or ones that hide a mistake
            noise = generator.normal(size=variable.shape) * scale
            variable.assign(keras.ops.convert_to_numpy(variable).astype("float32") + noise)
        return model

    for name, (family, sizes, task) in PRESETS.items():
        given = dict(sizes)
        if "activation" in given:
            given["activation"] = gelu_approximate
        model = getattr(models, f"{family}Backbone")(**given)
        batch = inputs(name)
        if task is not None:
            model = getattr(models, family + task[0])(model, **task[1])
        scrambled(model).save_to_preset(folder / name)
        if task is not None and task[0] == "MaskedLM":
            batch["mask_positions"] = np.array([[0, 2], [3, 1], [0, 0]])
        out = model(batch)
        out = out if isinstance(out, dict) else {"output": out}
        found = {f"out/{k}": keras.ops.convert_to_numpy(v) for k, v in out.items()}
        np.savez(folder / f"{name}.npz", **found, **batch)

    bert = scrambled(models.BertBackbone(**SIZES))
    bert.save_to_preset(folder / "sharded", max_shard_size=1e-5)
    np.savez(folder / "sharded.npz", **{
        f"out/{k}": keras.ops.convert_to_numpy(v) for k, v in bert(inputs("bert")).items()
    }, **inputs("bert"))  # fmt: skip
    half = scrambled(models.BertBackbone(**SIZES, dtype="bfloat16"))
    half.save_to_preset(folder / "bfloat16")
    np.save(folder / "bfloat16.npy", np.asarray(half.token_embedding.embeddings).astype("float32"))
    _with_tokenizers(folder, models)


def _with_tokenizers(folder: Path, models) -> None:
    """Backbones with tokenizers, and what these make of texts."""
    brackets = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "café", "An"]
    letters = [chr(c) for c in range(33, 127)] + ["\u0120"]
    pairs = ["m o", "\u0120 mo", "g o", "a d", "\u0120 w"]
    made = [pair.replace(" ", "") for pair in pairs]
    angles = ["<s>", "<pad>", "</s>", "<unk>", *letters, *made, "<mask>"]
    bytes_ = {"vocabulary": {t: i for i, t in enumerate(angles)}, "merges": pairs}
    ends = ["<|endoftext|>", *letters, *made]
    pieces = {name: _pieces(folder / name, name) for name in ("albert", "t5", "xlm-roberta")}
    kinds = {
        "bert": ("Bert", {"vocabulary": brackets, "lowercase": True, "strip_accents": True}),
        "distilbert": ("DistilBert", {"vocabulary": brackets}),
        "electra": ("Electra", {"vocabulary": brackets, "lowercase": True}),
        "roberta": ("Roberta", bytes_),
        "gpt2": ("GPT2", {"vocabulary": {t: i for i, t in enumerate(ends)}, "merges": pairs}),
        "opt": ("OPT", bytes_),
        "albert": ("Albert", {"proto": pieces["albert"]}),
        "xlm-roberta": ("XLMRoberta", {"proto": pieces["xlm-roberta"]}),
        "t5": ("T5", {"proto": pieces["t5"]}),
        "whisper": ("Whisper", {
            "vocabulary": {t: i for i, t in enumerate(ends)}, "merges": pairs,
            "special_tokens": {
                "<|endoftext|>": 0, "<|startoftranscript|>": 101, "<|translate|>": 106,
                "<|transcribe|>": 107, "<|notimestamps|>": 109,
            },
            "language_tokens": {"<|en|>": 102, "<|de|>": 103},
        }),
    }  # fmt: skip
    _speech(folder / "speech", models)
    answers = {}
    for name, (family, given) in kinds.items():
        tokenizer = getattr(models, f"{family}Tokenizer")(**given)
        tokenizer.save_to_preset(folder / name)
        answers[name] = [[int(i) for i in tokenizer(text)] for text in [*TEXTS, "café"]]
    (folder / "texts.json").write_text(json.dumps(answers))


def _speech(folder: Path, models) -> None:
    """A Whisper with bytes as its vocabulary (and a pair), special tokens in their published order, and times.

    Its windows have one second.
    """
    import keras
    import keras_hub
    from tokenizers.pre_tokenizers import ByteLevel

    names = ["startoftranscript", "en", "de", "translate", "transcribe"]
    special = {f"<|{name}|>": 258 + i for i, name in enumerate(names)}
    languages = {name: special.pop(name) for name in ("<|en|>", "<|de|>")}
    special |= {"<|endoftext|>": 257, "<|notimestamps|>": 266}
    words = [*sorted(ByteLevel.alphabet()), "th", "<|endoftext|>"]
    keras.utils.set_random_seed(3)
    model = models.WhisperBackbone(
        **{**_T5, "vocabulary_size": 267 + 1501}, max_encoder_sequence_length=100,
        max_decoder_sequence_length=64,
    )  # fmt: skip
    generator = np.random.default_rng(2)
    for variable in model.weights:
        noise = generator.normal(size=variable.shape) * 0.3
        variable.assign(keras.ops.convert_to_numpy(variable) + noise)
    model.save_to_preset(folder)
    models.WhisperTokenizer(
        {word: i for i, word in enumerate(words)}, ["t h"], special, languages
    ).save_to_preset(folder)
    keras_hub.layers.WhisperAudioConverter(max_audio_length=1).save_to_preset(folder)


def _pieces(folder: Path, name: str) -> bytes:
    """A SentencePiece model with the special tokens that KerasHub looks for."""
    import io

    import sentencepiece

    special = {
        "albert": {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1,
                   "user_defined_symbols": ["[CLS]", "[SEP]", "[MASK]"]},
        "t5": {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
        "xlm-roberta": {"unk_id": 0, "bos_id": 1, "eos_id": 2},
    }[name]  # fmt: skip
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 5), model_writer=out, vocab_size=60, minloglevel=2,
        hard_vocab_limit=False, character_coverage=1.0, **special,
    )  # fmt: skip
    return out.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
