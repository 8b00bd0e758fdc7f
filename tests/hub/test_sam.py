"""Segment Anything against transformers: the parts, all prompts, and files of both layouts."""

import json
import math
import re
import tracemalloc
from functools import partial

import compare
import numpy as np
import pytest
import torch
import transformers
from sam_checkpoints import SHAPES, authors_tensors, config_of_sam, tiny_sam
from torch.nn import functional as F

import hub
import keraslite as keras
from hub.cli import main
from hub.families import family_of
from hub.models.sam_encoder import join_windows, linear_weights, partition_windows
from hub.presets.build import arguments
from hub.presets.table import preset_row
from keraslite import ops

assert_close = partial(compare.assert_close, rtol=1e-4, atol=1e-5, share=1e-5)
COUNTS = {"base": 93_735_728, "large": 312_343_088, "huge": 641_090_864}
rng = np.random.default_rng(0)
SIZE = 80  # of the images of "fills"
POINTS = rng.uniform(0, SIZE, (2, 3, 2, 2)).astype("float32")
LABELS = np.array([[[1, 0], [1, -1], [-10, 1]], [[0, 0], [1, 1], [-1, 0]]])
BOXES = np.sort(rng.uniform(0, SIZE, (2, 3, 2, 2)), axis=2).astype("float32")
MASKS = rng.normal(size=(2, 1, 40, 40, 1)).astype("float32")
PROMPTS = {
    "points": {"points": POINTS, "labels": LABELS},
    "boxes": {"boxes": BOXES},
    "points and boxes": {"points": POINTS, "labels": LABELS, "boxes": BOXES},
    "points and masks": {"points": POINTS, "labels": LABELS, "masks": MASKS},
    "boxes and masks": {"boxes": BOXES, "masks": MASKS},
    "masks": {"masks": MASKS},
}


def images(size, count=2):
    return np.random.default_rng(1).normal(size=(count, size, size, 3)).astype("float32")


def channels_first(x):
    return torch.from_numpy(x).permute(0, 3, 1, 2)


def our_prompts(prompts):
    """Prompts as our model takes them: each set of transformers has one box."""
    return {k: v[:, :, None] if k == "boxes" else v for k, v in prompts.items()}


@torch.no_grad()
def their_answer(model, pixels, prompts, multimask=True):
    """(masks, scores) of transformers, (batch, sets, masks, ...)."""
    points, labels, boxes, masks = (
        None if prompts.get(name) is None else torch.from_numpy(prompts[name])
        for name in ("points", "labels", "boxes", "masks")
    )
    out = model(
        channels_first(pixels), points, labels, None if boxes is None else boxes.flatten(2),
        None if masks is None else masks[:, 0].permute(0, 3, 1, 2), multimask_output=multimask,
    )  # fmt: skip
    return {"masks": out.pred_masks, "iou_pred": out.iou_scores}


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """(a checkpoint, the model of transformers, images)."""
    folder = tmp_path_factory.mktemp("sam")
    return folder, tiny_sam(folder), images(SIZE)


@pytest.mark.parametrize("shape", SHAPES)
def test_embeddings_of_images(backend, shape, tmp_path):
    theirs = tiny_sam(tmp_path / "a", shape)
    pixels = images(SHAPES[shape]["image_size"])
    with torch.no_grad():
        expected = theirs.vision_encoder(channels_first(pixels), output_hidden_states=True)
    model = hub.ViTDetBackbone.from_preset(tmp_path / "a")  # out of the file of all parts
    out = model(pixels, output_hidden_states=True)
    assert_close(out["sequence_output"], expected.last_hidden_state.permute(0, 2, 3, 1))
    # Of transformers each state but the first is that before its layer, or the last one's output.
    for ours, state in zip(out["hidden_states"][1:], expected.hidden_states[1:], strict=False):
        assert_close(ours, state)
    model.save_to_preset(tmp_path / "b")
    again, loading = transformers.SamVisionModel.from_pretrained(
        tmp_path / "b", output_loading_info=True
    )
    assert not any(loading.values())
    with torch.no_grad():
        assert_close(
            again.eval()(channels_first(pixels)).last_hidden_state, expected.last_hidden_state
        )


