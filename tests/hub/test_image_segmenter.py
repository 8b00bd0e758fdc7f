"""ImageSegmenter: prompts, automatic masks, presets and the command line, against transformers."""

import json
import pickle

import numpy as np
import pytest
import torch
from compare import assert_close
from PIL import Image
from sam_checkpoints import SHAPES, tiny_sam
from sam_masks import mask_generator, processor
from transformers import AutoModelForMaskGeneration
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

import hub
import keraslite as keras
from hub.cli import main
from hub.tasks.image.mask_generation import MaskGeneration

SIZE = SHAPES["fills"]["image_size"]
MASK_SIZE = 4 * SIZE // SHAPES["fills"]["patch_size"]
PICTURES = {
    name: np.random.default_rng(i).integers(0, 256, (*size, 3), "uint8")
    for i, (name, size) in enumerate({"wide": (50, 93), "tall": (120, 77)}.items())
}
POINTS, LABELS = [[[20, 30], [40, 10]], [[70.5, 40], [5, 6]]], [[1, 0], [1, 1]]
BOXES = [[10, 5, 60, 45], [30, 20, 77, 50]]
PROMPTS = {
    "points": {"points": POINTS, "labels": LABELS},
    "boxes": {"boxes": BOXES},
    "points and boxes": {"points": POINTS, "labels": LABELS, "boxes": BOXES},
    "masks": {"masks": np.random.default_rng(3).normal(size=(2, MASK_SIZE, MASK_SIZE)) * 4},
    "points and masks": {
        "points": POINTS, "labels": LABELS,
        "masks": np.random.default_rng(3).normal(size=(2, MASK_SIZE, MASK_SIZE)) * 4,
    },
}  # fmt: skip


