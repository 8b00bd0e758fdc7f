"""Tasks in the formats and on the engines of others: networks, preparation of inputs, answers.

Each file is opened by its own run-time, and its answers are compared with `predict`.
"""

import json

import bert_checkpoints
import clip_checkpoints
import export_cases
import numpy as np
import onnxruntime
import pytest
import speech_checkpoints
import transformers
import whisper_checkpoints
from backends import BACKENDS

import hub
import keraslite as keras
from hub.cli import main
from hub.tasks.exporting import NetworkPart
from keraslite.export.packages import required

_rng = np.random.default_rng(0)
SIZES = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
IDS = _rng.integers(1, 19, (3, 6)).astype("int32")
MASK = np.array([[1] * 6, [1] * 4 + [0] * 2, [1] + [0] * 5]) > 0
TEXTS = {"token_ids": IDS, "padding_mask": MASK}
SEGMENTS = {**TEXTS, "segment_ids": (IDS > 9).astype("int32")}


def pictures(*shape):
    return _rng.normal(size=shape).astype("float32")


def encode(layers, inputs):
    hidden = layers["t5"].encode(inputs["token_ids"], inputs["padding_mask"])
    return {"sequence_output": hidden}


def t5_encoder():
    backbone = hub.T5Backbone(20, **SIZES)
    inputs = {name: keras.KerasTensor((None, None), "int32") for name in TEXTS}
    return NetworkPart(encode, {"t5": backbone}, inputs)


def clip():
    backbone = hub.CLIPBackbone(
        {**SIZES, "image_size": 8, "patch_size": 4}, {**SIZES, "vocabulary_size": 20}, 6
    )
    return hub.ZeroShotImageClassifier(backbone).backbone


def resnet():
    backbone = hub.ResNetBackbone((4, 8, 8, 16), (1, 1, 1, 1), "basic_block", input_conv_filters=4)
    return hub.ImageClassifier(backbone, 3)


def vit():
    """One that is given pictures of any size."""
    backbone = hub.ViTBackbone(**SIZES, image_size=16, patch_size=8)
    preprocessor = hub.ImagePreprocessor("ViT", size=16)
    return hub.ImageClassifier(backbone, 3, preprocessor=preprocessor)


def yolo():
    backbone = hub.YOLOV8Backbone((4, 8, 8, 8), (1, 1, 1, 1))
    return hub.ObjectDetector(backbone, 2, fpn_depth=1)


# name -> (network, ready inputs). YOLOv8, whose many convolutions make half a minute of ONNX, is
# tested as a task.
NETWORKS = {
    "bert": (lambda: hub.TextClassifier(hub.BertBackbone(20, **SIZES), 3), SEGMENTS),
    "gpt2": (lambda: hub.CausalLM(hub.GPT2Backbone(20, **SIZES)), TEXTS),
    "t5": (t5_encoder, TEXTS),
    "clip": (clip, {"images": pictures(3, 8, 8, 3), **TEXTS}),
    "vit": (vit, [_rng.integers(0, 256, (20, 16 + i, 3), "uint8") for i in range(3)]),
    "resnet": (resnet, pictures(3, 40, 32, 3)),
}
ENGINES = ("openvino", "onnxruntime")


def random_weights(model):
    """Weights without zeros and ones that would hide a mistake; variances stay positive."""
    for variable in model.weights:
        values = variable.numpy()
        if values.dtype == "float32":
            noise = 0.1 * _rng.normal(size=values.shape).astype("float32")
            variable.assign(values + (abs(noise) if "variance" in variable.path else noise))
    return model


def assert_equal(got, expected):
    keras.tree.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), got, expected
    )


PAIRS = [(name, engine) for name in NETWORKS for engine in ENGINES]


