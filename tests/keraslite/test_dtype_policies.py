"""Dtype policies by name, config and path, against the installed Keras."""

import copy
import json
import pickle

import keras
import numpy as np
import pytest
from layer_cases import assert_outputs_close, x

import keraslite
from keraslite import Model, dtype_policies, layers, ops, saving
from keraslite.dtype_policies import DTypePolicyMap

POLICIES = {
    "int8_from_mixed_bfloat16": (),
    "int4_from_float32": (),
    "int4_from_mixed_float16": (),
    "int4/64_from_float32": ("block_size",),
    "int4/-1_from_bfloat16": ("block_size",),
    "float8_from_mixed_bfloat16": ("amax_history_length",),
    "gptq/3/-1_from_float32": ("weight_bits", "group_size"),
    "awq/4/128_from_mixed_bfloat16": ("weight_bits", "group_size"),
}


def through_json(value):
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("name", POLICIES)
def test_quantized_policies_are_keras(name):
    ours, theirs = dtype_policies.get(name), keras.dtype_policies.get(name)
    attributes = ("name", "compute_dtype", "variable_dtype", "quantization_mode", *POLICIES[name])
    assert type(ours).__name__ == type(theirs).__name__
    assert repr(ours) == repr(theirs)
    again = keras.dtype_policies.deserialize(through_json(dtype_policies.serialize(ours)))
    back = dtype_policies.get(through_json(keras.dtype_policies.serialize(theirs)))
    for attribute in attributes:
        expected = getattr(theirs, attribute)
        assert [getattr(p, attribute) for p in (ours, again, back)] == [expected] * 3
    assert ours.get_config() == theirs.get_config()
    assert back == ours == dtype_policies.get(ours.get_config()) != dtype_policies.get("float32")
    assert hash(back) == hash(ours)


def test_options_that_a_name_does_not_say():
    config = {"mode": "float8", "source_name": "float32", "amax_history_length": 16}
    policy = dtype_policies.QuantizedFloat8DTypePolicy(**config)
    assert policy.get_config() == config
    assert policy != dtype_policies.get("float8_from_float32")
    assert dtype_policies.get(dtype_policies.serialize(policy)).amax_history_length == 16
    with pytest.raises(TypeError, match="must be an integer"):
        dtype_policies.QuantizedFloat8DTypePolicy("float8", "float32", "long")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("int4/big_from_float32", "Expected format 'int4/<block_size>'"),
        ("int4/0_from_float32", "Invalid block_size"),
        ("gptq/5/128_from_float32", "Invalid weight_bits"),
        ("gptq/4_from_float32", "Expected format 'gptq/<weight_bits>/<group_size>'"),
        ("gptq_from_float32", "Expected format"),
        ("awq/3/128_from_float32", "Invalid weight_bits"),
        ("awq/4/-2_from_float32", "Invalid group_size"),
        ("int8/3_from_float32", "Invalid quantization mode"),
        ("int4", "names its source"),
    ],
)
def test_bad_names_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        dtype_policies.get(name)
    with pytest.raises(ValueError, match=r"."):
        keras.dtype_policies.get(name)


# ---- maps ----

ENTRIES = {
    "a/dense": "mixed_bfloat16",
    "a/attention/.*": "bfloat16",
    "b": "int8_from_float32",
    "c/.*/kernel": "int4/32_from_bfloat16",
}
PATHS = ("a/dense", "a/attention/query", "a", "b", "b/dense", "c/d/kernel", "nothing")


def maps(default="float32", entries=None):
    entries = ENTRIES if entries is None else entries
    made = []
    for library in (dtype_policies, keras.dtype_policies):
        policies = library.DTypePolicyMap(None if default is None else library.get(default))
        for path, policy in entries.items():
            policies[path] = policy
        made.append(policies)
    return made


def test_a_map_is_keras():
    ours, theirs = maps()
    assert [ours[p].name for p in PATHS] == [theirs[p].name for p in PATHS]
    assert list(ours) == list(theirs) and len(ours) == 4 and "b" in ours and "b/d" not in ours
    for attribute in ("name", "compute_dtype", "variable_dtype", "quantization_mode"):
        assert getattr(ours, attribute) == getattr(theirs, attribute)
    del ours["b"]
    assert ours["b"].name == "float32"
    ours["b"] = dtype_policies.get("float16")
    assert ours.get("b").name == "float16"
    for policies in maps(entries={"a/.*": "float32", ".*/b": "bfloat16"}):
        with pytest.raises(ValueError, match="matches multiple dtype policy"):
            policies["a/b"]
        with pytest.raises(ValueError, match="already exist"):
            policies["a/.*"] = "float32"
        with pytest.raises(ValueError, match="Cannot interpret the assigned value"):
            policies["c"] = 3.5
    for library in (dtype_policies, keras.dtype_policies):
        with pytest.raises(ValueError, match="cannot be a `DTypePolicyMap`"):
            library.DTypePolicyMap(library.DTypePolicyMap())
        with pytest.raises(TypeError, match="must be a dict"):
            library.DTypePolicyMap(policy_map=[])