def sure_sam():
    """A model of transformers with scores around 0.9, and masks that are more or less stable."""
    model = tiny_sam()
    with torch.no_grad():
        model.mask_decoder.iou_prediction_head.proj_out.weight *= 0.05
        model.mask_decoder.iou_prediction_head.proj_out.bias.fill_(0.9)
        for layer in model.mask_decoder.output_hypernetworks_mlps:
            layer.proj_out.weight *= 4
            layer.proj_out.bias *= 4
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint of transformers with its processor."""
    path = tmp_path_factory.mktemp("sam")
    sure_sam().save_pretrained(path)
    hub.SegmentationPreprocessor(SIZE, MASK_SIZE).save(path)
    return path


@pytest.fixture(scope="module")
def theirs():
    return sure_sam()


@pytest.fixture
def on_torch():
    """The backend of tests whose subject is the same on all."""
    with keras.use_backend("torch"):
        yield


@torch.no_grad()
def their_answer(model, picture, prompts, multimask):
    """(logits of the picture's size, low-resolution logits, scores) of transformers."""
    inputs = processor(SIZE, MASK_SIZE)(picture, return_tensors="pt")
    (height, width), resized = picture.shape[:2], inputs["reshaped_input_sizes"][0]
    scale = np.array([resized[1] / width, resized[0] / height])
    sets = {}
    if "points" in prompts:
        sets["input_points"] = torch.tensor(np.array(prompts["points"]) * scale)[None].float()
        sets["input_labels"] = torch.tensor(prompts["labels"])[None]
    if "boxes" in prompts:
        sets["input_boxes"] = torch.tensor(np.array(prompts["boxes"]) * np.tile(scale, 2)).float()
        sets["input_boxes"] = sets["input_boxes"][None]
    rows = []
    for i in range(2):  # each set for itself: transformers has one mask for all of them
        one = {name: value[:, i : i + 1] for name, value in sets.items()}
        if "masks" in prompts:
            one["input_masks"] = torch.tensor(prompts["masks"][i])[None, None].float()
        out = model(inputs["pixel_values"], **one, multimask_output=multimask)
        rows.append((out.pred_masks[0, 0], out.iou_scores[0, 0]))
    low, scores = (torch.stack(x) for x in zip(*rows, strict=True))
    (logits,) = processor(SIZE, MASK_SIZE).post_process_masks(
        [low], inputs["original_sizes"], inputs["reshaped_input_sizes"], binarize=False
    )
    return logits.numpy(), low.numpy(), scores.numpy()


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("prompts", PROMPTS)
def test_masks_are_those_of_transformers(prompts, multimask, picture, folder, theirs, backend):
    if backend != "torch" and (picture, multimask) != ("wide", True):
        return  # the same code
    segmenter = hub.SAMImageSegmenter.from_preset(folder)
    image = segmenter.embed(PICTURES[picture])
    masks = image.segment(**PROMPTS[prompts], multimask=multimask)
    logits, low, scores = their_answer(theirs, PICTURES[picture], PROMPTS[prompts], multimask)
    share = 1e-4
    assert_close(masks.low_res_logits, low, rtol=1e-3, share=share)
    assert_close(masks.scores, scores, rtol=1e-3, share=share)
    assert_close(masks.logits, logits, rtol=1e-3, share=share)
    differ = masks.masks != (logits > 0)
    assert not differ[np.abs(logits) > share * np.abs(logits).max()].any()
    assert masks.masks.shape == (2, 3 if multimask else 1, *PICTURES[picture].shape[:2])


def test_ragged_prompts_of_several_pictures(folder, backend):
    segmenter = hub.SAMImageSegmenter.from_preset(folder)
    images = segmenter.embed([*PICTURES.values(), PICTURES["wide"][:40]], batch_size=2)
    points = [[[[20, 30]], [[1, 2], [3, 4], [5, 6]], [[9, 9]]], [[7, 8]], None]
    boxes = [None, [[2, 3, 40, 50]], [[0, 0, 30, 30], [4, 4, 90, 40]]]
    together = images.segment(points=points, boxes=boxes)
    assert [len(masks) for masks in together] == [3, 1, 2]
    for i, masks in enumerate(together):
        single = segmenter.embed(images[i].picture).segment(points=points[i], boxes=boxes[i])
        assert_close(masks.low_res_logits, single.low_res_logits, rtol=1e-3, share=1e-4)
    alone = images[0].segment(points=points[0][1])
    assert_close(together[0].low_res_logits[1], alone.low_res_logits[0], rtol=1e-3, share=1e-4)
    assert_close(together[0].scores[1], alone.scores[0], rtol=1e-3, share=1e-4)
    with pytest.raises(ValueError, match="Picture 2: points must be finite"):
        images.segment(points=[[1, 2], [3, 4], [500, 2]])
    with pytest.raises(ValueError, match="each of the 3 pictures, got 2"):
        images.segment(points=[[1, 2], [3, 4]])


def test_many_sets_are_decoded_in_parts(folder, on_torch):
    segmenter = hub.SAMImageSegmenter.from_preset(folder)
    image = segmenter.embed(PICTURES["wide"])
    points = np.random.default_rng(0).uniform(0, 50, (150, 1, 2))
    masks = image.segment(points=points)
    assert masks.scores.shape == (150, 3)
    assert_close(masks.scores[149], image.segment(points[149]).scores[0], rtol=1e-3, share=1e-4)


def test_a_picture_is_encoded_once_and_the_decoder_compiled_once(folder, trains, monkeypatch):
    segmenter = hub.SAMImageSegmenter.from_preset(folder)
    decodes, encodes = [], []
    decode, encode = segmenter.backbone.decode, segmenter.backbone.encode_images
    monkeypatch.setattr(
        segmenter.backbone, "decode", lambda *a, **k: [decodes.append(1), decode(*a, **k)][1]
    )

    def encode_images(images, training=False):
        encodes.append(1)
        return encode(images, training)

    monkeypatch.setattr(segmenter.backbone, "encode_images", encode_images)
    image = segmenter.embed(PICTURES["wide"])
    answers = [image.segment([x, 20]).low_res_logits for x in range(10)]
    assert len(encodes) == 1
    # On torch two calls run as they are, and the third one is recorded.
    assert len(decodes) <= 3
    assert not np.array_equal(answers[8], answers[9])
    assert_close(image.segment([9, 20]).low_res_logits, answers[9], share=1e-6)


def test_masks_are_refined(folder, on_torch):
    segmenter = hub.SAMImageSegmenter.from_preset(folder)
    image = segmenter.embed(PICTURES["wide"])
    first = image.segment(points=[[20, 30]])
    again = image.segment(points=[[20, 30]], masks=first, multimask=False)
    low = first.best().low_res_logits
    expected = image.segment([20, 30], masks=low[0, 0], multimask=False)
    assert_close(again.low_res_logits, expected.low_res_logits)
    assert not np.allclose(again.low_res_logits, first.low_res_logits[:, :1])


def test_embeddings_follow_the_task_to_another_backend(folder):
    with keras.use_backend("torch"):
        segmenter = hub.SAMImageSegmenter.from_preset(folder)
        image = segmenter.embed(PICTURES["wide"])
        before = image.segment([20, 30])
    segmenter.to_backend("jax")
    after = image.segment([20, 30])
    assert_close(after.low_res_logits, before.low_res_logits, rtol=1e-3, share=1e-4)


@pytest.mark.parametrize("overlap", [0.97, 1.0])
@pytest.mark.parametrize("picture", PICTURES)
def test_everything_is_that_of_transformers(picture, overlap, folder, theirs, backend):
    thresholds = {"pred_iou_thresh": 0.85, "stability_score_thresh": 0.1}
    expected = mask_generator(theirs, SIZE, MASK_SIZE)(
        Image.fromarray(PICTURES[picture]), points_per_batch=7, points_per_crop=4,
        crops_nms_thresh=overlap, output_bboxes_mask=True, **thresholds,
    )  # fmt: skip
    segmenter = hub.SAMImageSegmenter.from_preset(folder)
    masks = segmenter.generate_masks(
        PICTURES[picture], 4, 7, **thresholds, box_nms_thresh=overlap, verbose=0
    )
    assert len(masks) == len(expected["masks"]) >= (2 if overlap < 1 else 30)
    assert_close([m["predicted_iou"] for m in masks], expected["scores"], rtol=1e-3)
    assert (masks.masks != np.array(expected["masks"])).mean() < 1e-3
    boxes = np.array([m["bbox"] for m in masks])
    boxes[:, 2:] += boxes[:, :2]
    assert_close(boxes, expected["bounding_boxes"], atol=1)


class ByColor:
    """A segmenter whose answer to a point is what has its color."""

    preprocessor = hub.SegmentationPreprocessor(128, 128)

    def embed(self, picture):
        geometry = self.preprocessor.geometry((picture.height, picture.width))
        pixels = np.full((128, 128, 3), -1)
        height, width = geometry.resized
        resized = picture.resize((width, height), Image.Resampling.NEAREST)
        pixels[:height, :width] = np.asarray(resized)
        return hub.EmbeddedImage(self, pixels, geometry, picture)

    def decode(self, embedding, prompts, multimask=True):
        x, y = prompts.points[:, 0].astype(int).T
        same = (embedding == embedding[y, x][:, None, None]).all(-1)
        return np.where(same, 9.0, -9.0)[:, None], np.full((len(x), 1), 0.95)


@pytest.mark.parametrize("layers", [0, 1])
def test_every_object_is_segmented_once(layers):
    picture = Image.new("RGB", (300, 240))
    objects = {"red": (20, 30, 90, 110), "green": (200, 150, 280, 220), "blue": (130, 60, 170, 90)}
    for color, box in objects.items():
        picture.paste(color, box)
    masks = MaskGeneration(16, crop_n_layers=layers, output_mode="coco_rle")(
        ByColor().embed(picture)
    )
    pixels = np.asarray(picture)
    expected = [(pixels == pixels[box[1], box[0]]).all(-1) for box in objects.values()]
    expected += [(pixels == 0).all(-1)]
    assert len(masks) == 4
    for mask in expected:
        overlaps = (masks.masks & mask).sum((1, 2)) / (masks.masks | mask).sum((1, 2))
        assert overlaps.max() > 0.85  # edges are between the pixels of the input
    # Of equal masks that of the smaller crop is kept.
    assert (len({tuple(m["crop_box"]) for m in masks}) > 1) == (layers == 1)


def test_crops_and_small_regions(folder, on_torch, capsys):
    segmenter = hub.SAMImageSegmenter.from_preset(folder)
    image = segmenter.embed(PICTURES["tall"])
    options = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 0.9}
    segmenter.generate_masks(image, 3, crop_n_layers=1, **options)
    assert "5/5" in capsys.readouterr().out
    cleaned = segmenter.generate_masks(
        image, 3, min_mask_region_area=40, output_mode="coco_rle", verbose=0, **options
    )
    assert isinstance(cleaned[0]["segmentation"]["counts"], str)
    assert len(segmenter.generate_masks([*PICTURES.values()], 2, verbose=0)) == 2
    for name, value in {
        "points_per_side": 0, "points_per_batch": 2.5, "pred_iou_thresh": 3, "crop_n_layers": -1,
        "output_mode": "png", "crop_overlap_ratio": 1.5,
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=name):
            segmenter.generate_masks(image, **{name: value}, verbose=0)