def test_the_first_blocks_alone(reference):
    """As of other backbones, a smaller `num_layers` takes the first blocks of the checkpoint."""
    folder, _, pixels = reference
    whole, part = (
        hub.ViTDetBackbone.from_preset(folder, backend="torch", **n)
        for n in ({}, {"num_layers": 2})
    )
    expected = whole(pixels, output_hidden_states=True)["hidden_states"][2]
    assert len(part.blocks) == 2
    assert_close(part(pixels, output_hidden_states=True)["hidden_states"][-1], expected)


@pytest.mark.parametrize("kind", PROMPTS)
def test_masks_of_prompts(backend, kind, reference):
    folder, theirs, pixels = reference
    model, prompts = hub.SAMBackbone.from_preset(folder), PROMPTS[kind]
    embeddings = model.encode_images(pixels)
    single, several = (their_answer(theirs, pixels, prompts, many) for many in (False, True))
    expected = {name: torch.cat([single[name], several[name]], 2) for name in single}
    if kind == "masks":  # without an axis of sets
        expected = {name: value[:, 0] for name, value in expected.items()}
    out = model.decode(embeddings, our_prompts(prompts), pad_points=True)
    assert_close(dict(out), expected)
    if kind == "boxes":
        for multimask, some in ((False, single), (True, several)):
            assert_close(dict(model.decode(embeddings, our_prompts(prompts), multimask)), some)


def test_whole_model_as_keras_hub_has_it(backend, reference):
    """Without sets; callers add the point of training, and empty arrays stand for no prompts."""
    folder, theirs, pixels = reference
    model = hub.SAMBackbone.from_preset(folder)
    padded = np.concatenate([POINTS[:, 0], np.zeros((2, 1, 2), "float32")], axis=1)
    labels = np.concatenate([LABELS[:, 0], -np.ones((2, 1))], axis=1)
    inputs = {
        "images": pixels, "points": padded, "labels": labels,
        "boxes": np.zeros((2, 0, 2, 2), "float32"), "masks": np.zeros((2, 0, 40, 40, 1), "float32"),
    }  # fmt: skip
    prompts = {"points": POINTS[:, :1], "labels": LABELS[:, :1]}
    expected = their_answer(theirs, pixels, prompts)
    out = model(inputs)
    assert_close(out["masks"][:, 1:], expected["masks"][:, 0])
    assert_close(out["iou_pred"][:, 1:], expected["iou_pred"][:, 0])
    # Prompts of one image as rows of a batch.
    first = model.encode_images(pixels[:1])
    rows = {"points": POINTS[0], "labels": LABELS[0]}
    sets = model.decode(first, {name: value[None] for name, value in rows.items()})
    assert_close(model.decode(first, rows), {name: value[0] for name, value in sets.items()})


def test_compiled(trains, reference):
    """A compiled function of images, and one of prompts, give what they give uncompiled."""
    folder, theirs, pixels = reference
    model = hub.SAMBackbone.from_preset(folder)
    embeddings = keras.jit(model.encode_images)(pixels)
    decode = keras.jit(partial(model.decode, multimask_output=True, pad_points=True))
    out = decode(embeddings, PROMPTS["points"])
    assert_close(dict(out), their_answer(theirs, pixels, PROMPTS["points"]))


