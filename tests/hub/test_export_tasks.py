"""Tasks in the formats and on the engines of others: networks, preparation of inputs, answers.

Each file is opened by its own run-time, and its answers are compared with `predict`.
"""

import json

import bert_checkpoints
import numpy as np
import pytest
from backends import BACKENDS

import hub
import keraslite as keras
from hub.tasks.exporting import NetworkPart

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
    backbone = hub.ResNetBackbone((4, 8, 8, 16), (1, 1, 1, 1), input_conv_filters=4)
    return hub.ImageClassifier(backbone, 3)


def vit():
    return hub.ImageClassifier(hub.ViTBackbone(**SIZES, image_size=16, patch_size=8), 3)


def yolo():
    backbone = hub.YOLOV8Backbone((4, 8, 8, 8), (1, 1, 1, 1))
    return hub.ObjectDetector(backbone, 2, fpn_depth=1)


# name -> (network, ready inputs)
NETWORKS = {
    "bert": (lambda: hub.TextClassifier(hub.BertBackbone(20, **SIZES), 3), SEGMENTS),
    "gpt2": (lambda: hub.CausalLM(hub.GPT2Backbone(20, **SIZES)), TEXTS),
    "t5": (t5_encoder, TEXTS),
    "clip": (clip, {"images": pictures(3, 8, 8, 3), **TEXTS}),
    "vit": (vit, pictures(3, 16, 16, 3)),
    "resnet": (resnet, pictures(3, 40, 32, 3)),
    "yolo": (yolo, pictures(2, 64, 32, 3)),
}
ENGINES = ("openvino", "onnxruntime")


def random_weights(model):
    """Weights without zeros and ones that would hide a mistake; variances stay positive."""
    for variable in model.weights:
        values = variable.numpy()
        if values.dtype == "float32":
            noise = _rng.normal(size=values.shape).astype("float32")
            variable.assign(values + 0.1 * np.abs(noise))
    return model


def assert_equal(got, expected):
    keras.tree.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), got, expected
    )


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_compiled_network_predicts_as_the_model_does(name, engine):
    make, x = NETWORKS[name]
    live = BACKENDS[(list(NETWORKS).index(name) + ENGINES.index(engine)) % len(BACKENDS)]
    with keras.use_backend(live):
        model = random_weights(make())
        expected = keras.Model.predict(model, x, verbose=0)
        fast = keras.Model.compiled_for(model, engine)
        with fast.scope():
            assert_equal(keras.Model.predict(model, x, verbose=0), expected)
        smaller = keras.tree.map_structure(lambda a: a[:1], x)
        with fast.scope():
            assert_equal(
                keras.Model.predict(model, smaller, verbose=0),
                keras.tree.map_structure(lambda a: a[:1], expected) if name != "clip" else
                {k: v[:1, :1] if "logits" in k else v[:1] for k, v in expected.items()},
            )
        assert fast.builds == 1
