"""LoRA adapters: trained on every backend, and exchanged with PEFT both ways."""

import copy
import json
from functools import partial

import bert_checkpoints as tiny
import compare
import numpy as np
import peft
import pytest
import text_checkpoints
import torch
from checkpoints import cached
from image_checkpoints import timm_checkpoint
from text_checkpoints import IDS, MASK, bare, long

import hub
import keraslite as keras

# PEFT's own way of asking a model.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
TEXTS, LABELS = tiny.TEXTS * 4, [1, 0, 1] * 4
assert_close = partial(compare.assert_close, rtol=0, atol=2e-5)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return cached(text_checkpoints.make, tmp_path_factory)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora")
    return folder, tiny.make(folder, "BertForSequenceClassification", num_labels=2)


def test_only_the_update_and_the_head_are_trained(trains, bert, tmp_path):
    model = hub.TextClassifier.from_preset(bert[0])
    before = {p: v.numpy() for p, v in model.named_weights()}
    adapted = model.enable_lora(2, alpha=4)
    assert adapted == [
        f"backbone/blocks/{i}/attention/{name}" for i in range(3) for name in ("query", "value")
    ]
    assert_close(model.predict(TEXTS, verbose=0), torch.from_numpy(bert_logits(bert)))
    trained = {v.path.rpartition("/")[2] for v in model.trainable_variables}
    assert trained == {"lora_kernel_a", "lora_kernel_b", "kernel", "bias"}
    assert len(model.trainable_variables) == 2 * 6 + 2
    model.compile(keras.optimizers.Adam(0.02))
    losses = model.fit(TEXTS, LABELS, epochs=8, verbose=0, batch_size=4).history["loss"]
    assert losses[-1] < losses[0]
    for path, variable in model.named_weights():
        if path in before and path.startswith("backbone/"):
            np.testing.assert_array_equal(variable.numpy(), before[path])
    expected = model.predict(TEXTS, verbose=0)
    model.save_adapter(tmp_path / "adapter")
    assert not np.allclose(expected, bert_logits(bert))
    again = hub.TextClassifier.from_preset(bert[0])
    again.load_adapter(tmp_path / "adapter")
    np.testing.assert_allclose(again.predict(TEXTS, verbose=0), expected, atol=1e-5)
    theirs = peft.PeftModel.from_pretrained(copy.deepcopy(bert[1]), tmp_path / "adapter")
    assert_close(expected, torch.from_numpy(their_logits(theirs)))
    # Whole, the update is in the weights: transformers needs no PEFT to open it.
    model.save_to_preset(tmp_path / "whole")
    whole = type(bert[1]).from_pretrained(tmp_path / "whole").eval()
    assert_close(expected, torch.from_numpy(their_logits(whole)))


def their_logits(model):
    import transformers

    with torch.no_grad():
        words = [*tiny.VOCABULARY, "[a]", "[b]", "[c]"]
        tokenizer = transformers.BertTokenizer(vocab={word: i for i, word in enumerate(words)})
        rows = [model(**tokenizer(t, return_tensors="pt")).logits[0].numpy() for t in TEXTS]
    return np.stack(rows)


def bert_logits(bert):
    return their_logits(bert[1])


def test_what_was_compiled_before_an_adapter_is_not_used_after_it(backend, bert, checkpoints):
    def moved(model):
        for variable in model.backbone.trainable_variables:
            noise = np.random.default_rng(0).normal(size=variable.shape)
            variable.assign(noise.astype("float32"))

    folder, _ = checkpoints("gpt2")
    model = hub.CausalLM.from_preset(folder)
    classifier = hub.TextClassifier.from_preset(bert[0])
    text, scores = "The movie was", classifier.predict(TEXTS, verbose=0)
    kwargs = {"max_new_tokens": 12, "stop_token_ids": None, "strip_prompt": True}
    before = model.generate(text, **kwargs)
    for task in (model, classifier):
        task.enable_lora(2, alpha=40)
        moved(task)
    assert np.abs(classifier.predict(TEXTS, verbose=0) - scores).max() > 1e-3
    assert model.generate(text, **kwargs) != before