@pytest.mark.parametrize("boxes", [None, BOXES[:, :, None]])
def test_points_that_fill_up_change_nothing(backend, boxes, reference):
    folder, _, pixels = reference
    model = hub.SAMBackbone.from_preset(folder)
    embeddings = model.encode_images(pixels)
    extra = {} if boxes is None else {"boxes": boxes}
    prompts = {"points": POINTS, "labels": LABELS, "padding_mask": np.ones((2, 3, 2), bool)}
    prompts["padding_mask"][:, 1:, 1] = False
    out = model.decode(embeddings, {**prompts, **extra}, pad_points=True)
    alone = model.decode(
        embeddings,
        {"points": POINTS[:, 1:, :1], "labels": LABELS[:, 1:, :1],
         **{name: value[:, 1:] for name, value in extra.items()}},
        pad_points=True,
    )  # fmt: skip
    assert_close({name: value[:, 1:] for name, value in out.items()}, dict(alone))
    full = model.decode(embeddings, {**PROMPTS["points"], **extra}, pad_points=True)
    assert_close({k: v[:, 0] for k, v in out.items()}, {k: v[:, 0] for k, v in full.items()})
    assert np.abs(compare.to_numpy(out["masks"] - full["masks"])[:, 1:]).max() > 1e-2


def test_images_of_another_size(backend, tmp_path):
    """Positions are interpolated: embeddings of them bicubically, relative ones linearly."""
    theirs, encoder_config = tiny_sam(tmp_path), config_of_sam().vision_config
    size = 112
    pixels, encoder = images(size, 1), theirs.vision_encoder
    encoder.patch_embed.image_size = (size, size)
    with torch.no_grad():
        positions = encoder.pos_embed.permute(0, 3, 1, 2)
        grid = size // encoder_config.patch_size
        resized = F.interpolate(positions, size=(grid, grid), mode="bicubic").permute(0, 2, 3, 1)
        encoder.pos_embed = torch.nn.Parameter(resized)
        expected = encoder(channels_first(pixels)).last_hidden_state.permute(0, 2, 3, 1)
        values = torch.randn(1, 1, 9)
        linear = F.interpolate(values, size=14, mode="linear")[0, 0]
    assert_close(linear_weights(9, 14) @ values[0, 0].numpy(), linear)
    model = hub.SAMBackbone.from_preset(tmp_path)
    embeddings = model.encode_images(pixels)
    assert_close(embeddings, expected)
    theirs.prompt_encoder.input_image_size = size
    theirs.prompt_encoder.image_embedding_size = (grid, grid)
    theirs.config.prompt_encoder_config.image_embedding_size = grid
    prompts = {"points": POINTS[:1], "labels": LABELS[:1]}
    assert_close(
        dict(model.decode(embeddings, prompts, True, pad_points=True)),
        their_answer(theirs, pixels, prompts),
    )


def test_saved_for_transformers(backend, reference, tmp_path):
    folder, theirs, pixels = reference
    hub.SAMBackbone.from_preset(folder).save_to_preset(tmp_path)
    again, loading = transformers.SamModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading.values())
    prompts = PROMPTS["points and masks"]
    compare.assert_close(
        their_answer(again.eval(), pixels, prompts), their_answer(theirs, pixels, prompts), 0, 0
    )
    saved, original = (json.loads((f / "config.json").read_text()) for f in (tmp_path, folder))
    for part in ("vision_config", "prompt_encoder_config", "mask_decoder_config"):
        for key in original[part].keys() - {"dtype"}:
            assert saved[part][key] == original[part][key], key


def test_a_file_of_the_authors(backend, tmp_path):
    """Eight heads and an epsilon of 1e-5 in the decoder, which the file does not tell."""
    theirs = tiny_sam(shape="fills", num_attention_heads=8, layer_norm_eps=1e-5)
    pixels, prompts = images(SIZE), PROMPTS["points and boxes"]
    torch.save(authors_tensors(theirs), tmp_path / "sam.pth")
    model = hub.SAMBackbone.from_preset(tmp_path / "sam.pth")
    inputs = {"images": pixels, **our_prompts(prompts)}
    expected = their_answer(theirs, pixels, prompts)
    assert_close(dict(model(inputs, multimask_output=True)), expected)
    model.save_to_preset(tmp_path / "saved")
    again = transformers.SamModel.from_pretrained(tmp_path / "saved").eval()
    assert_close(their_answer(again, pixels, prompts), expected)
    assert main(["convert", str(tmp_path / "sam.pth"), str(tmp_path / "converted")]) == 0
    again = hub.SAMBackbone.from_preset(tmp_path / "converted")
    assert_close(again.get_weights(), model.get_weights(), rtol=0, atol=0, share=0)


