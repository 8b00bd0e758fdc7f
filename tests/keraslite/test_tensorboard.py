"""The callback TensorBoard: what its files hold, read by TensorBoard and compared with Keras's."""

import io
import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.graph.keras_util import keras_model_to_graph_def
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from tensorboard.util.tensor_util import make_ndarray

import keraslite
from keraslite import callbacks, layers, optimizers
from keraslite.callbacks.event_files import EventFile

X = np.linspace(-1, 1, 24, dtype="float32").reshape(8, 3)
Y = X.sum(1, keepdims=True)


def run(K, folder, **arguments):
    """Train for two epochs of four batches, with all that can be written."""
    model = K.Sequential(
        [K.Input((3,), name="x"), K.layers.Dense(4, "tanh", name="a"), K.layers.Dense(1, name="b")],
        name="m",
    )
    model.compile(K.optimizers.SGD(0.1), "mse", metrics=["mae"])
    shapes = [w.shape for w in model.get_weights()]
    model.set_weights([np.linspace(-1, 1, np.prod(s)).reshape(s).astype("float32") for s in shapes])
    callback = K.callbacks.TensorBoard(
        folder, histogram_freq=1, write_images=True, write_steps_per_second=True, **arguments
    )
    model.fit(
        X, Y, batch_size=2, epochs=2, shuffle=False, verbose=0, validation_data=(X[:4], Y[:4]),
        callbacks=[callback],
    )  # fmt: skip
    # Of an odd number of batches Keras would drop the results, as update_freq is 2.
    model.evaluate(X, Y, batch_size=4, verbose=0, callbacks=[callback])
    return callback


def events(folder):
    """(tag, plugin) -> [(step, value)] of a run's folder."""
    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    accumulator.Reload()
    read = {}
    for tag in accumulator.Tags()["tensors"]:
        plugin = accumulator.SummaryMetadata(tag).plugin_data.plugin_name
        read[tag, plugin] = [
            (e.step, make_ndarray(e.tensor_proto)) for e in accumulator.Tensors(tag)
        ]
    return read


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """What Keras writes, in each of its folders."""
    import keras

    folder = tmp_path_factory.mktemp("theirs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras reads its variables so
        callback = run(keras, str(folder), update_freq=2)
    for writer in callback._writers.values():
        writer.flush()
    return {name: events(folder / name) for name in ("train", "validation")}


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


def test_tags_steps_and_values_are_those_of_keras(trains, tmp_path, theirs):
    run(keraslite, tmp_path, update_freq=2)
    seen = set()
    for name in theirs:
        ours, wanted = events(tmp_path / name), theirs[name]
        assert list(ours) == list(wanted)
        for key, values in ours.items():
            seen.add(key[1])
            assert [step for step, _ in values] == [step for step, _ in wanted[key]]
            for (_, got), (_, want) in zip(values, wanted[key], strict=True):
                assert_alike(*key, got, want)
    assert seen == {"graph_keras_model", "scalars", "histograms", "images"}


def assert_alike(tag, plugin, got, want):
    if plugin == "images":
        assert list(got[:2]) == list(want[:2])  # width and height
        for a, b in zip(got[2:], want[2:], strict=True):
            assert np.abs(pixels(a) - pixels(b)).max() <= 1
    elif plugin == "graph_keras_model":
        ours, theirs = (keras_model_to_graph_def(json.loads(x.item())) for x in (got, want))
        assert ours.node == theirs.node
    elif tag.endswith("steps_per_second"):
        assert got > 0
    else:
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.fixture
def one():
    with keraslite.use_backend("torch"):
        yield


def test_epochs_alone_are_written_by_default(one, tmp_path):
    model = keraslite.Sequential([keraslite.Input((3,)), layers.Dense(1, name="out")])
    first, second = (optimizers.SGD(rate, name=f"at_{rate}") for rate in (0.1, 0.2))
    parts = optimizers.OptimizerMap(second, {"kernel": first})
    model.compile(optimizers.MultiOptimizer(parts), "mse")
    board = callbacks.TensorBoard(tmp_path, write_graph=False)
    model.fit(X, Y, verbose=0, callbacks=[board])
    read = events(tmp_path / "train")
    rates = {f"epoch_learning_rate_at_{rate}": rate for rate in (0.1, 0.2)}
    assert [tag for tag, _ in read] == ["epoch_loss", *rates]
    for tag, rate in rates.items():
        assert np.isclose(read[tag, "scalars"][0][1], rate)


def test_embeddings_are_written_for_the_projector(one, tmp_path):
    from google.protobuf import text_format

    model = keraslite.Sequential(
        [keraslite.Input((2,), dtype="int32"), layers.Embedding(5, 3, name="words")]
    )
    model.compile("sgd", "mse")
    board = callbacks.TensorBoard(
        tmp_path, embeddings_freq=1, embeddings_metadata={"words": "words.tsv"}
    )
    x = np.array([[0, 1], [2, 3]])
    model.fit(x, np.ones((2, 2, 3)), epochs=2, verbose=0, callbacks=[board])
    config = text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (entry,) = config.embeddings
    assert (entry.metadata_path, entry.tensor_path) == ("words.tsv", "train/words-1.tsv")
    table = np.loadtxt(tmp_path / entry.tensor_path, delimiter="\t")
    np.testing.assert_allclose(table, model.get_weights()[0], rtol=1e-6)
    board = callbacks.TensorBoard(tmp_path, embeddings_freq=1, embeddings_metadata={"none": "x"})
    with pytest.raises(ValueError, match=r"which are \['words'\], got \['none'\]"):
        board.set_model(model)


def test_batches_are_profiled(trains, tmp_path):
    model = keraslite.Sequential([keraslite.Input((3,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    board = callbacks.TensorBoard(tmp_path, profile_batch=(2, 3))
    model.fit(X, Y, batch_size=2, verbose=0, callbacks=[board])
    kinds = (".xplane.pb", ".pt.trace.json")
    traces = [p for p in (tmp_path / "train").rglob("*") if p.name.endswith(kinds)]
    assert len(traces) == 1
    assert traces[0].stat().st_size > 100


def test_bad_arguments_are_refused(tmp_path):
    for profile in (-1, (3, 2), "a,b", 1.5):
        with pytest.raises(ValueError, match="profile_batch must be"):
            callbacks.TensorBoard(tmp_path, profile_batch=profile)
    with pytest.raises(ValueError, match="update_freq must be"):
        callbacks.TensorBoard(tmp_path, update_freq="step")
    with pytest.raises(NotImplementedError, match="NumPy has no profiler"):
        keraslite.backend.load("numpy").profile(str(tmp_path))


def test_values_of_several_axes_and_of_no_elements(tmp_path):
    file = EventFile(tmp_path)
    file.histogram("none", np.zeros((0,)), 0)
    file.histogram("nan", np.array([1.0, np.nan]), 0)
    file.images("ints", np.full((1, 2, 2, 3), 127, "int8"), 0)
    file.flush()
    read = events(tmp_path)
    assert not read["none", "histograms"][0][1].any()
    assert read["nan", "histograms"][0][1][-1, 2] == 2
    assert (pixels(read["ints", "images"][0][1][2]) == 255).all()


def test_no_framework_is_imported_for_it(tmp_path):
    code = (
        "import sys, keraslite as k; k.use_backend('numpy');"
        "from keraslite.callbacks.event_files import EventFile;"
        f"f = EventFile({str(tmp_path)!r}); f.scalar('a', 1.0, 0); f.flush();"
        "print(sorted({'jax', 'torch', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "[]"