def test_ready_arrays_as_for_kerashub(folder, backend):
    segmenter = hub.SAMImageSegmenter.from_preset(folder, preprocessor=None)
    rng = np.random.default_rng(0)
    inputs = {
        "images": rng.normal(size=(2, SIZE, SIZE, 3)).astype("float32"),
        "points": rng.uniform(0, SIZE, (2, 2, 2)).astype("float32"),
        "labels": np.array([[1, -1]] * 2), "boxes": np.zeros((2, 0, 2, 2), "float32"),
        "masks": np.zeros((2, 0, MASK_SIZE, MASK_SIZE, 1), "float32"),
    }  # fmt: skip
    out = segmenter.predict(inputs, verbose=0)
    assert out["masks"].shape == (2, 4, MASK_SIZE, MASK_SIZE)
    assert out["iou_pred"].shape == (2, 4)
    direct = segmenter({k: v[1:2] for k, v in inputs.items() if v.size})
    assert_close(out["masks"][1:2], direct["masks"], rtol=1e-3, share=1e-4)


def test_presets_and_copies(folder, tmp_path, on_torch):
    segmenter = hub.load(folder)
    assert isinstance(segmenter, hub.SAMImageSegmenter)
    expected = segmenter.segment(PICTURES["wide"], [20, 30]).scores
    segmenter.save_to_preset(tmp_path / "a")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert config["architectures"] == ["SamModel"]
    for other in (
        hub.ImageSegmenter.from_preset(tmp_path / "a"),
        pickle.loads(pickle.dumps(segmenter)),
        type(segmenter).from_config(segmenter.get_config()),
    ):
        if other.weights and isinstance(other, hub.ImageSegmenter):
            other.set_weights(segmenter.get_weights())
        assert_close(other.segment(PICTURES["wide"], [20, 30]).scores, expected, rtol=1e-4)
    card = hub.model_card(tmp_path / "a")
    assert 'pipeline_tag: "mask-generation"' in card and "AutoProcessor.from_pretrained" in card
    theirs = AutoModelForMaskGeneration.from_pretrained(tmp_path / "a")
    inputs = SamImageProcessorPil.from_pretrained(tmp_path / "a")(PICTURES["wide"])
    inputs = {"pixel_values": torch.tensor(np.array(inputs["pixel_values"])),
              "input_points": torch.tensor([[[[20.0, 30.0]]]]) * SIZE / 93}  # fmt: skip
    assert_close(theirs(**inputs).iou_scores[0].detach(), expected, rtol=1e-3, share=1e-4)


