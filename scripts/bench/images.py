"""Benchmark image classifiers: torch's eager models with channels last, Keras, OpenVINO.

`predict` of ResNet50 and ViT-B/16 on ready arrays at batch 1 and 8, a step of training ResNet50 at
batch 16, and loading a checkpoint, with random weights. Ratios of one run; OpenVINO where it is
installed.

    python scripts/bench/images.py [--rounds 5] [--size 224]
"""

import argparse
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from common import bare_kernels, in_process, interleaved, ratio, report

BACKENDS = ("torch", "jax", "tensorflow")
NETWORKS = ("ResNet50", "ViT-B/16")
VIT = {"num_layers": 12, "num_heads": 12, "hidden_dim": 768}  # and four times that inside
generator = np.random.default_rng(0)


def pictures(batch: int, size: int) -> np.ndarray:
    """Ready images."""
    return generator.normal(size=(batch, size, size, 3)).astype("float32")


def classes(batch: int) -> np.ndarray:
    """Labels."""
    return generator.integers(0, 1000, batch).astype("int32")


# -- the models -----------------------------------------------------------------------------------


def backbone_of(network: str, size: int):
    """A backbone with random weights."""
    import hub

    if network == "ResNet50":
        return hub.ResNetBackbone()
    return hub.ViTBackbone(
        **VIT, intermediate_dim=3072, image_size=size, patch_size=16, layer_norm_epsilon=1e-6
    )


def ours(network: str, backend: str, size: int):
    """Our classifier of 1000 classes, loaded from a checkpoint."""
    import hub
    import keraslite as keras

    keras.use_backend(backend)
    backbone = backbone_of(network, size)
    with tempfile.TemporaryDirectory() as folder:
        backbone.save_to_preset(folder)
        backbone = type(backbone).from_preset(folder, backend=backend)
    model = hub.ImageClassifier(backbone, 1000)
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), "sparse_categorical_crossentropy")
    return model


def of_keras(network: str, size: int):
    """Keras's ResNet50, which has biases; KerasHub's ViT."""
    import keras

    if network == "ResNet50":
        model = keras.applications.ResNet50(weights=None, input_shape=(size, size, 3))
    else:
        import keras_hub

        backbone = keras_hub.models.ViTBackbone((size, size, 3), 16, **VIT, mlp_dim=3072)
        out = keras.layers.Dense(1000, activation="softmax")(backbone.output[:, 0])
        model = keras.Model(backbone.input, out)
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), "sparse_categorical_crossentropy")
    return model


def of_torch(network: str, size: int):
    """The model of transformers, whose ResNet50 is timm's and torchvision's, channels last."""
    import torch
    import transformers

    torch.manual_seed(0)
    labels = {i: str(i) for i in range(1000)}
    if network == "ResNet50":
        model = transformers.ResNetForImageClassification(
            transformers.ResNetConfig(id2label=labels)
        )
    else:
        config = transformers.ViTConfig(image_size=size, id2label=labels)
        model = transformers.ViTForImageClassification(config)
    return model.to(memory_format=torch.channels_last)


def channels_first(x: np.ndarray):
    """Images as a torch tensor, channels last in memory."""
    import torch

    return torch.from_numpy(x).permute(0, 3, 1, 2)


# -- predict --------------------------------------------------------------------------------------


def eager(model, x: np.ndarray) -> Callable[[], object]:
    """A call of a torch model."""
    import torch

    images = channels_first(x)
    model.eval()

    def run():
        with torch.inference_mode():
            return model(images).logits.softmax(-1).numpy()

    return run


def openvino(model, x: np.ndarray) -> Callable[[], object]:
    """A call of a torch model that OpenVINO compiled, in float32."""
    import openvino as ov
    import torch

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, images):
            return self.model(images).logits.softmax(-1)

    images = channels_first(x).contiguous()
    converted = ov.convert_model(Logits().eval(), example_input=images)
    compiled = ov.compile_model(
        converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    )
    array = images.numpy()
    return lambda: compiled(array)[0]


def predict(network: str, backend: str, batch: int, size: int, rounds: int) -> None:
    """Our `predict`, in turns with torch's own model, and with OpenVINO's."""
    x = pictures(batch, size)
    model, theirs = ours(network, backend, size), of_torch(network, size)
    runs = {"ours": lambda: model.predict(x, batch_size=batch, verbose=0)}
    runs["torch"] = eager(theirs, x)
    if backend == "torch":
        runs["kernels"] = bare_kernels(lambda: model.predict_on_batch(x))
    if importlib.util.find_spec("openvino"):
        runs["openvino"] = openvino(theirs, x)
    medians = interleaved(runs, rounds)
    name = f"{network} batch {batch}: keraslite on {backend}"
    report(f"{name} / torch eager", medians["torch"] / medians["ours"], "x speed",
           ">= 1.5" if backend == "torch" else "",
           images_per_s=round(batch / medians["ours"], 2))  # fmt: skip
    if "kernels" in medians:
        share = medians["kernels"] / medians["ours"]
        report(f"{name}: share of the kernels alone", share, "x speed", ">= 0.9")
    if "openvino" in medians:
        report(f"{name} / OpenVINO", medians["openvino"] / medians["ours"], "x speed",
               ">= 0.9 on the best backend")  # fmt: skip


# -- training -------------------------------------------------------------------------------------


