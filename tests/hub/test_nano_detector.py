"""A detector of the nano size, from scratch on drawn shapes: the same losses on every backend.

In float32 they part after about five steps, by up to some percent: which positions a box takes is
decided between scores that are nearly equal, by the last digits. In float64 they do not.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from backends import BACKENDS

ROOT = Path(__file__).parents[2]
STEPS = 20
SCRIPT = """
import json, sys
from pathlib import Path
sys.path.insert(0, "examples")
import detect_shapes
import numpy as np
import keraslite as keras

backend, folder, steps = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
detect_shapes.SIZE = 64
data = detect_shapes.make_data(folder, 5 * steps)
keras.config.set_floatx("float64")
keras.use_backend(backend)
keras.utils.set_random_seed(0)
detector = detect_shapes.make_detector()
assert {v.dtype for v in detector.trainable_variables} == {"float64"}


class Means(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        means.append(float(logs["loss"]))


means = []
detector.fit(data, epochs=1, batch_size=4, warmup_epochs=0.9, verbose=0, callbacks=[Means()])
count = np.arange(1, steps + 1)
print(json.dumps(np.diff(means * count, prepend=0.0).tolist()))
"""


@pytest.mark.slow
def test_the_first_losses_are_the_same_on_all_backends(tmp_path):
    names = [name for name in BACKENDS if name != "numpy"]
    losses = []
    for name in names:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, name, str(tmp_path / name), str(STEPS)],
            env=os.environ | {"JAX_ENABLE_X64": "1"}, cwd=ROOT, check=True, capture_output=True,
        )  # fmt: skip
        losses.append(json.loads(done.stdout.splitlines()[-1]))
    for name, values in zip(names, losses, strict=True):
        assert len(values) == STEPS, name
        np.testing.assert_allclose(values, losses[0], rtol=1e-6, err_msg=name)