@pytest.mark.parametrize("size", COUNTS)
def test_parameters_are_those_of_the_published_sizes(size):
    """The matrix of the positional encodings counts once, and is not trained; nor are the biases of
    the three projections of the image to keys, which have no effect.
    """
    row = preset_row(f"sam_{size}_sa1b")
    with torch.device("meta"):
        theirs = transformers.SamModel(transformers.SamConfig(**row["config"]))
    assert sum(value.numel() for value in theirs.parameters()) == COUNTS[size] == row["parameters"]
    with keras.use_backend("torch"):
        model = hub.SAMBackbone(**arguments(family_of("sam"), row["config"]))
        assert model.count_params() == COUNTS[size]
        assert all(variable._raw is None for variable in model.weights)
        trained = sum(math.prod(v.shape) for v in model.trainable_weights)
        assert trained == COUNTS[size] - 2 * 128 - 3 * 128


def test_biases_of_a_whole_image_are_never_in_memory():
    """Of 64 x 64 positions they would take 134 MB, and the logits as much."""
    with keras.use_backend("numpy"):
        q, bias = np.ones((1, 4096, 2, 4), "float32"), np.ones((1, 2, 4096, 64), "float32")
        tracemalloc.start()
        ops.grid_attention(q, q, q, bias, bias)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 80e6  # of 2**22 pairs at once, of which there are four arrays


def test_gradients_reach_the_decoder(trains, reference):
    """Those of transformers, for weights that our decoder multiplies in another order."""
    folder, theirs, pixels = reference
    theirs = transformers.SamModel.from_pretrained(folder)
    prompts = PROMPTS["points"]
    out = theirs(channels_first(pixels), *(torch.from_numpy(x) for x in prompts.values()))
    (out.pred_masks.square().mean() + out.iou_scores.mean()).backward()
    model = hub.SAMBackbone.from_preset(folder)
    embeddings = ops.convert_to_tensor(model.encode_images(pixels))
    attention = model.mask_decoder.blocks[0].from_image
    variables = [attention.query.kernel, attention.value.kernel, attention.output_dense.bias]

    def loss():
        out = model.decode(embeddings, prompts, True, pad_points=True)
        return ops.mean(ops.square(out["masks"])) + ops.mean(out["iou_pred"])

    _, grads = keras.jit(keras.value_and_grad(loss, variables=variables))()
    block = theirs.mask_decoder.transformer.layers[0].cross_attn_image_to_token
    expected = (block.q_proj.weight.grad.T, block.v_proj.weight.grad.T, block.out_proj.bias.grad)
    for ours, grad in zip(grads, expected, strict=True):
        assert_close(ours, grad, rtol=1e-3, share=1e-4)


def test_half_precision_keeps_coordinates(reference):
    """Points a pixel apart differ in bfloat16, whose steps at 1024 are larger."""
    folder, _, _ = reference
    with keras.use_backend("torch"):
        encoder = hub.SAMPromptEncoder(8, (64, 64), (1024, 1024), dtype="bfloat16")
        points = np.array([[[1000.0, 900.0], [1001.0, 900.0]]], "float32")
        out = encoder(points=points, labels=np.ones((1, 2)))["prompt_sparse_embeddings"]
        assert keras.backend.standardize_dtype(out.dtype) == "bfloat16"
        assert not np.array_equal(*compare.to_numpy(ops.cast(out, "float32"))[0])
        model = hub.SAMBackbone.from_preset(folder, dtype="bfloat16")
        exact = hub.SAMBackbone.from_preset(folder)
        inputs = {"images": images(SIZE), **PROMPTS["points"]}
        assert_close(dict(model(inputs)), dict(exact(inputs)), rtol=0.1, share=0.1)