@pytest.mark.parametrize(("name", "engine"), PAIRS)
def test_a_compiled_network_predicts_as_the_model_does(name, engine):
    make, x = NETWORKS[name]
    with keras.use_backend(BACKENDS[PAIRS.index((name, engine)) % len(BACKENDS)]):
        model = random_weights(make())
        expected = model.predict(x, verbose=0)
        fast = model.compiled_for(engine)
        assert_equal(fast.predict(x, verbose=0), expected)
        if name != "clip":  # whose logits are of all pairs of a batch
            assert_equal(fast.predict(x, batch_size=2, verbose=0), expected)
        assert fast.builds == 1


PLACES = [(format, BACKENDS[i % len(BACKENDS)]) for i, format in enumerate(
    ("tf_saved_model", "tfjs", "torch", "stablehlo")
)] + [("litert", backend) for backend in BACKENDS]  # fmt: skip


@pytest.mark.parametrize(("format", "backend"), PLACES)
def test_bert_is_a_file_of_each_format(format, backend, tmp_path):
    if not export_cases.can_open(format):
        pytest.skip(f"the packages that open {format} are not installed")
    with keras.use_backend(backend):
        model = random_weights(hub.TextClassifier(hub.BertBackbone(20, **SIZES), 3))
        path = tmp_path / f"bert{export_cases.EXAMPLE.OPENERS[format][0]}"
        options = {"max_sizes": {1: 512}} if format == "stablehlo" else {}
        keras.Model.export(model, path, format=format, verbose=False, **options)
        expected = model.predict(SEGMENTS, verbose=0)
    run = export_cases.opened(path, format)
    inputs = {**SEGMENTS, "padding_mask": MASK.astype("int32")}
    (logits,) = export_cases.as_dict(run(inputs), ["logits"]).values()
    assert_equal(np.asarray(logits), expected)


# -- tasks ----------------------------------------------------------------------------------------


def expected_classes(answers):
    return [["bad", "good", "mixed"].index(row[0]["label"]) for row in answers]


def test_large_products_are_exported_as_torch_has_them(tmp_path):
    """Where oneDNN is faster, products of such a size are its own, which no other program has."""
    with keras.use_backend("torch"):
        model = keras.Sequential([keras.Input((512,)), keras.layers.Dense(512)])
        assert model.weights[0].shape[0] * model.weights[0].shape[1] >= 2**17
        x = pictures(3, 512)
        fast = model.compiled_for("onnxruntime")
        np.testing.assert_allclose(
            fast.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-5
        )


def prepared(folder):
    return json.loads((folder / "preparation.json").read_text())


def opened(folder, name="model"):
    """A network of OpenVINO's files, as a function of inputs by name that gives outputs by name."""
    hint = {"INFERENCE_PRECISION_HINT": "f32"}  # else bfloat16, where the processor has it
    network = required("openvino").Core().compile_model(folder / f"{name}.xml", "CPU", hint)
    outputs = prepared(folder)["networks"][name]["outputs"]

    def run(inputs):
        values = network(inputs)
        return {key: values[key] for key in outputs}

    return run


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    labels = {0: "bad", 1: "good", 2: "mixed"}
    bert_checkpoints.make(folder, "BertForSequenceClassification", id2label=labels)
    return folder


