"""Helpers under their Keras names: configs, padding, registered objects, settings, messages."""

import logging

import keras
import numpy as np
import pytest

import keraslite
from keraslite import config, dtype_policies, layers, models, ops, saving, utils

SEQUENCES = [[1], [2, 3], [], [4, 5, 6, 7]]


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("truncating", ["pre", "post"])
@pytest.mark.parametrize("maxlen", [None, 2, 6])
def test_sequences_are_padded_as_by_keras(padding, truncating, maxlen):
    arguments = {"maxlen": maxlen, "padding": padding, "truncating": truncating, "value": -1}
    got = utils.pad_sequences(SEQUENCES, **arguments)
    want = keras.utils.pad_sequences(SEQUENCES, **arguments)
    np.testing.assert_array_equal(got, want)
    assert got.dtype == want.dtype == np.int32
    steps = [np.ones((n, 2)) * n for n in (1, 3)]
    got, want = (
        lib.utils.pad_sequences(steps, dtype="float32", **arguments) for lib in (keraslite, keras)
    )
    np.testing.assert_array_equal(got, want)
    words = [["a"], ["b", "cde"]]
    arguments |= {"value": "", "dtype": object}
    got, want = (lib.utils.pad_sequences(words, **arguments) for lib in (keraslite, keras))
    assert got.tolist() == want.tolist()


def test_bad_sequences_are_refused():
    for arguments, message in (
        ({"sequences": 3}, "must be iterable"),
        ({"sequences": [[1], 2]}, "Found non-iterable: 2"),
        ({"sequences": [[1]], "padding": "left"}, 'Padding type "left"'),
        ({"sequences": [[1]], "truncating": "left"}, 'Truncating type "left"'),
        ({"sequences": [[1]], "value": "x"}, "is not compatible with `value`"),
        ({"sequences": [np.ones((1, 2)), np.ones((1, 3))]}, "at position 1 is different"),
    ):
        with pytest.raises(ValueError, match=message):
            utils.pad_sequences(**arguments)
    assert utils.pad_sequences([]).shape == (0, 0)


