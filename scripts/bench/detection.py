"""Benchmark YOLOv8: a picture in, boxes out, against ONNX Runtime, OpenVINO and torch's eager mode.

Random weights, pictures of 720 x 1280 at 640; the rivals run the same network, written in plain
torch for the tests, between our letterbox and our selection of boxes. Also non-maximum suppression
of 8,400 candidates, and a step of training against a loop of torch. Ratios of one run.

    python scripts/bench/detection.py [--rounds 5] [--size 640] [--networks n s] [--batches 1 8]
"""

import argparse
import importlib.util
import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import KERNELS, bare_kernels, in_process, interleaved, ratio, report

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "support"))
BACKENDS = ("torch", "jax", "tensorflow")
CLASSES = 80
# Of the network's: what is behind convolutions, sums and maxima are kernels of torch, too.
NETWORK_KERNELS = (*KERNELS, "::cat", "::add", "::clone", "max_pool2d")
generator = np.random.default_rng(0)


def pictures(count: int) -> list[np.ndarray]:
    """Pictures of a camera."""
    return list(generator.integers(0, 256, (count, 720, 1280, 3), "uint8"))


def ours(network: str, backend: str, size: int):
    """Our detector."""
    import hub
    import keraslite as keras
    from hub.models.yolo_v8 import SIZES

    keras.use_backend(backend)
    keras.utils.set_random_seed(0)
    sizes = dict(SIZES[network])
    depth = sizes.pop("fpn_depth")
    return hub.YOLOV8Detector(
        hub.YOLOV8Backbone(**sizes), CLASSES, preprocessor=hub.DetectionPreprocessor(size),
        fpn_depth=depth,
    )  # fmt: skip


def plain(network: str):
    """The same network in plain torch, channels last."""
    import torch
    from yolo_reference import YOLOv8

    from hub.models.yolo_v8 import SIZES

    sizes = SIZES[network]
    model = YOLOv8(
        sizes["stackwise_channels"], sizes["stackwise_depth"], CLASSES, sizes["fpn_depth"]
    )
    return model.eval().to(memory_format=torch.channels_last)


# -- networks, as functions of inputs (batch, height, width, 3) ------------------------------------


def outputs_of_torch(model, batch: int, size: int) -> Callable:
    """The network in torch's eager mode."""
    import torch

    def run(inputs):
        with torch.inference_mode():
            return {
                name: x.numpy()
                for name, x in model(torch.from_numpy(inputs).permute(0, 3, 1, 2)).items()
            }

    return run


def outputs_of_onnx(model, batch: int, size: int) -> Callable:
    """The network in ONNX Runtime."""
    import onnxruntime
    import torch

    file, example = io.BytesIO(), torch.zeros(batch, 3, size, size)
    torch.onnx.export(
        _tuple_of(model), (example,), file, dynamo=False, input_names=["images"],
        output_names=["boxes", "classes"],
    )  # fmt: skip
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])

    def run(inputs):
        first = np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))
        return dict(zip(("boxes", "classes"), session.run(None, {"images": first}), strict=True))

    return run


def outputs_of_openvino(model, batch: int, size: int) -> Callable:
    """The network in OpenVINO, in float32."""
    import openvino as ov
    import torch

    converted = ov.convert_model(_tuple_of(model), example_input=torch.zeros(batch, 3, size, size))
    compiled = ov.compile_model(
        converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    )

    def run(inputs):
        out = compiled(np.ascontiguousarray(inputs.transpose(0, 3, 1, 2)))
        return {"boxes": out[0], "classes": out[1]}

    return run


def _tuple_of(model):
    """The network with a tuple for a dict."""
    import torch

    class Outputs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, images):
            out = self.model(images)
            return out["boxes"], out["classes"]

    return Outputs().eval()


RIVALS = {
    "torch eager": (outputs_of_torch, "torch", "1.5"),
    "ONNX Runtime": (outputs_of_onnx, "onnxruntime", "1.0"),
    "OpenVINO": (outputs_of_openvino, "openvino", "0.9"),
}


# -- figures --------------------------------------------------------------------------------------


