"""Inputs of a segmenter against the image processor of transformers."""

import json

import numpy as np
import pytest
from compare import assert_close
from PIL import Image
from transformers import SamConfig  # noqa: F401, which makes the module below importable
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

import hub
import keraslite
from hub.preprocessing.segmentation import (
    ImageGeometry,
    SegmentationPreprocessor,
    resized_size,
)

SIZES = [(30, 41), (1024, 1024), (480, 640), (64, 7), (1500, 1125)]


def picture(size, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), "uint8")
    return np.asarray(Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("longest", [1024, 100])
def test_inputs_are_those_of_transformers(size, longest):
    settings = {
        "size": {"longest_edge": longest},
        "pad_size": {"height": longest, "width": longest},
    }
    theirs = SamImageProcessorPil(**settings)(picture(size), return_tensors="np")
    pixels, (geometry,) = SegmentationPreprocessor(longest)(picture(size))
    assert_close(pixels, theirs["pixel_values"].transpose(0, 2, 3, 1), atol=2e-6)
    assert geometry.size == size == tuple(theirs["original_sizes"][0].tolist())
    assert geometry.resized == tuple(theirs["reshaped_input_sizes"][0].tolist())
    assert geometry.padded == (longest, longest)


def test_a_batch_has_pictures_of_any_size_and_mode(tmp_path):
    grey, turned = Image.new("L", (20, 10), 128), tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.new("RGB", (40, 20)).save(turned, exif=exif)
    pixels, geometries = SegmentationPreprocessor(32)([grey, turned, np.ones((4, 4))])
    assert pixels.shape == (3, 32, 32, 3)
    assert [g.size for g in geometries] == [(10, 20), (40, 20), (4, 4)]
    assert [g.resized for g in geometries] == [(16, 32), (32, 16), (32, 32)]
    assert not pixels[0, 16:].any() and not pixels[1, :, 16:].any()
    np.testing.assert_allclose(pixels[2, 0, 0], (1 - np.array([0.485, 0.456, 0.406]))
                               / [0.229, 0.224, 0.225], rtol=1e-6)  # fmt: skip


@pytest.mark.parametrize("size", [(37, 53), (53, 37), (256, 256), (700, 431)])
def test_targets_are_those_of_transformers(size):
    masks = np.random.default_rng(0).random((2, *size)) < 0.5
    theirs = SamImageProcessorPil()(
        [picture(size)] * 2, segmentation_maps=list(masks.astype("uint8")), return_tensors="np"
    )["labels"]
    ours = SegmentationPreprocessor().targets(masks)
    assert ours.shape == (2, 256, 256)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("size", SIZES)
def test_coordinates_are_scaled_as_by_transformers(size):
    from transformers.models.sam.image_processing_pil_sam import _normalize_coordinates

    rng = np.random.default_rng(0)
    points = rng.random((5, 2)) * size[::-1]
    boxes = np.concatenate([points / 2, points], -1)
    geometry = ImageGeometry.of(size)
    assert_close(geometry.to_input(points), _normalize_coordinates(1024, points, size))
    expected = _normalize_coordinates(1024, boxes, size, is_bounding_box=True)
    assert_close(geometry.to_input(boxes), expected)
    assert_close(geometry.to_picture(geometry.to_input(boxes)), boxes, rtol=1e-6)
    with pytest.raises(ValueError, match=r"\(3,\)"):
        geometry.to_input([1, 2, 3])


def test_halves_round_up_and_no_side_vanishes():
    assert resized_size(3, 8, 4) == (2, 4)  # 1.5 rows
    assert resized_size(5, 8, 4) == (3, 4)  # 2.5 rows, which Python would round to 2
    assert resized_size(8, 5, 4) == (4, 3)
    with pytest.raises(ValueError, match="10000 x 1 pixels"):
        resized_size(10000, 1, 1024)


def test_settings_are_read_and_written_as_transformers_does(tmp_path):
    ours = SegmentationPreprocessor(512, 128, image_mean=(0.5, 0.5, 0.4))
    ours.save(tmp_path)
    theirs = SamImageProcessorPil.from_pretrained(str(tmp_path))
    image = picture((60, 90))
    assert_close(
        ours(image)[0], theirs(image, return_tensors="np")["pixel_values"].transpose(0, 2, 3, 1),
        atol=2e-6,
    )  # fmt: skip
    theirs.save_pretrained(str(tmp_path))
    config = json.loads((tmp_path / "preprocessor_config.json").read_text())
    again = SegmentationPreprocessor.from_config(config)
    assert again.get_config() == ours.get_config()
    assert again.mask_size == 128


def test_a_preprocessor_is_an_object_of_a_config():
    ours = hub.SegmentationPreprocessor(64, 16, rescale_factor=1 / 100)
    again = keraslite.saving.deserialize_keras_object(
        json.loads(json.dumps(keraslite.saving.serialize_keras_object(ours)))
    )
    assert type(again) is SegmentationPreprocessor and again.get_config() == ours.get_config()
    assert again.image_size == (64, 64) and again.geometry((32, 16)).resized == (64, 32)


@pytest.mark.parametrize(("config", "message"), [
    ({"image_processor_type": "ViTImageProcessor"}, "ViTImageProcessor"),
    ({"do_normalize": False}, r"\['do_normalize'\].*must be true"),
    ({"do_center_crop": True}, "do_center_crop"),
    ({"size": {"shortest_edge": 512}}, "longest_edge"),
    ({"size": {"longest_edge": 512}, "pad_size": {"height": 1024, "width": 1024}}, "pad_size"),
    ({"size": {"longest_edge": -1}}, "positive int"),
    ({"resample": 77}, "resample must be"),
    ({"reduce_labels": True}, "reduce_labels"),
])  # fmt: skip
def test_settings_that_are_not_supported_are_errors(config, message):
    with pytest.raises(ValueError, match=message):
        SegmentationPreprocessor.from_config(config)
