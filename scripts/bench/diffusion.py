"""Benchmark Stable Diffusion 1.5, with random weights, against diffusers on torch.

A step of the U-Net at 512x512 with guidance, decoding an image, loading the networks. Ratios of one
run; diffusers has channels last, its better setting on a CPU.
"""

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from common import in_process, loading, peak_memory, ratio, report

BACKENDS = ("torch", "jax", "tensorflow")
DTYPES = ("float32", "bfloat16")
generator = np.random.default_rng(0)
LATENTS = generator.normal(size=(2, 64, 64, 4)).astype("float32")
# In bytes: the feed-forward network's inside at 64x64, and 256 channels at 512x512.
_LARGEST = {"unet": 2 * 64 * 64 * 2560 * 4, "vae": 512 * 512 * 256 * 4}
CONTEXT = generator.normal(size=(2, 77, 768)).astype("float32")


def make(folder: Path) -> None:
    """The networks, as diffusers writes them."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import diffusers

    torch.manual_seed(0)
    diffusers.UNet2DConditionModel(
        sample_size=64, cross_attention_dim=768, attention_head_dim=8
    ).save_pretrained(folder / "unet")
    diffusers.AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    ).save_pretrained(folder / "vae")  # fmt: skip


def network(which: str, dtype: str, folder: Path) -> None:
    """Seconds of one call, ours against diffusers'."""
    import diffusers
    import torch

    import hub
    import keraslite as keras

    keras.use_backend("torch")
    kind = getattr(torch, dtype)
    name = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}[which]
    model = getattr(hub, name).from_preset(folder / which, dtype=dtype)
    theirs = getattr(diffusers, name).from_pretrained(folder / which, torch_dtype=kind).eval()
    theirs = theirs.to(memory_format=torch.channels_last)
    last = torch.from_numpy(LATENTS[: 2 if which == "unet" else 1]).to(kind)
    first = last.permute(0, 3, 1, 2).to(memory_format=torch.channels_last)
    context = torch.from_numpy(CONTEXT).to(kind)

    def ours() -> None:
        if which == "unet":
            return model({"latents": last, "timestep": 500, "context": context})
        return model.decode(last)

    def other() -> None:
        if which == "unet":
            return theirs(first, torch.tensor(500), context).sample
        return theirs.decode(first).sample

    with torch.no_grad():
        apart = (ours().float() - other().permute(0, 2, 3, 1).float()).abs().max()
        found, medians = ratio({"ours": ours, "theirs": other}, rounds=1)
    report(f"{which} in {dtype}: keraslite's time / diffusers'", 1 / found, "x time", "<= 0.7",
           seconds=round(medians["ours"], 2), apart=round(float(apart), 5))  # fmt: skip


def memory(which: str, folder: Path) -> None:
    """What one call needs beside what is imported, against the weights and one activation."""
    import torch

    import hub
    import keraslite as keras

    keras.use_backend("torch")
    path, small = folder / which, {"block_out_channels": (32, 32, 32, 32)}
    with torch.no_grad():  # what a first call imports
        if which == "unet":
            model = hub.UNet2DConditionModel(**small)
            model({"latents": LATENTS, "timestep": 500, "context": CONTEXT})
        else:
            hub.AutoencoderKL(**small).decode(LATENTS[:1])
    before = peak_memory()
    with torch.no_grad():
        if which == "unet":
            model = hub.UNet2DConditionModel.from_preset(path)
            model({"latents": LATENTS, "timestep": 500, "context": CONTEXT})
            read = [model]
        else:
            model = hub.AutoencoderKL.from_preset(path)
            model.decode(LATENTS[:1])
            read = [model.decoder, model.post_quant_conv]
    weights = 4 * sum(layer.count_params() for layer in read)
    report(f"{which}: memory of a call / weights and largest activation",
           (peak_memory() - before) / (weights + _LARGEST[which]), "x", "<= 1.1")  # fmt: skip


def load(backend: str, folder: Path) -> None:
    """Both networks."""
    import hub
    import keraslite as keras

    keras.use_backend(backend)
    hub.AutoencoderKL.from_preset(folder / "vae").weights[0].numpy()  # what is imported
    networks = {"unet": hub.UNet2DConditionModel, "vae": hub.AutoencoderKL}
    loading(
        f"the networks on {backend}",
        [folder / name / "diffusion_pytorch_model.safetensors" for name in networks],
        lambda: [kind.from_preset(folder / name) for name, kind in networks.items()], "<= 1.1", 3,
    )  # fmt: skip


def main() -> None:
    """Runs everything, each figure in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="WHAT")
    only = parser.parse_args().only
    if only:
        what, *rest = only
        folder = Path(rest.pop())
        if what == "make":
            make(folder)
        elif what == "memory":
            memory(rest[0], folder)
        elif what == "loading":
            load(rest[0], folder)
        else:
            network(what, rest[0], folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        script = [sys.argv[0], "--only"]
        in_process([*script, "make", folder])
        for which in ("unet", "vae"):
            for dtype in DTYPES:
                in_process([*script, which, dtype, folder])
            in_process([*script, "memory", which, folder])
        for backend in BACKENDS:
            in_process([*script, "loading", backend, folder])


if __name__ == "__main__":
    main()