def test_what_is_wrong_is_said(folder, on_torch):
    segmenter = hub.SAMImageSegmenter.from_preset(folder)
    image = segmenter.embed(PICTURES["wide"])
    for prompts, message in (
        ({}, "There must be a prompt"),
        ({"points": [[100, 5]]}, "x from 0 to 93"),
        ({"points": [[10, 5]], "labels": [1, 0]}, "a label for each point"),
        ({"points": [[10, 5]], "labels": [3]}, "labels must be 1"),
        ({"labels": [1], "boxes": [[1, 2, 30, 40]]}, "labels without points"),
        ({"boxes": [[30, 5, 10, 20]]}, "must have a width and a height"),
        ({"masks": np.ones((5, 5), bool)}, "must have the size of the picture"),
        ({"masks": np.ones((5, 5))}, "must be logits of the shape"),
        ({"points": [[1, 2]], "boxes": [[1, 2, 3, 4]] * 2}, "of the same sets"),
    ):
        with pytest.raises(ValueError, match=message):
            image.segment(**prompts)
    with pytest.raises(TypeError, match="give pictures to segment"):
        segmenter.predict([PICTURES["wide"]])
    with pytest.raises(ValueError, match="batch_size must be a positive int"):
        segmenter.embed(PICTURES["wide"], batch_size=0)
    with pytest.raises(FileNotFoundError, match=r"missing\.jpg"):
        segmenter.embed("missing.jpg")
    segmenter.preprocessor = None
    with pytest.raises(ValueError, match=r"give it a hub\.SegmentationPreprocessor"):
        segmenter.segment(PICTURES["wide"], [1, 2])
    with pytest.raises(ValueError, match="must have mask_size=40"):
        hub.ImageSegmenter(segmenter.backbone, hub.SegmentationPreprocessor(SIZE, 32))