def randomised(model, seed=0):
    """PEFT begins with zeros, which change nothing."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    return model.eval()


@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        ("gpt2", ["c_attn", "c_proj"]),
        ("opt", ["q_proj", "v_proj", "fc1"]),
        ("t5", ["q", "v", "wo"]),
    ],
)
def test_an_adapter_of_peft(backend, checkpoints, tmp_path, kind, targets):
    folder, _ = checkpoints(kind)
    theirs = type(checkpoints(kind)[1]).from_pretrained(folder)
    config = peft.LoraConfig(
        r=3, lora_alpha=5, target_modules=targets, fan_in_fan_out=kind == "gpt2",
        task_type="SEQ_2_SEQ_LM" if kind == "t5" else "CAUSAL_LM",
    )  # fmt: skip
    adapted = randomised(peft.get_peft_model(theirs, config))
    adapted.save_pretrained(tmp_path / "theirs")
    if kind == "t5":
        ids = np.minimum(IDS, 90)
        model = bare(hub.Seq2SeqLM, folder)
        inputs = {
            "encoder_token_ids": ids, "encoder_padding_mask": MASK, "decoder_token_ids": ids,
            "decoder_padding_mask": MASK | True,
        }  # fmt: skip
        given = {"input_ids": long(ids), "attention_mask": long(MASK),
                 "decoder_input_ids": long(ids)}  # fmt: skip
        valid = np.ones_like(MASK)
    else:
        model = bare(hub.CausalLM, folder)
        inputs = {"token_ids": IDS, "padding_mask": MASK}
        given, valid = {"input_ids": long(IDS), "attention_mask": long(MASK)}, MASK
    expected = adapted(**given).logits.detach().numpy() * valid[..., None]
    model.load_adapter(tmp_path / "theirs")
    ours = keras.ops.convert_to_numpy(model(inputs)) * valid[..., None]
    np.testing.assert_allclose(ours, expected, atol=3e-5 * np.abs(expected).max())
    model.save_adapter(tmp_path / "ours")
    first, second = (
        json.loads((tmp_path / name / "adapter_config.json").read_text())
        for name in ("theirs", "ours")
    )
    for key in ("r", "lora_alpha", "fan_in_fan_out", "task_type", "peft_type"):
        assert first[key] == second[key], key
    assert set(first["target_modules"]) == set(second["target_modules"])
    from safetensors.numpy import load_file

    a, b = (load_file(tmp_path / n / "adapter_model.safetensors") for n in ("theirs", "ours"))
    assert set(a) == set(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_adapters_that_do_not_fit(checkpoints, tmp_path):
    folder, _ = checkpoints("opt")
    with keras.use_backend("numpy"):
        model = bare(hub.CausalLM, folder)
        with pytest.raises(ValueError, match="no adapter: call enable_lora"):
            model.save_adapter(tmp_path)
        with pytest.raises(
            ValueError, match=r"No dense layer or convolution is named \['q'\]; .*query"
        ):
            model.enable_lora(2, targets=["q"])
        model.enable_lora(2, targets=["q_proj"])
        with pytest.raises(ValueError, match="has an adapter already"):
            model.enable_lora(2)
        model.save_adapter(tmp_path)
        other = bare(hub.CausalLM, checkpoints("gpt2")[0])
        with pytest.raises(ValueError, match=r"does not fit a GPT2CausalLM: unknown \['.*q_proj"):
            other.load_adapter(tmp_path)
        config = json.loads((tmp_path / "adapter_config.json").read_text())
        (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
        with pytest.raises(ValueError, match="use_dora=True, which is not supported"):
            bare(hub.CausalLM, folder).load_adapter(tmp_path)
        (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "r": 3}))
        with pytest.raises(ValueError, match="has other shapes"):
            bare(hub.CausalLM, folder).load_adapter(tmp_path)
        (tmp_path / "adapter_config.json").unlink()
        with pytest.raises(FileNotFoundError, match=r"adapter_config\.json"):
            bare(hub.CausalLM, folder).load_adapter(tmp_path)


def test_a_language_model_learns_with_an_adapter(trains, checkpoints):
    folder, _ = checkpoints("gpt2")
    model = hub.CausalLM.from_preset(folder)
    model.enable_lora(4, targets=["qkv", "output_dense", "intermediate"])
    assert all("lora_" in v.path for v in model.trainable_variables)
    model.compile(keras.optimizers.Adam(0.02))
    losses = model.fit(text_checkpoints.TEXTS, epochs=6, verbose=0, batch_size=4).history["loss"]
    assert losses[-1] < losses[0]
    model.generate("The", max_new_tokens=3)


def test_a_module_that_several_layers_share(backend, tmp_path):
    """timm has one weight for query, key and value: three updates are saved as one."""
    folder = tmp_path / "vit"
    theirs = timm_checkpoint(folder, "deit_tiny_distilled_patch16_224")
    images = np.random.default_rng(0).normal(size=(2, 224, 224, 3)).astype("float32")

    def new():
        return hub.ImageClassifier.from_preset(folder, preprocessor=None, activation=None)

    model = new()
    assert len(model.enable_lora(2, alpha=6, targets=["qkv", "fc1"])) == 4 * 12
    random = np.random.default_rng(1)
    for variable in model.trainable_variables:
        if "lora" in variable.path:
            variable.assign(random.normal(size=variable.shape, scale=0.05))
    model.head_dist.bias.assign(np.ones(model.num_classes))
    before, expected = new().predict(images, verbose=0), model.predict(images, verbose=0)
    assert abs(before - expected).max() > 0.1
    model.save_adapter(tmp_path / "adapter")
    again = new()
    again.load_adapter(tmp_path / "adapter")
    assert_close(again.predict(images, verbose=0), expected, rtol=1e-5, share=1e-5)
    adapted = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    with torch.no_grad():
        inputs = torch.from_numpy(images).permute(0, 3, 1, 2)
        assert_close(expected, adapted(inputs).numpy(), rtol=1e-4, share=1e-4)