def test_int8_and_low_rank_updates(reference):
    """The decoder reads kernels by itself: out of int8, and with an update."""
    folder, _, pixels = reference
    with keras.use_backend("torch"):
        model = hub.SAMBackbone.from_preset(folder)
        inputs = {"images": pixels, **PROMPTS["points"]}
        exact = {name: compare.to_numpy(value) for name, value in model(inputs).items()}
        model.mask_decoder.blocks[0].from_image.query.enable_lora(2, b_initializer="ones")
        changed = compare.to_numpy(model(inputs)["masks"])
        assert np.abs(changed - exact["masks"]).max() > 1e-3
        model.mask_decoder.blocks[0].from_image.query.disable_lora()
        model.quantize("int8")
        assert_close(dict(model(inputs)), exact, rtol=0.1, share=0.1)


def test_windows():
    with keras.use_backend("numpy"):
        x = np.arange(2 * 5 * 7 * 3, dtype="float32").reshape(2, 5, 7, 3)
        windows = partition_windows(x, 4, np.array([-1.0, -2.0, -3.0], "float32"))
        assert windows.shape == (8, 4, 4, 3)
        np.testing.assert_array_equal(windows[1][:, 3], [[-1, -2, -3]] * 4)
        np.testing.assert_array_equal(join_windows(windows, 4, (5, 7)), x)


BAD_PROMPTS = [
    ({}, "Expected points, boxes or masks"),
    ({"points": POINTS}, "Points must have labels"),
    ({"points": POINTS, "labels": LABELS[:, :, :1]}, "a label for each point"),
    ({"points": POINTS[0, 0], "labels": LABELS[0, 0]}, "Expected 3 axes, or 4"),
    ({"points": POINTS, "labels": LABELS, "boxes": BOXES[:, :2, None]}, "equal numbers of sets"),
    ({"points": POINTS, "labels": LABELS, "masks": MASKS.repeat(2, 1)}, "equal numbers of sets"),
    ({"masks": MASKS[:, :, :20]}, r"must have the shape \(batch, sets, 40, 40, 1\)"),
]


@pytest.mark.parametrize(("prompts", "message"), BAD_PROMPTS)
def test_bad_prompts(prompts, message):
    with keras.use_backend("numpy"):
        encoder = hub.SAMPromptEncoder(16, (10, 10), (SIZE, SIZE), 8)
        with pytest.raises(ValueError, match=message):
            encoder(**prompts)


def test_bad_configs(reference, tmp_path):
    folder, _, _ = reference
    with keras.use_backend("numpy"):
        model = hub.SAMBackbone.from_preset(folder)
        with pytest.raises(ValueError, match="embeddings of one width"):
            hub.SAMBackbone(model.image_encoder, {"hidden_size": 32}, model.mask_decoder)
        with pytest.raises(ValueError, match="equal height and width"):
            hub.ViTDetBackbone(8, 1, 8, 1, (), (16, 32, 3))
        with pytest.raises(ValueError, match=re.escape("(batch, height, width, 3)")):
            model.encode_images(np.ones((1, 80, 80, 4), "float32"))
        again = hub.SAMBackbone.from_config(model.get_config())
        assert {p: v.shape for p, v in again.named_weights()} == {
            p: v.shape for p, v in model.named_weights()
        }
        config = json.loads((folder / "config.json").read_text())
        for part, key, value, message in (
            ("vision_config", "num_pos_feats", 7, "half of its output_channels"),
            ("vision_config", "global_attn_indexes", "all", "a list of integers"),
            ("vision_config", "image_size", [80, 80], "expected an integer"),
            ("prompt_encoder_config", "patch_size", 0, "expected integers"),
            ("prompt_encoder_config", "num_point_embeddings", 5, "not supported"),
        ):
            bad = {**config, part: {**config[part], key: value}}
            (tmp_path / "config.json").write_text(json.dumps(bad))
            with pytest.raises(ValueError, match=message):
                hub.SAMBackbone.from_preset(tmp_path, load_weights=False)