def predict(network: str, backend: str, batch: int, size: int, rounds: int) -> None:
    """Our `predict` in turns with the rivals' networks between the same letterbox and selection."""
    import keraslite as keras
    from hub.detection.decoding import decode_detections

    detector, images = ours(network, backend, size), pictures(batch)

    def whole(outputs_of: Callable) -> Callable:
        def run():
            inputs, _ = detector.preprocessor(images)
            with keras.use_backend("numpy"):
                return decode_detections(outputs_of(inputs), size, size)

        return run

    runs = {"ours": lambda: detector.predict(images, batch_size=batch)}
    for name, (make, module, _) in RIVALS.items():
        if importlib.util.find_spec(module):
            runs[name] = whole(make(plain(network), batch, size))
    if backend == "torch":
        inputs, _ = detector.preprocessor(images)
        outputs = detector.predict_on_batch(inputs)
        kernels = bare_kernels(lambda: detector.predict_on_batch(inputs), NETWORK_KERNELS)
        runs["kernels"] = whole(lambda inputs: kernels() or outputs)
    medians = interleaved(runs, rounds)
    if "kernels" in medians:
        share = medians.pop("kernels") / medians["ours"]
        report(f"YOLOv8{network} batch {batch}: share of torch's kernels alone", share, "x speed",
               ">= 0.9")  # fmt: skip
    for name in medians.keys() - {"ours"}:
        goal = RIVALS[name][2]
        report(f"YOLOv8{network} batch {batch}: keraslite on {backend} / {name}",
               medians[name] / medians["ours"], "x speed", f">= {goal}",
               pictures_per_s=round(batch / medians["ours"], 2))  # fmt: skip


def suppression(rounds: int) -> None:
    """Boxes, classes and confidences out of 8,400 candidates of 80 classes."""
    import keraslite as keras
    from keraslite.utils.bounding_boxes import non_max_suppression

    centers = generator.uniform(0, 640, (1, 8400, 2)).astype("float32")
    sizes = generator.uniform(10, 200, (1, 8400, 2)).astype("float32")
    boxes = np.concatenate([centers - sizes / 2, centers + sizes / 2], -1)
    scores = generator.beta(0.1, 8, (1, 8400, CLASSES)).astype("float32")
    with keras.use_backend("numpy"):
        seconds = interleaved({"ours": lambda: non_max_suppression(boxes, scores)}, 5 * rounds)
    report("suppression of 8,400 candidates", 1000 * seconds["ours"], "ms", "<= 2")


def step(network: str, batch: int, size: int, rounds: int) -> None:
    """A step of training on torch, in turns with a loop of the plain network and our losses."""
    import torch

    import keraslite as keras
    from hub.detection.anchors import anchor_points
    from hub.detection.losses import detection_losses

    detector = ours(network, "torch", size)
    detector.compile(keras.optimizers.SGD(1e-3, momentum=0.9))
    x = generator.random((batch, size, size, 3), "float32")
    corner = generator.uniform(0, size / 2, (batch, 8, 2))
    boxes = np.concatenate([corner, corner + generator.uniform(20, size / 2, (batch, 8, 2))], -1)
    y = {"boxes": boxes.astype("float32"), "labels": generator.integers(0, CLASSES, (batch, 8))}
    model = plain(network).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    images = torch.from_numpy(x).permute(0, 3, 1, 2)
    targets = {name: torch.from_numpy(value) for name, value in y.items()}
    grid = anchor_points(size, size)

    def loop():
        optimizer.zero_grad()
        loss = sum(detection_losses(model(images), targets, *grid).values())
        loss.backward()
        optimizer.step()
        return loss.item()

    speed, medians = ratio({"ours": lambda: detector.train_on_batch(x, y), "torch": loop}, rounds)
    report(f"YOLOv8{network} step of {batch}: keraslite on torch / torch eager", speed, "x speed",
           ">= 1.0", pictures_per_s=round(batch / medians["ours"], 2))  # fmt: skip


def main() -> None:
    """Run everything, each figure in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--networks", nargs="+", default=["n", "s"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS))
    parser.add_argument("--only", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        name, *rest = args.only
        if name == "predict":
            predict(rest[0], rest[1], int(rest[2]), args.size, args.rounds)
        elif name == "suppression":
            suppression(args.rounds)
        else:
            step(rest[0], int(rest[1]), args.size, args.rounds)
        return
    settings = ["--rounds", str(args.rounds), "--size", str(args.size), "--only"]
    in_process([__file__, *settings, "suppression"])
    for network in args.networks:
        for batch in args.batches:
            for backend in args.backends:
                in_process([__file__, *settings, "predict", network, backend, str(batch)])
    for network in args.networks:
        in_process([__file__, *settings, "step", network, "8"])


if __name__ == "__main__":
    main()
