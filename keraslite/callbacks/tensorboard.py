"""TensorBoard: losses, metrics, weights, the graph of layers and profiles, as event files."""

import json
import os
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from keraslite import backend as backends
from keraslite import config
from keraslite.callbacks.base import Callback
from keraslite.callbacks.event_files import EventFile, require_tensorboard
from keraslite.callbacks.monitor import learning_rates
from keraslite.layers import Embedding
from keraslite.registry import public_class

_WITH_GRAPH = ("Functional", "Sequential")  # those whose configs TensorBoard draws


class TensorBoard(Callback):
    """Writes losses, metrics, weights and more as event files, which TensorBoard shows.

    Those of training go to the folder `train` in `log_dir`, those of validation and evaluation to
    `validation`, under the tags that Keras gives them. The package `tensorboard` writes them on
    every backend; `tensorboard --logdir logs` shows them.

    Args:
        log_dir: the folder.
        histogram_freq: every how many epochs the distributions of the weights are written; 0 for
            never.
        write_graph: whether the graph of layers of a `Sequential` or functional model is written.
        write_images: whether weights are written as images too, where their distributions are.
        write_steps_per_second: whether the speed is written by epoch, and by batch too where
            `update_freq` is not "epoch".
        update_freq: "epoch", "batch", or every how many batches losses and metrics are written
            beside those of the epochs. To write the values of a batch waits for the device.
        profile_batch: the batch that is profiled, counted from 1, or the first and the last, as a
            pair or as "2,5"; 0 for none. The profile is written to `train`: of JAX's and
            TensorFlow's profilers for TensorBoard's plugin `tensorboard-plugin-profile`, of torch's
            as a Chrome trace for `torch-tb-profiler` or chrome://tracing. NumPy has no profiler.
        embeddings_freq: every how many epochs the tables of `Embedding` layers are written, for
            TensorBoard's projector; 0 for never.
        embeddings_metadata: the file of labels of each Embedding layer by its name, or one file
            for all, relative to `log_dir`.

    Raises:
        ImportError: tensorboard is not installed.
        ValueError: an argument is not valid.

    >>> TensorBoard("logs", update_freq="batch").update_freq
    1
    """

    def __init__(
        self,
        log_dir: Any = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
        profile_batch: int | str | tuple[int, int] = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: Any = None,
    ):
        super().__init__()
        require_tensorboard()
        self.log_dir, self.histogram_freq = os.fspath(log_dir), histogram_freq
        self.write_graph, self.write_images = write_graph, write_images
        self.write_steps_per_second = write_steps_per_second
        self.update_freq = 1 if update_freq == "batch" else update_freq
        if self.update_freq != "epoch" and (
            not isinstance(self.update_freq, int) or self.update_freq < 1
        ):
            raise ValueError(
                f"update_freq must be 'epoch', 'batch' or a number of batches: {update_freq!r}."
            )
        self.embeddings_freq, self.embeddings_metadata = embeddings_freq, embeddings_metadata
        self._profiled = _range_of(profile_batch)
        self._files: dict[str, EventFile] = {}
        self._profile: ExitStack | None = None
        self._batch = 0  # of this training, from 1 on
        self._begun = self._epoch_begun = 0.0
        self._iterations = 0

    def _file(self, name: str) -> EventFile:
        if name not in self._files:
            self._files[name] = EventFile(Path(self.log_dir, name))
        return self._files[name]

    def _flush(self) -> None:
        for file in self._files.values():
            file.flush()

    def set_model(self, model: Any) -> None:
        """Take the model, begin new files, and write the graph of its layers."""
        super().set_model(model)
        self._files = {}
        if self.write_graph and public_class(type(model)).__name__ in _WITH_GRAPH:
            self._write_graph()
        if self.embeddings_freq:
            self._check_metadata()

    def _write_graph(self) -> None:
        try:
            text = self.model.to_json()
        except (TypeError, ValueError, NotImplementedError) as error:
            warnings.warn(f"The graph of layers is not written: {error}", stacklevel=2)
            return
        self._file("train").model("keras", text, 0)

    # -- scalars ------------------------------------------------------------------------------

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin to count batches."""
        self._batch = self._iterations = 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Count a batch, and begin to profile where it is asked for."""
        self._batch += 1
        if self.write_steps_per_second:
            self._begun = time.perf_counter()
        if self._profiled and self._batch == self._profiled[0] and self._profile is None:
            self._profile = ExitStack()
            folder = str(Path(self.log_dir, "train"))
            self._profile.enter_context(backends.load(self.model.backend).profile(folder))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Write the losses and metrics, after so many batches."""
        if self.update_freq != "epoch" and self._batch % self.update_freq == 0:
            file = self._file("train")
            if self.write_steps_per_second:
                speed = 1.0 / max(time.perf_counter() - self._begun, 1e-9)
                file.scalar("batch_steps_per_second", speed, self._batch)
            _write(file, "batch_{}", logs, self._batch)
        if self._profile is not None and self._batch >= self._profiled[1]:
            dict(logs or {})  # waits until the device has done what is profiled
            self._stop_profile()

    def on_test_end(self, logs: Any = None) -> None:
        """Write what was evaluated, by the optimizer's iterations."""
        if self.model.optimizer is not None:
            steps = int(self.model.optimizer.iterations.numpy())
            _write(self._file("validation"), "evaluation_{}_vs_iterations", logs, steps)
        self._flush()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note when it begins."""
        if self.write_steps_per_second:
            self._iterations = self._steps()
            self._epoch_begun = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write losses and metrics, and weights after so many epochs."""
        logs = dict(logs or {})
        validation = {k: v for k, v in logs.items() if k.startswith("val_")}
        training = {k: v for k, v in logs.items() if k not in validation} | self._rates()
        if self.write_steps_per_second:
            seconds = time.perf_counter() - self._epoch_begun
            training["steps_per_second"] = (self._steps() - self._iterations) / seconds
        if logs:
            _write(self._file("train"), "epoch_{}", training, epoch)
        if validation:
            validation = {k.removeprefix("val_"): v for k, v in validation.items()}
            _write(self._file("validation"), "epoch_{}", validation, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            self._write_weights(epoch)
        if self.embeddings_freq and epoch % self.embeddings_freq == 0:
            self._write_embeddings(epoch)
        self._flush()

    def on_train_end(self, logs: Any = None) -> None:
        """Write what is left, and end a profile that was not at its end."""
        self._stop_profile()
        self._flush()

    def _steps(self) -> int:
        optimizer = self.model.optimizer
        return self._batch if optimizer is None else int(optimizer.iterations.numpy())

    def _rates(self) -> dict[str, float]:
        """Return the learning rate, or that of each of several optimizers."""
        optimizer = self.model.optimizer
        return {} if optimizer is None else learning_rates(optimizer)

    def _stop_profile(self) -> None:
        profile, self._profile = self._profile, None
        if profile is not None:
            profile.close()

    # -- weights ------------------------------------------------------------------------------

    def _write_weights(self, epoch: int) -> None:
        file = self._file("train")
        for layer in self.model.layers:
            for weight in layer.weights:
                values, name = weight.numpy(), weight.path.replace(":", "_")
                file.histogram(f"{name}/histogram", values, epoch)
                images = _as_images(values) if self.write_images else None
                if images is not None:
                    file.images(f"{name}/image", images, epoch)

    def _embeddings(self) -> list[Embedding]:
        return [layer for layer in self.model.layers if isinstance(layer, Embedding)]

    def _check_metadata(self) -> None:
        if self.embeddings_metadata is None or isinstance(self.embeddings_metadata, str):
            return
        names = [layer.name for layer in self._embeddings()]
        unknown = sorted(set(self.embeddings_metadata) - set(names))
        if unknown:
            raise ValueError(
                f"embeddings_metadata must name Embedding layers, which are {names}, got {unknown}."
            )

    def _write_embeddings(self, epoch: int) -> None:
        """Write the tables, and the file that tells TensorBoard's projector where they are."""
        blocks = []
        for layer in self._embeddings():
            path = Path("train", f"{layer.name}-{epoch}.tsv")
            place = Path(self.log_dir, path)
            place.parent.mkdir(parents=True, exist_ok=True)
            np.savetxt(place, layer.embeddings.numpy(), "%.8g", delimiter="\t")
            labels = self.embeddings_metadata
            fields = {
                "tensor_name": layer.embeddings.path, "tensor_path": path.as_posix(),
                "metadata_path": labels.get(layer.name) if isinstance(labels, dict) else labels,
            }  # fmt: skip
            lines = [f"  {k}: {json.dumps(str(v))}" for k, v in fields.items() if v is not None]
            blocks.append("\n".join(["embeddings {", *lines, "}\n"]))
        Path(self.log_dir, "projector_config.pbtxt").write_text("".join(blocks))


def _range_of(profile_batch: Any) -> tuple[int, int] | None:
    """Return the first and the last batch that is profiled; None for none."""
    batches = profile_batch
    if isinstance(batches, str):
        batches = [int(x) if x.strip().isdigit() else -1 for x in batches.split(",")]
        batches = batches[0] if len(batches) == 1 else batches
    pair = isinstance(batches, tuple | list) and len(batches) == 2
    first, last = batches if pair else (batches, batches)
    if not isinstance(first, int) or not isinstance(last, int) or first < 0 or last < first:
        raise ValueError(
            "profile_batch must be a non-negative int, or the first and the last batch, got "
            f"{profile_batch!r}."
        )
    return (max(first, 1), last) if last else None


def _write(file: EventFile, pattern: str, logs: Any, step: int) -> None:
    """Write each value of logs, and each element of those that are arrays."""
    for name, value in (logs or {}).items():
        values = np.asarray(value)
        for index in np.ndindex(values.shape):
            tag = pattern.format("_".join([name, *map(str, index)]))
            file.scalar(tag, values[index], step)


def _as_images(weight: np.ndarray) -> np.ndarray | None:
    """Return a weight as (images, height, width, channels); None where it is no image."""
    weight = weight.squeeze()
    if weight.ndim == 1:  # a bias
        weight = weight[None, :, None, None]
    elif weight.ndim == 2:  # the kernel of a Dense layer, lying
        weight = (weight.T if weight.shape[0] > weight.shape[1] else weight)[None, ..., None]
    elif weight.ndim == 3:  # an image for each kernel
        last = config.image_data_format() == "channels_last"
        weight = (weight.transpose(2, 0, 1) if last else weight)[..., None]
    return weight if weight.ndim == 4 and weight.shape[-1] in (1, 3, 4) else None