def test_the_command_line_segments(folder, tmp_path, capsys, on_torch):
    files = []
    for name in "ab":
        (tmp_path / name).mkdir()
        files.append(str(tmp_path / name / "truck.png"))
        Image.fromarray(PICTURES["wide"]).save(files[-1])
    command = ["run", "mask-generation", str(folder), *files]
    prompts = ["--point", "20,30", "--point", "40,10,0", "--box", "10,5,60,45"]
    main([*command, *prompts, "--out", str(tmp_path / "masks")])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(line["masks"][0]) for line in lines] == [3, 3]
    stems = ("truck", "truck_1")
    expected = {f"{s}{e}.png" for s in stems for e in ("", "_0_0", "_0_1", "_0_2")}
    assert {path.name for path in (tmp_path / "masks").iterdir()} == expected
    main([*command[:4], "--points-per-side", "2"])
    assert json.loads(capsys.readouterr().out)["height"] == 50
    for wrong, message in ((["--point", "a,b"], "--point must be 2 or 3 numbers"),
                           (["--point", "500,30"], "x from 0 to 93"),
                           (["--box", "1,2,3"], "--box must be 4 numbers")):  # fmt: skip
        assert main([*command, *wrong])
        assert message in capsys.readouterr().err


# -- training -------------------------------------------------------------------------------------