def test_a_config_holds_names_and_values():
    ours, theirs = utils.Config(rate=0.1), keras.utils.Config(rate=0.1)
    for c in (ours, theirs):
        c.seed = 3
        c["name"] = "a"
        c.update(decay=0.5)
        assert c.pop("decay") == 0.5
        assert (c.rate, c["seed"], c.get("none", 7), "name" in c) == (0.1, 3, 7, True)
    assert ours.to_json() == theirs.to_json()
    assert ours.as_dict() == dict(ours.items()) == theirs.as_dict()
    assert (list(ours), len(ours)) == (["rate", "seed", "name"], 3)
    ours.freeze()
    assert ours.frozen
    for change in (
        lambda: setattr(ours, "rate", 1), lambda: ours.pop("rate"), lambda: ours.update(a=1),
        lambda: ours.__setitem__("a", 1), lambda: ours.__delitem__("rate"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="is frozen"):
            change()
    ours.unfreeze()
    del ours["rate"], ours.seed
    with pytest.raises(AttributeError, match="'rate'"):
        _ = ours.rate
    with pytest.raises(AttributeError, match="a method"):
        ours.items = 3
    assert ours.as_dict() == {"name": "a"}


def test_registered_objects_are_looked_up():
    @saving.register_keras_serializable("tests_utils")
    class Mine(layers.Layer):
        pass

    name = saving.get_registered_name(obj=Mine)
    assert saving.get_registered_object(name) is Mine
    assert utils.get_custom_objects()[name] is Mine
    assert saving.get_registered_object("Nobody") is None
    assert saving.get_registered_object("Nobody", module_objects={"Nobody": Mine}) is Mine
    with saving.custom_object_scope(custom_objects={"Nobody": Mine}):
        assert saving.get_registered_object("Nobody") is Mine
    try:
        saving.get_custom_objects()["Other"] = Mine
        config_of = {"class_name": "Other", "config": {"name": "mine"}}
        assert isinstance(saving.deserialize_keras_object(config_of), Mine)
    finally:
        del saving.get_custom_objects()["Other"]


def test_numbers_of_numpy_are_plain_in_configs():
    structure = {"rate": np.float32(0.5), "size": [np.int64(3), (np.bool_(True),)], "name": "a"}
    assert saving.serialize_keras_object(structure) == {
        "rate": 0.5, "size": [3, [True]], "name": "a",
    }  # fmt: skip
    config_of = saving.serialize_keras_object(layers.Dropout(np.float32(0.5)))
    assert saving.deserialize_keras_object(config_of).rate == 0.5


def test_names_of_the_backend_module(backend):
    assert config.backend() == keraslite.backend() == backend
    assert keraslite.backend.floatx() == "float32"
    for dtype in ("float16", "bfloat16", "int8", "uint32", "bool", np.float64):
        for name in ("is_float_dtype", "is_int_dtype", "standardize_dtype"):
            ours, theirs = (getattr(lib.backend, name)(dtype) for lib in (keraslite, keras))
            assert ours == theirs, (name, dtype)
    assert keraslite.backend.result_type("int32", "float16") == "float16"
    assert utils.is_keras_tensor(layers.Input((2,)))
    assert not keraslite.backend.is_keras_tensor(ops.ones(2))
    first = keraslite.backend.get_uid("tests")
    assert keraslite.backend.get_uid("tests") == first + 1
    keraslite.backend.clear_session()
    assert keraslite.backend.get_uid("tests") == 1
    with keraslite.use_backend("numpy"):
        config.set_backend(backend)
        assert keraslite.backend() == backend
    with pytest.raises(ValueError, match="Unknown backend 'theano'"):
        config.set_backend("theano")


def test_fused_attention_can_be_turned_off(backend, monkeypatch):
    from keraslite.ops import attention

    used = []

    def note(*args):
        used.append(True)
        return NotImplemented

    monkeypatch.setattr(attention, "_fused_attention", note)
    x = ops.ones((1, 2, 1, 8))
    try:
        config.disable_flash_attention()
        assert config.is_flash_attention_enabled() is False
        ops.dot_product_attention(x, x, x)
        assert not used
    finally:
        config.enable_flash_attention()
    ops.dot_product_attention(x, x, x)
    assert used
    assert config.is_flash_attention_enabled() is None


def test_messages_go_to_the_log_where_that_is_asked_for(trains, capsys, caplog):
    model = models.Sequential([layers.Input((2,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((4, 2), "float32")
    caplog.set_level(logging.INFO, "keraslite")
    try:
        utils.disable_interactive_logging()
        assert not config.is_interactive_logging_enabled()
        model.fit(x, x[:, :1], verbose=1)
        model.summary()
    finally:
        utils.enable_interactive_logging()
    assert capsys.readouterr().out == ""
    assert "loss:" in caplog.text
    assert "Total params" in caplog.text
    caplog.clear()
    model.fit(x, x[:, :1], verbose=1)
    assert "loss:" in capsys.readouterr().out
    assert not caplog.records


def test_tracebacks_are_whole():
    config.disable_traceback_filtering()
    assert not config.is_traceback_filtering_enabled()
    with pytest.warns(UserWarning, match="shown whole"):
        config.enable_traceback_filtering()
    assert not config.is_nnx_enabled()
    assert keraslite.version() == keraslite.__version__


def test_names_of_older_code():
    mixed = keraslite.mixed_precision
    try:
        mixed.set_global_policy("mixed_bfloat16")
        assert mixed.global_policy() == mixed.Policy("mixed_bfloat16")
        assert layers.Dense(1).compute_dtype == "bfloat16"
    finally:
        mixed.set_global_policy(None)
    for name in ("mixed_float16", "int8_from_bfloat16"):
        policy = dtype_policies.get(name)
        again = dtype_policies.deserialize(dtype_policies.serialize(policy))
        assert (type(again), again.name) == (type(policy), name)
    assert models.load_model is saving.load_model
    assert models.save_model is saving.save_model
