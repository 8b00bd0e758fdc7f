"""Which backend a value belongs to: switching, mixing, moving, and what happens without one."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from backends import BACKENDS

import keraslite as keras
from keraslite import layers, ops
from keraslite.scopes import scopes

CLEAN = {k: v for k, v in os.environ.items() if not k.endswith("_BACKEND")}
NAMES = ("jax", "torch", "tensorflow", "numpy")
PAIRS = [(a, b) for a in NAMES for b in NAMES if a != b]


def tensor(name, value=(1.0, 2.0)):
    with keras.use_backend(name):
        return ops.convert_to_tensor(np.array(value, "float32"))


def test_a_block_ends_where_it_ends():
    keras.use_backend("numpy")
    with keras.use_backend("torch"):
        assert keras.backend() == "torch"
        with keras.use_backend("jax"):
            assert keras.backend() == keras.backend.backend() == "jax"
        assert keras.backend() == "torch"
        keras.use_backend("tensorflow")  # a plain call inside a block holds to the block's end
        assert keras.backend() == "tensorflow"
    assert keras.backend() == "numpy"


def test_a_block_ends_with_an_exception():
    keras.use_backend("numpy")
    with pytest.raises(KeyError), keras.use_backend("torch"):
        raise KeyError
    assert keras.backend() == "numpy"


def test_threads_and_tasks_have_blocks_of_their_own():
    keras.use_backend("numpy")
    seen = {}

    def work(name):
        with keras.use_backend(name):
            barrier.wait()
            seen[name] = keras.backend()

    barrier = threading.Barrier(2)
    threads = [threading.Thread(target=work, args=(n,)) for n in ("jax", "torch")]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert seen == {"jax": "jax", "torch": "torch"}

    async def task(name):
        with keras.use_backend(name):
            await asyncio.sleep(0)
            return keras.backend()

    async def both():
        return await asyncio.gather(task("jax"), task("torch"))

    assert asyncio.run(both()) == ["jax", "torch"]
    assert keras.backend() == "numpy"


def test_unknown_backends_are_refused():
    with pytest.raises(ValueError, match="Unknown backend 'mxnet'"):
        keras.use_backend("mxnet")


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env={**CLEAN, **environment},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"KERASLITE_BACKEND": "numpy", "KERAS_BACKEND": "torch"}, "numpy"),
        ({"KERAS_BACKEND": "tensorflow"}, "tensorflow"),
        ({}, "jax"),
    ],
)
def test_the_default_comes_from_the_environment(environment, expected, tmp_path):
    code = "import keraslite, sys; print(keraslite.backend(), 'tensorflow' in sys.modules)"
    done = run(code, KERAS_HOME=str(tmp_path), **environment)
    assert done.stdout.split() == [expected, "False"], done.stderr


def test_the_config_file_is_read(tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "numpy", "epsilon": 1e-5}')
    done = run(
        "import keraslite as k; print(k.backend(), k.config.epsilon())", KERAS_HOME=str(tmp_path)
    )
    assert done.stdout.split() == ["numpy", "1e-05"], done.stderr
    (tmp_path / "keras.json").write_text("{broken")
    assert "is not a JSON object" in run("import keraslite", KERAS_HOME=str(tmp_path)).stderr


@pytest.mark.parametrize(
    ("named", "reason"),
    [("jax", "is not installed"), ("openvino", "is none of jax, torch, tensorflow, numpy")],
)
def test_a_config_file_that_names_a_backend_that_is_not_there(tmp_path, named, reason):
    (tmp_path / "keras.json").write_text(json.dumps({"backend": named}))
    hidden = (
        "import keraslite.backend.dispatch as b, keraslite as k\n"
        "spec = b.find_spec\n"
        "b.find_spec = lambda name: None if name == 'jax' else spec(name)\n"
    )
    code = hidden + "print(k.backend(), k.layers.Dense(2)(k.ops.ones((1, 3))).shape, k.backend())"
    done = run(code, KERAS_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("torch")
    assert done.stderr.count("UserWarning") == 1
    assert f'{tmp_path}/keras.json has "backend": "{named}", which {reason}' in done.stderr
    assert "'torch' is used" in done.stderr
    # A variable is meant: what it names must be there.
    code = hidden + "k.backend()"
    done = run(code, KERAS_HOME=str(tmp_path), KERAS_BACKEND=named)
    assert f"'{named}' (by the environment variable KERAS_BACKEND)" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("setting", ["none", "file", "off", "in code"])
def test_programs_of_jax_are_kept_where_the_user_has_chosen_nothing(tmp_path, setting):
    before = {"in code": "import jax; jax.config.update('jax_compilation_cache_dir', '/mine')\n"}
    code = before.get(setting, "") + (
        "import keraslite as k, jax\n"
        "with k.use_backend('jax'): k.ops.ones((2,))\n"
        "print(jax.config.jax_compilation_cache_dir)\n"
    )
    clean = {k: v for k, v in CLEAN.items() if not k.startswith("JAX_")}
    environment = {"off": {"JAX_ENABLE_COMPILATION_CACHE": "0"}}.get(setting, {})
    if setting == "file":  # where the folder should be
        (tmp_path / "keraslite").write_text("")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False,
        env=clean | {"XDG_CACHE_HOME": str(tmp_path)} | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = {"none": str(tmp_path / "keraslite" / "jax"), "in code": "/mine"}
    assert done.stdout.startswith(expected.get(setting, "None"))


def test_without_asserts_and_docstrings(backend):
    code = (
        "import numpy as np, keraslite as k, hub\n"
        "m = k.Sequential([k.layers.Input((3,)), k.layers.Dense(2, activation='relu')])\n"
        "print(m.predict(np.ones((4, 3), 'float32'), verbose=0).shape, __debug__)\n"
        "print(k.metrics.MeanSquaredError().name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=False,
        env=CLEAN | {"KERASLITE_BACKEND": backend},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(4, 2) False")
    assert done.stdout.strip().endswith("mean_squared_error")


def test_no_framework_installed_is_said(tmp_path):
    code = (
        "import keraslite.backend.dispatch as b\n"
        "b.find_spec = lambda name: None\n"
        "import keraslite\n"
        "try: keraslite.backend()\n"
        "except ImportError as e: print(e)\n"
        "try: keraslite.use_backend('torch')\n"
        "except ImportError as e: print(e)\n"
    )
    lines = run(code, KERAS_HOME=str(tmp_path)).stdout.splitlines()
    assert "No backend is installed" in lines[0]
    assert "'torch' is not installed" in lines[1]
    assert "pip install torch" in lines[1]


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "bool"])
def test_tensors_move(source, target, dtype):
    with keras.use_backend(source):
        x = ops.cast(np.array([[1.0, 0.0], [3.0, 4.0]], "float32"), dtype)
    moved = keras.to_backend(x, target)
    assert ops.dtype(moved) == dtype
    with keras.use_backend(target):
        assert ops.is_tensor(moved)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(moved).astype("float32"), ops.convert_to_numpy(x).astype("float32")
    )


def test_dlpack_makes_no_copy():
    x = tensor("torch")
    moved = keras.to_backend(x, "numpy")
    assert np.shares_memory(moved, x.numpy())


@pytest.mark.parametrize(("one", "other"), [p for p in PAIRS if "numpy" not in p])
def test_two_frameworks_in_one_op_are_refused(one, other):
    first, second = sorted((one, other))
    with pytest.raises(TypeError, match=rf"two frameworks, {first} and {second}.*to_backend"):
        ops.add(tensor(one), tensor(other))
    with pytest.raises(TypeError, match="two frameworks"):
        ops.concatenate([tensor(one), tensor(other)])


@pytest.mark.parametrize("name", ["jax", "torch", "tensorflow"])
def test_literals_follow_the_tensor(name):
    x = tensor(name)
    with keras.use_backend("numpy"):
        for out in (
            ops.add(x, 1), ops.add([1.0, 2.0], x), ops.multiply(np.ones(2, "float32"), x),
            ops.exp(x), ops.concatenate([x, [3.0]]), ops.where([True, False], x, 0.0),
        ):  # fmt: skip
            assert keras.backend.of(out) == name
        assert isinstance(ops.add(1, 2), np.generic | np.ndarray)


def test_layers_move_what_they_are_given(backend):
    layer = keras.layers.Dense(2, kernel_initializer="ones")
    for other in NAMES:
        with keras.use_backend(other):  # the layer's own backend counts, not the current one
            out = layer(ops.reshape(tensor(other), (1, 2)))
        kind = keras.backend.of(out)
        assert kind == (None if backend == "numpy" else backend)
        np.testing.assert_allclose(ops.convert_to_numpy(out), [[3.0, 3.0]])


def test_a_value_that_was_never_read_has_the_dtype_of_its_variable(backend):
    for dtype in ("float32", "bfloat16", "int32"):
        variable = keras.Variable(initializer="zeros", shape=(2,), dtype=dtype)
        variable.assign(np.array([1.0, 2.0]))
        assert variable.numpy().dtype.name == dtype
        np.testing.assert_array_equal(variable.numpy().astype("float32"), [1, 2])


def test_variables_are_lazy_and_move():
    calls = []

    def start(shape, dtype=None):
        calls.append(keras.backend())
        return np.full(shape, 2.0, "float32")

    with keras.use_backend("torch"):
        v = keras.Variable(start, shape=(2,), name="v")
    assert calls == []
    v.to_backend("jax")
    assert calls == []
    assert keras.backend.of(v.value) == "jax"
    assert calls == ["numpy"]
    for name in ("torch", "tensorflow", "numpy", "jax"):
        v.to_backend(name)
        v.assign_add(np.ones(2, "float32"))
        assert v.backend == name
    np.testing.assert_array_equal(v.numpy(), [6.0, 6.0])
    with pytest.raises(ValueError, match=r"shape \(2,\).*\(3,\)"):
        v.assign(np.ones(3))


def test_a_stateless_scope_keeps_variables_as_they_are(backend):
    v = keras.Variable(np.ones(2, "float32"))
    with keras.StatelessScope([(v, ops.zeros((2,)))]) as scope:
        v.assign_add(ops.ones((2,)))
        v.assign(v.value * 3.0)
        assert [x is v for x, _ in scope.updates()] == [True]
    np.testing.assert_array_equal(v.numpy(), [1.0, 1.0])
    np.testing.assert_array_equal(ops.convert_to_numpy(scope.get(v)), [3.0, 3.0])


def test_autocast(backend):
    v = keras.Variable(np.ones(2, "float32"))
    count = keras.Variable(np.ones(2, "int32"))
    with keras.AutocastScope("bfloat16"):
        assert ops.dtype(v.value) == "bfloat16"
        assert ops.dtype(count.value) == "int32"
    assert ops.dtype(v.value) == "float32"


def test_products_are_float32_until_something_else_is_asked_for():
    import jax
    import torch

    for name in ("jax", "torch"):
        keras.backend.load(name)
    try:
        assert jax.config.jax_default_matmul_precision == "highest"
        assert not torch.backends.cudnn.allow_tf32
        keras.backend.allow_tensor_float_32()
        assert jax.config.jax_default_matmul_precision == "tensorfloat32"
        assert torch.backends.cudnn.allow_tf32
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        keras.backend.allow_tensor_float_32(False)
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int32"])
def test_large_transposed_arrays_are_first_values(backend, dtype):
    array = np.arange(200 * 300).reshape(200, 300).T % 128
    value = keras.backend.load(backend).new_value(array.astype("float32"), dtype)
    assert ops.dtype(value) == dtype
    np.testing.assert_array_equal(ops.convert_to_numpy(value).astype("int32"), array)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
def test_numpy_of_a_variable_is_a_copy_that_may_be_written_to(backend, dtype):
    for variable in (keras.Variable([1, 2], dtype=dtype),
                     keras.Variable("ones", shape=(2,), dtype=dtype)):  # fmt: skip
        for read in (ops.convert_to_numpy, lambda v: v.numpy(), np.array,
                     lambda v: ops.convert_to_numpy(v.value)):  # fmt: skip
            for _ in range(2):  # of a new variable, then of one that was read
                before = variable.numpy().astype("float32")
                array = read(variable)
                array += 1
                np.testing.assert_array_equal(variable.numpy().astype("float32"), before)
                kept = array.copy()
                variable.assign_add(np.ones(2, array.dtype))
                np.testing.assert_array_equal(array.astype("float32"), kept.astype("float32"))
                assert np.min(variable) == before.min() + 1


def test_variables_compare_by_value_and_hash_by_identity(backend):
    v, w = keras.Variable([0.0, 1.0]), keras.Variable([0.0, 1.0])
    assert ops.convert_to_numpy(v == 0).tolist() == [True, False]
    assert ops.convert_to_numpy(v != np.array([0.0, 0.0], "float32")).tolist() == [False, True]
    assert ops.convert_to_numpy(v == w).all() and len({v, w}) == 2
    assert v != None and (v == None) is False  # noqa: E711


# -- devices --------------------------------------------------------------------------------------

DEVICES = """
import sys, numpy as np
name = sys.argv[1]
if name == "tensorflow":
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    where = lambda x: x.device.rpartition("/")[2].removeprefix("device:")
elif name == "jax":
    import jax
    jax.config.update("jax_num_cpu_devices", 2)
    where = lambda x: "CPU:%d" % next(iter(x.devices())).id