def step(backend: str, batch: int, size: int, rounds: int) -> None:
    """A step of fine-tuning all of ResNet50, on torch in turns with torch's eager loop."""
    x, y = pictures(batch, size), classes(batch)
    model = ours("ResNet50", backend, size)
    runs = {"ours": lambda: model.train_on_batch(x, y)}
    if backend != "torch":
        seconds = interleaved(runs, rounds)["ours"]
        report(f"ResNet50 step on {backend}", batch / seconds, "images/s")
        return
    import torch

    theirs = of_torch("ResNet50", size).train()
    optimizer = torch.optim.SGD(theirs.parameters(), 1e-3, momentum=0.9)
    images, labels = channels_first(x), torch.from_numpy(y).long()

    def loop():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(theirs(images).logits, labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    found, medians = ratio(runs | {"torch": loop}, rounds)
    report("ResNet50 step: keraslite on torch / torch eager", found, "x speed", ">= 1.0",
           images_per_s=round(batch / medians["ours"], 2))  # fmt: skip


# -- loading --------------------------------------------------------------------------------------


def variables_by_hand(backend: str, file: Path) -> list:
    """The framework's variables of a file of kernels, with the library of the format.

    Where steps are compiled, kernels are copied into the order of our axes as fast as we can.
    """
    if backend == "torch":
        import safetensors.torch
        import torch

        return [torch.nn.Parameter(x) for x in safetensors.torch.load_file(file).values()]
    import safetensors.numpy

    from keraslite.backend.memory import owned

    tensors = [
        owned(x.transpose((*range(2, x.ndim), 1, 0)), x.dtype) if x.ndim > 1 else x
        for x in safetensors.numpy.load_file(file).values()
    ]
    if backend == "jax":
        import jax.numpy as jnp

        return [jnp.from_dlpack(x) if x.ndim > 1 else jnp.asarray(x) for x in tensors]
    import tensorflow as tf

    return [tf.Variable(x) for x in tensors]


def load(network: str, backend: str, size: int, rounds: int) -> None:
    """Load a checkpoint whose file is in the system's cache; to build the network is apart."""
    import keraslite as keras

    keras.use_backend(backend)
    backbone = backbone_of(network, size)
    with tempfile.TemporaryDirectory() as folder:
        backbone.save_to_preset(folder)
        file = Path(folder, "model.safetensors")

        def whole():
            loaded = type(backbone).from_preset(folder, backend=backend)
            return [weight.value for weight in loaded.weights]

        runs = {
            "read": file.read_bytes,
            "by_hand": partial(variables_by_hand, backend, file),
            "build": lambda: backbone_of(network, size).weights,
            "whole": whole,
        }
        medians = interleaved(runs, rounds, collect=True)
        loading = medians["whole"] - medians["build"]
        milliseconds = {f"{name}_ms": round(1e3 * value, 1) for name, value in medians.items()}
        name = f"{network} on {backend}: loading its weights"
        report(f"{name} / reading the file", loading / medians["read"], "x time", "<= 1.3",
               **milliseconds)  # fmt: skip
        report(f"{name} / reading them by hand", loading / medians["by_hand"], "x time", "<= 1.1")


# -- against Keras --------------------------------------------------------------------------------


def rate(which: str, backend: str, work: str, network: str, batch: int, size: int, rounds: int):
    """Images per second of Keras or of ours, in a process of its own."""
    os.environ["KERAS_BACKEND"] = backend
    model = of_keras(network, size) if which == "keras" else ours(network, backend, size)
    x, y = pictures(batch, size), classes(batch)
    if work == "predict":
        run = partial(model.predict, x, batch_size=batch, verbose=0)
    else:
        run = partial(model.train_on_batch, x, y)
    seconds = interleaved({"model": run}, rounds)["model"]
    report(f"{network} {work} batch {batch} with {which} on {backend}", batch / seconds, "images/s")


def main() -> None:
    """Run everything, each figure in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="WHAT")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    parser.add_argument("--batch", type=int, default=16, help="images of a training step")
    options = parser.parse_args()
    size, rounds = options.size, options.rounds
    if options.only:
        what, *rest = options.only
        if what == "predict":
            network, backend, batch = rest
            predict(network, backend, int(batch), size, rounds)
        elif what == "load":
            load(*rest, size, 3 * rounds)
        elif what == "step":
            step(rest[0], options.batch, size, rounds)
        else:
            which, backend, work, network, batch = rest
            rate(which, backend, work, network, int(batch), size, rounds)
        return
    script = [sys.argv[0], "--rounds", str(rounds), "--size", str(size), "--batch",
              str(options.batch), "--only"]  # fmt: skip
    if not importlib.util.find_spec("openvino"):
        print("OpenVINO is not installed: pip install openvino to compare with it.")
    for network in NETWORKS:
        for batch in (1, 8):
            for backend in BACKENDS:
                in_process([*script, "predict", network, backend, str(batch)])
    in_process([*script, "step", "torch"])
    for network in NETWORKS:
        for backend in BACKENDS:
            in_process([*script, "load", network, backend])
    work = [("predict", network, batch) for network in NETWORKS for batch in (1, 8)]
    for backend in BACKENDS:
        for what, network, batch in [*work, ("train", "ResNet50", options.batch)]:
            arguments = [backend, what, network, str(batch)]
            rates = [in_process([*script, "rate", which, *arguments])
                     for which in ("keraslite", "keras")]  # fmt: skip
            if all(rates):
                found = rates[0][-1]["value"] / rates[1][-1]["value"]
                report(f"{network} {what} batch {batch} on {backend}: keraslite / Keras", found,
                       "x speed", "> 1")  # fmt: skip


if __name__ == "__main__":
    main()