def test_configs_of_maps_go_both_ways():
    ours, theirs = maps()
    again = keras.dtype_policies.deserialize(through_json(dtype_policies.serialize(ours)))
    back = dtype_policies.get(through_json(keras.dtype_policies.serialize(theirs)))
    assert back == ours != maps(default="bfloat16")[0]
    assert [again[p].name for p in PATHS] == [theirs[p].name for p in PATHS]


def test_a_map_without_a_default_follows_the_global_policy():
    entries = {"a": "float32", "b": "int8_from_float32"}
    ours, theirs = maps(None, entries)
    saved = through_json(dtype_policies.serialize(ours))
    assert ours["b"].name == "int8_from_float32"  # Keras's own map forgets it when it is saved
    for config in (saved, through_json(keras.dtype_policies.serialize(theirs))):
        with dtype_policies.dtype_policy_scope("mixed_bfloat16"):
            again = dtype_policies.get(config)
            assert [again[p].name for p in ("a", "b", "c")] == [
                "mixed_bfloat16", "int8_from_mixed_bfloat16", "mixed_bfloat16",
            ]  # fmt: skip
    again = keras.dtype_policies.get(saved)
    assert [again[p].name for p in ("a", "b")] == ["float32", "int8_from_float32"]


def attention(library, policies):
    return library.MultiHeadAttention(2, 4, dtype=policies, name="heads")


PARTS = {
    "heads": "float32",
    "heads/query": "mixed_bfloat16",
    "heads/key": "bfloat16",
    "heads/value": "int8_from_float32",
    "heads/attention_output": "float32",
}


def test_the_layers_inside_follow_their_paths(backend):
    entries = {path: policy for path, policy in PARTS.items() if policy != "float32"}
    ours, theirs = maps(entries=entries)
    inputs, found = x(2, 3, 8), {}
    for library, policies in ((layers, ours), (keras.layers, theirs)):
        layer = attention(library, policies)
        layer(inputs, inputs)
        below = (layer.query_dense, layer.key_dense) if library is layers else ()
        found[library] = [(v.path, str(v.dtype)) for v in layer.weights]
        assert layer.dtype_policy is policies
        for part, dtypes in zip(below, (("float32", "bfloat16"), ("bfloat16",) * 2), strict=False):
            assert (part.variable_dtype, part.compute_dtype) == dtypes
    assert sorted(found[layers]) == sorted(found[keras.layers])
    mine = attention(layers, ours)
    mine(inputs, inputs)
    for config in (layers.serialize(mine), keras.layers.serialize(attention(keras.layers, theirs))):
        again = layers.deserialize(through_json(config))
        again(inputs, inputs)
        assert [(v.path, v.dtype) for v in again.weights] == found[layers]
    again = keras.layers.deserialize(through_json(layers.serialize(attention(layers, ours))))
    again(inputs, inputs)
    assert [(v.path, str(v.dtype)) for v in again.weights] == found[keras.layers]


def mapped_model():
    inputs = layers.Input((3, 8))
    policies = DTypePolicyMap("float32", {"heads/key": "mixed_bfloat16"})
    return Model(inputs, attention(layers, policies)(inputs, inputs)), policies


def test_quantizing_a_layer_with_a_map_changes_its_entry(backend, tmp_path):
    model, policies = mapped_model()
    data = x(2, 3, 8)
    model.quantize("int8", filters="query|key")
    assert {path: p.name for path, p in policies.items()} == {
        "heads/query": "int8_from_float32", "heads/key": "int8_from_mixed_bfloat16",
    }  # fmt: skip
    expected = ops.convert_to_numpy(model(data))
    model.save(tmp_path / "model.keras")
    loaded = saving.load_model(tmp_path / "model.keras")
    for again in (loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        inner = again.get_layer("heads").query_dense
        assert inner.quantization_mode == "int8" and inner.dtype_policy is not policies
        assert_outputs_close(again(data), expected, 1e-6)


def test_setting_the_policy_of_a_layer_with_a_map(backend):
    model, policies = mapped_model()
    key = model.get_layer("heads").key_dense
    key.dtype_policy = "bfloat16"
    assert key.compute_dtype == "bfloat16" and policies["heads/key"].name == "bfloat16"
    key.dtype_policy = "int8_from_bfloat16"
    assert key.kernel.dtype == "int8" and policies["heads/key"].quantization_mode == "int8"


def test_the_global_policy_may_be_a_map(backend):
    with dtype_policies.dtype_policy_scope(DTypePolicyMap("float32", {"half": "mixed_bfloat16"})):
        half, whole = layers.Dense(2, name="half"), layers.Dense(2, name="whole")
    out = half(np.ones((1, 3), "float32"))
    assert ops.dtype(out) == "bfloat16" and half.kernel.dtype == "float32"
    assert ops.dtype(whole(out)) == "float32"
    assert keraslite.config.dtype_policy().name == "float32"