def shapes(count, seed=0, size=(48, 64)):
    """Pictures of a bright disc and a dark square on noise, with their masks."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    samples = []
    for _ in range(count):
        pixels = rng.integers(90, 150, (*size, 3), "uint8")
        a, b = rng.integers(12, 36, 2)
        disc = (x - a) ** 2 + (y - b) ** 2 < 81
        left, top = rng.integers(0, 40), rng.integers(0, 30)
        square = (abs(x - left - 8) <= 8) & (abs(y - top - 8) <= 8) & ~disc
        pixels[disc], pixels[square] = (250, 240, 90), (10, 30, 60)
        samples.append((pixels, {"masks": np.stack([disc, square] if square.any() else [disc])}))
    return samples


def new_segmenter(size=64):
    """A small untrained segmenter."""
    keras.utils.set_random_seed(0)
    backbone = hub.SAMBackbone(
        {"hidden_size": 16, "num_layers": 1, "intermediate_dim": 32, "num_heads": 2,
         "global_attention_layer_indices": (0,), "image_shape": (size, size, 3), "patch_size": 8,
         "num_output_channels": 16},
        {"hidden_size": 16, "image_embedding_size": (size // 8,) * 2,
         "input_image_size": (size,) * 2},
        {"hidden_size": 16, "num_layers": 1, "intermediate_dim": 32, "num_heads": 2,
         "iou_head_hidden_dim": 16},
    )  # fmt: skip
    return hub.SAMImageSegmenter(backbone, hub.SegmentationPreprocessor(size, size // 2))


@pytest.fixture(scope="module")
def histories():
    """The losses of two epochs, of each backend that was asked for."""
    kept = {}

    def of(name):
        if name not in kept:
            with keras.use_backend(name):
                model = new_segmenter()
                model.compile(keras.optimizers.SGD(1e-2))
                keras.utils.set_random_seed(3)
                kept[name] = model.fit(shapes(5), epochs=2, verbose=0).history
        return kept[name]

    return of


def test_losses_are_the_same_on_all_backends(trains, histories):
    ours, expected = histories(trains), histories("torch")
    assert set(ours) == {"loss", "focal_loss", "dice_loss", "iou_loss", "mean_iou"}
    for name, values in ours.items():
        assert_close(values, expected[name], rtol=1e-3, atol=1e-4)
    assert_close(ours["loss"], np.sum([ours[f"{n}_loss"] for n in ("focal", "dice", "iou")], 0),
                 rtol=0.1)  # fmt: skip  # a smaller batch at the end counts less


def test_the_decoder_alone_is_trained_and_pictures_are_encoded_once(on_torch, monkeypatch):
    model, encodes = new_segmenter(), []
    encoder = model.backbone.image_encoder
    encode = model.backbone.encode_images

    def encode_images(images, training=False):
        encodes.append(len(images))
        return encode(images, training)

    monkeypatch.setattr(model.backbone, "encode_images", encode_images)
    before = {path: np.array(v) for path, v in model.named_weights()}
    history = model.fit(shapes(6), epochs=3, validation_split=0.34, verbose=0).history
    assert sum(encodes) == 6
    assert {"val_loss", "val_mean_iou"} <= set(history)
    assert not encoder.trainable_variables
    changed = {p for p, v in model.named_weights() if not np.array_equal(before[p], np.array(v))}
    assert changed
    assert all(path.startswith("backbone/mask_decoder") for path in changed)
    model.compile()  # for other variables
    model.fit(shapes(2), train_encoder=True, verbose=0)
    changed = {p for p, v in model.named_weights() if not np.array_equal(before[p], np.array(v))}
    assert any(path.startswith("backbone/image_encoder") for path in changed)


def test_forms_of_data(on_torch):
    samples = shapes(3)
    images, masks = [p for p, _ in samples], [facts["masks"] for _, facts in samples]
    points = [[[[5, 5]]] * len(m) for m in masks]
    losses = {}
    for name, data in {
        "pairs": (samples,), "columns": (images, masks),
        "dict": ({"images": images, "masks": masks},),
        "points": ({"images": images, "masks": masks, "points": points},),
        "boxes": ([(p, {**f, "boxes": [[1, 1, 30, 30]] * len(f["masks"])}) for p, f in samples],),
    }.items():  # fmt: skip
        model = new_segmenter()
        losses[name] = model.evaluate(*data, verbose=0, return_dict=True)["loss"]
    assert losses["pairs"] == losses["columns"] == losses["dict"]
    assert len(set(losses.values())) == 3
    for data, message in (
        (([(images[0], {"masks": np.zeros((48, 64))})],), "Mask 0 of picture 0 is empty"),
        (([(images[0], {"masks": np.ones((4, 4))})],), "must have its size"),
        ((images, masks[:2]), "masks for each of the 3 pictures"),
        (([(images[0], {"mask": 1})],), 'must have "masks"'),
        (([(images[0], {"masks": np.full((48, 64), 3)})],), "0 and 1"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(*data, verbose=0)
    with pytest.raises(TypeError, match="pairs of a picture"):
        model.fit(images, verbose=0)
    with pytest.raises(ValueError, match="prompts must be one of"):
        model.fit(samples, prompts="circles", verbose=0)


def test_lora_of_the_decoder_and_of_the_encoder(on_torch, tmp_path):
    model = new_segmenter()
    expected = model.segment(shapes(1)[0][0], [20, 20]).scores
    model.enable_lora(2, targets=["query", "value"])
    assert_close(model.segment(shapes(1)[0][0], [20, 20]).scores, expected)
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(shapes(2), verbose=0)
    assert not model.backbone.image_encoder.trainable_variables
    assert not np.allclose(model.segment(shapes(1)[0][0], [20, 20]).scores, expected, rtol=1e-4)
    whole = new_segmenter()
    whole.enable_lora(2)  # queries, keys and values of the encoder, too
    whole.fit(shapes(2), verbose=0)
    assert whole.backbone.image_encoder.trainable_variables


# -- other dtypes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["bfloat16", "mixed_bfloat16", "int8", "int8 encoder"])
def test_smaller_numbers_give_about_the_same_masks(form, folder, backend):
    picture = shapes(1, size=(60, 90))[0][0]
    prompts = {"points": [[20, 30]], "boxes": [[5, 5, 60, 50]]}
    expected = hub.SAMImageSegmenter.from_preset(folder).segment(picture, **prompts)
    dtype = None if "int8" in form else form
    segmenter = hub.SAMImageSegmenter.from_preset(folder, dtype=dtype)
    if form == "int8":
        segmenter.quantize("int8")
    elif form == "int8 encoder":
        segmenter.backbone.image_encoder.quantize("int8")
    masks = segmenter.segment(picture, **prompts)
    both, either = masks.masks & expected.masks, masks.masks | expected.masks
    assert both.sum() / either.sum() > 0.9
    assert not np.array_equal(masks.low_res_logits, expected.low_res_logits)
    assert_close(masks.scores, expected.scores, atol=0.05, rtol=0)