import keraslite as keras
from keraslite import layers, ops

def model():
    made = keras.Sequential([layers.Input((200,)), layers.Dense(200), layers.Dropout(0.1)])
    made.compile("adam", "mse")
    return made

outside = model()
with keras.device("cpu:1"):
    x = ops.ones((2, 200))
    inside = model()
    inside.fit(np.ones((4, 200)), np.ones((4, 200)), verbose=0)
    late = model()
assert where(x) == "CPU:1", where(x)
assert where(ops.ones((2,))) == "CPU:0"
for m, place in ((outside, "CPU:0"), (inside, "CPU:1"), (late, "CPU:1")):
    places = [where(v.value) for v in m.weights]  # made now, placed where it was decided
    assert places == [place] * len(places), places
assert {where(v.value) for v in inside.optimizer.variables[2:]} == {"CPU:1"}
print(inside.predict(np.ones((4, 200)), verbose=0).shape)
"""


@pytest.mark.parametrize("name", [n for n in BACKENDS if n in ("jax", "tensorflow")])
def test_tensors_go_to_the_device_of_a_block(name):
    """On machines of two CPUs, as the framework believes."""
    run = subprocess.run(
        [sys.executable, "-c", DEVICES, name], capture_output=True, text=True, check=False,
        env=os.environ | {"KERASLITE_BACKEND": name},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.split("\n")[-2] == "(4, 200)"


@pytest.mark.skipif("torch" not in BACKENDS, reason="torch has devices without data")
def test_tensors_and_variables_go_to_a_device_of_torch():
    with keras.use_backend("torch"):
        with keras.device("meta"):
            x, layer = ops.ones((2, 3)), layers.Dense(2)
            layer.build((2, 3))
            with keras.device("CPU"):
                assert ops.convert_to_tensor([1.0]).device.type == "cpu"
            with ThreadPoolExecutor(1) as pool:
                elsewhere = pool.submit(lambda: tensor("torch").device.type).result()
        assert x.device.type == layer.kernel.value.device.type == "meta"
        assert elsewhere == ops.ones(()).device.type != "meta"


def test_devices_that_are_not_there_are_refused(backend):
    for name in ("gpu:7", "cpu:99", "nonsense:0"):
        with pytest.raises(ValueError, match=f"{backend} has no device '{name}'"):
            keras.device(name).__enter__()
    for name in (None, 0, "gpu:-1", "gpu 0"):
        with pytest.raises(ValueError, match="must be a string such as 'gpu:0'"):
            keras.device(name).__enter__()
    for name in ("cpu", "cpu:0", "CPU:0", "/CPU:0", "/device:CPU:0"):
        with keras.device(name):
            np.testing.assert_array_equal(keras.backend.to_numpy(ops.ones((2,))), [1, 1])
    assert scopes.device is None