def test_a_text_classifier_is_a_file_that_other_programs_run(bert_folder, tmp_path):
    """With onnxruntime and transformers' tokenizer alone, and what preparation.json says."""
    task = hub.TextClassifier.from_preset(bert_folder, backend="torch")
    task.export(tmp_path / "served", format="onnx", verbose=False)
    facts = prepared(tmp_path / "served")
    assert facts["task"] == "text-classification"
    assert (facts["model_type"], facts["preset"]) == ("bert", None)  # a folder is no preset
    assert facts["answers"] == {"labels": ["bad", "good", "mixed"], "logits": True}
    assert facts["text"]["sequence_length"] == 24
    assert "tokenizer.json" in facts["text"]["files"]
    network = facts["networks"]["model"]
    assert {name: x["dtype"] for name, x in network["inputs"].items()} == dict.fromkeys(
        ["token_ids", "padding_mask", "segment_ids"], "int32"
    )
    session = onnxruntime.InferenceSession(tmp_path / "served" / network["file"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "served")
    batch = tokenizer(bert_checkpoints.TEXTS, padding=True, return_tensors="np")
    names = {"token_ids": "input_ids", "padding_mask": "attention_mask",
             "segment_ids": "token_type_ids"}  # fmt: skip
    (logits,) = session.run(None, {k: batch[v].astype("int32") for k, v in names.items()})
    assert_equal(logits, task.predict(bert_checkpoints.TEXTS, verbose=0))
    best = [facts["answers"]["labels"][i] for i in logits.argmax(-1)]
    assert best == [answer["label"] for answer in task.classify(bert_checkpoints.TEXTS)]


def test_a_compiled_classifier_takes_texts(bert_folder):
    task = hub.TextClassifier.from_preset(bert_folder, backend=BACKENDS[0])
    texts = bert_checkpoints.TEXTS
    fast = task.compiled_for("openvino")
    assert_equal(fast.predict(texts, verbose=0), task.predict(texts, verbose=0))
    ready = task.preprocessor(texts)
    some = {"token_ids": ready["token_ids"]}  # the others may be left out
    assert_equal(fast.predict(some, verbose=0), task.predict(some, verbose=0))
    assert fast.builds == 2
    expected = task.classify(texts, top_k=2)
    with fast.scope():
        answers = task.classify(texts, top_k=2)
    assert [[x["label"] for x in row] for row in answers] == [
        [x["label"] for x in row] for row in expected
    ]
    rounded = task.compiled_for("onnxruntime", precision="int8")
    agreement = rounded.predict(texts, verbose=0).argmax(-1) == expected_classes(expected)
    assert agreement.mean() > 0.6  # of three texts


def test_a_detector_takes_pictures(tmp_path):
    pixels = [_rng.integers(0, 256, (40 + i, 64, 3), "uint8") for i in range(2)]
    with keras.use_backend("torch"):
        detector = random_weights(yolo())
        detector.preprocessor = hub.DetectionPreprocessor(64)
        detector.export(tmp_path / "yolo", format="openvino", verbose=False)
        fast = detector.compiled_for("openvino")
        for got, expected in zip(
            fast.predict(pixels, confidence=0.01), detector.predict(pixels, confidence=0.01),
            strict=True,
        ):  # fmt: skip
            assert_equal(got.boxes, expected.boxes)
            assert list(got.labels) == list(expected.labels)
    facts = prepared(tmp_path / "yolo")
    assert facts["answers"]["strides"] == [8, 16, 32]
    assert facts["images"]["size"] == {"height": 64, "width": 64}
    assert (facts["images"]["layout"], facts["images"]["channels"]) == ("NHWC", "RGB")
    ready, _ = detector.preprocessor(pixels)
    outputs = opened(tmp_path / "yolo")({"images": ready})
    assert_equal(outputs, detector.predict_on_batch(ready))


def test_the_towers_of_clip_are_two_files(tmp_path):
    folder = clip_checkpoints.tokenizer_files(tmp_path / "clip")
    size = len(json.loads((folder / "vocab.json").read_text()))
    clip_checkpoints.both_towers(folder, vocab_size=size, bos_token_id=size - 2)
    hub.ImagePreprocessor("CLIP", size=15, crop_size=15).save(folder)
    task = hub.ZeroShotImageClassifier.from_preset(folder, backend=BACKENDS[-1])
    task.export(tmp_path / "served", format="openvino", verbose=False)
    pixels = [_rng.integers(0, 256, (20, 31, 3), "uint8") for _ in range(2)]
    labels = ["cat", "photo"]
    images = opened(tmp_path / "served", "image")({"images": task.preprocessor.images(pixels)})
    encodings = task.preprocessor.encode([f"a photo of a {label}." for label in labels])
    texts = task.preprocessor.pack(encodings)
    texts = opened(tmp_path / "served", "text")(
        {name: texts[name].astype("int32") for name in ("token_ids", "padding_mask")}
    )
    assert_equal(images["image_embeddings"], task.encode_images(pixels))
    assert_equal(texts["text_embeddings"], task.encode_labels(labels))
    facts = prepared(tmp_path / "served")
    assert {"text", "images"} < set(facts)
    logits = (
        facts["answers"]["logit_scale"] * images["image_embeddings"] @ texts["text_embeddings"].T
    )
    scores = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = task.predict(pixels, labels=labels, verbose=0)
    assert_equal(scores, expected)
    assert_equal(task.compiled_for("openvino").predict(pixels, labels=labels, verbose=0), expected)
    with pytest.raises(ValueError, match=r"image and text.* takes no \['input_signature'\]"):
        task.compiled_for("openvino", input_signature=pixels)


SERVED = ("onnx", "openvino", "tf_saved_model", "torch", "stablehlo")


@pytest.mark.parametrize("format", SERVED)
def test_gpt2_generates_where_it_is_served(format, tmp_path):
    """Greedily, with keys and values in the hands of the program, two prompts of other lengths."""
    with keras.use_backend(BACKENDS[SERVED.index(format) % len(BACKENDS)]):
        task = random_weights(hub.CausalLM(hub.GPT2Backbone(20, **{**SIZES, "num_layers": 2})))
        ids = _rng.integers(1, 20, (2, 4)).astype("int32")
        mask = np.array([[0, 1, 1, 1], [1, 1, 1, 1]], "int32")
        expected = task.generate(
            {"token_ids": ids, "padding_mask": mask}, max_new_tokens=5, stop_token_ids=None,
            sampler="greedy", strip_prompt=True, return_ids=True,
        )["token_ids"]  # fmt: skip
        task.export(tmp_path, format=format, with_past=True, verbose=False)
    networks = prepared(tmp_path)["networks"]
    first, step = (
        export_cases.opened(tmp_path / networks[name]["file"], format)
        for name in ("decoder", "decoder_with_past")
    )
    outputs, tokens = first({"token_ids": ids, "padding_mask": mask}), []
    while True:
        tokens.append(np.asarray(outputs["logits"]).argmax(-1).astype("int32"))
        if len(tokens) == 5:
            break
        past = {
            f"past_key_values.{i}.{kind}": np.asarray(outputs[f"present.{i}.{kind}"])
            for i in range(2) for kind in ("key", "value")
        }  # fmt: skip
        outputs = step({"token_ids": tokens[-1][:, None], "padding_mask": mask, **past})
        mask = np.pad(mask, ((0, 0), (0, 1)), constant_values=1)
    assert np.stack(tokens, 1).tolist() == expected.tolist()
    assert outputs["present.1.value"].shape == (2, 8, 2, 4)


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper")
    whisper_checkpoints.make(folder)
    with keras.use_backend("torch"):
        backbone = hub.WhisperBackbone.from_preset(folder)
        tokens = {"decoder_start_token_id": 3, "eos_token_id": 2, "no_timestamps_token_id": 50}
        return hub.SpeechToText(backbone, generation_config=tokens)


def test_the_encoder_and_the_decoder_of_whisper_are_two_files(tmp_path, whisper):
    task = whisper
    with keras.use_backend("torch"):
        task.export(tmp_path / "served", format="openvino", verbose=False)
        inputs = whisper_checkpoints.inputs()[0]
        inputs = {**inputs, "decoder_padding_mask": inputs["decoder_padding_mask"].astype("int32")}
        expected = task.predict(inputs, verbose=0)
        assert_equal(task.compiled_for("openvino").predict(inputs, verbose=0), expected)
    features = {"encoder_features": inputs.pop("encoder_features")}
    source = opened(tmp_path / "served", "encoder")(features)
    logits = opened(tmp_path / "served", "decoder")({**inputs, **source})["logits"]
    assert_equal(logits, expected)
    stated = prepared(tmp_path / "served")["answers"]["generation_config"]
    assert stated["decoder_start_token_id"] == 3


@pytest.mark.parametrize("format", ["onnx", "openvino", "stablehlo"])
def test_whisper_writes_where_it_is_served(format, tmp_path, whisper):
    """With keys and values in the hands of the program: two texts of other lengths."""
    ids = np.array([[0, 3, 17], [3, 9, 20]], "int32")
    mask, features = (ids != 0).astype("int32"), whisper_checkpoints.features(rows=2)
    whisper.export(tmp_path, format=format, with_past=True, verbose=False)
    networks = prepared(tmp_path)["networks"]
    encoder, first, step = (
        export_cases.opened(tmp_path / networks[name]["file"], format)
        for name in ("encoder", "decoder", "decoder_with_past")
    )
    texts = {"decoder_token_ids": ids, "decoder_padding_mask": mask}
    outputs = first({**texts, **encoder({"encoder_features": features})})
    past = {}
    for _ in range(3):
        texts = {"decoder_token_ids": ids, "decoder_padding_mask": mask}
        expected = whisper.predict_on_batch({"encoder_features": features, **texts})[:, -1]
        assert_equal(np.asarray(outputs["logits"]), expected)
        tokens = expected.argmax(-1).astype("int32")[:, None]
        past |= {name.replace("present", "past_key_values"): np.asarray(value)
                 for name, value in outputs.items() if name != "logits"}  # fmt: skip
        inputs = {"decoder_token_ids": tokens, "decoder_padding_mask": mask, **past}
        outputs = step(inputs)
        ids, mask = np.hstack([ids, tokens]), np.hstack([mask, np.ones_like(tokens)])
    assert outputs["present.1.decoder.value"].shape == (2, 6, 3, 4)
    assert not any("encoder" in name for name in outputs)


def test_recordings_are_encoded_by_an_engine(tmp_path):
    speech_checkpoints.make(tmp_path / "whisper")
    task = hub.SpeechToText.from_preset(tmp_path / "whisper", backend="torch")
    sound = speech_checkpoints.sound(3.0)
    options = {"language": "en", "temperature": 0.0, "max_new_tokens": 6}
    expected = task.transcribe(sound, **options)
    fast = task.compiled_for("openvino")
    assert fast.builds == 0
    with fast.scope():
        assert task.transcribe(sound, **options).text == expected.text
    assert fast.builds == 1  # the encoder alone


def test_the_command_line_runs_an_engine(bert_folder, capsys):
    words = ["run", "text-classification", str(bert_folder), "the movie was good!"]
    with keras.use_backend("torch"):
        assert main(words) == 0
        expected = json.loads(capsys.readouterr().out)
        assert main([*words, "--engine", "openvino"]) == 0
        answer = json.loads(capsys.readouterr().out)
    assert answer["label"] == expected["label"]
    assert_equal(answer["scores"], expected["scores"])
    for more, message in (
        (["--engine", "tvm"], "engine must be one of ['onnxruntime', 'openvino'], got 'tvm'"),
        (["--precision", "int8"], "--precision is for --engine openvino or onnxruntime"),
    ):
        assert main([*words, *more]) == 1
        assert message in capsys.readouterr().err
    assert main(["run", "text-generation", "x", "y", "--engine", "openvino"]) == 1
    assert "text-generation does not run on another engine" in capsys.readouterr().err


def test_a_task_is_exported_into_a_folder(tmp_path):
    task = hub.TextEmbedder(hub.BertBackbone(20, **SIZES))
    with pytest.raises(ValueError, match=r"exported into a folder.*keras\.Model\.export"):
        task.export(tmp_path / "model.onnx", format="onnx")
    with pytest.raises(ValueError, match="Unknown format 'onxx'"):
        task.export(tmp_path / "served", format="onxx")
    assert not list(tmp_path.iterdir())
    assert task.export_answers() == {"pooling": "mean", "normalized": True}
