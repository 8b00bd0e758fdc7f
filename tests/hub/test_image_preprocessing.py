"""Images to pixels, against the processors of transformers that use Pillow."""

import importlib
import io
import json
import warnings

import numpy as np
import pytest
from PIL import Image
from timm_oracle import evaluate_pixels
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

import hub
from hub.convert.kerashub_images import converter_config
from hub.preprocessing.image_inputs import load_images, load_masks
from hub.presets import resolve

RANDOM = np.random.default_rng(0)
SETTINGS = {
    "as it is": {},
    "small": {"size": {"shortest_edge": 17}, "crop_size": {"height": 15, "width": 15}},
    "not square": {"size": {"height": 13, "width": 21}, "crop_size": {"height": 9, "width": 20}},
    "cut with a border": {"size": {"shortest_edge": 8}, "crop_size": {"height": 19, "width": 23}},
    "not cut": {"size": {"height": 11, "width": 7}, "do_center_crop": False, "resample": 2},
    "not resized": {"do_resize": False, "crop_size": {"height": 30, "width": 30}},
    "not normalised": {"do_normalize": False, "size": {"shortest_edge": 20}, "crop_size": 20},
    "not scaled": {"do_rescale": False, "size": {"shortest_edge": 20}, "crop_size": 20},
    "raw": {"do_rescale": False, "do_normalize": False, "resample": 1, "crop_size": 40},
}


def pixels(height, width, channels=3):
    return RANDOM.integers(0, 256, (height, width, channels), dtype=np.uint8)


def images():
    """Images of odd sizes, in every mode that files come in."""
    rgb = Image.fromarray(pixels(37, 53))
    keyed = rgb.quantize(16)
    keyed.info["transparency"] = 3
    return {
        "RGB": rgb, "tall": Image.fromarray(pixels(61, 29)), "tiny": Image.fromarray(pixels(3, 5)),
        "square": Image.fromarray(pixels(224, 224)), "L": rgb.convert("L"), "1": rgb.convert("1"),
        "RGBA": Image.fromarray(pixels(31, 45, 4)), "P": rgb.quantize(32), "keyed": keyed,
        "LA": Image.fromarray(pixels(31, 45, 2)), "CMYK": rgb.convert("CMYK"), "I": rgb.convert("I"),
        "PA": keyed.convert("PA"), "RGBa": Image.fromarray(pixels(31, 45, 4)).convert("RGBa"),
        "YCbCr": rgb.convert("YCbCr"), "HSV": rgb.convert("HSV"),
    }  # fmt: skip


def theirs(processor, image):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = processor(image, return_tensors="np")["pixel_values"]
    return np.moveaxis(made, 1, -1)


@pytest.mark.parametrize("said", SETTINGS)
def test_pixels_are_those_of_transformers(said, tmp_path):
    CLIPImageProcessorPil(**SETTINGS[said]).save_pretrained(tmp_path)
    processor = CLIPImageProcessorPil.from_pretrained(tmp_path)
    ours = hub.ImagePreprocessor.from_files(resolve(tmp_path))
    for name, image in images().items():
        expected = theirs(processor, image)
        assert ours(image).dtype == np.float32
        np.testing.assert_allclose(ours(image), expected, rtol=0, atol=1e-6, err_msg=name)
    for channels in (1, 3, 4):
        array = pixels(33, 41, channels)
        np.testing.assert_allclose(ours(array), theirs(processor, array), rtol=0, atol=1e-6)
    ours.save(tmp_path)
    again = CLIPImageProcessorPil.from_pretrained(tmp_path)
    np.testing.assert_array_equal(theirs(again, image), expected)


OTHERS = {
    "convnext": {"size": {"shortest_edge": 24}, "crop_pct": 0.8},
    "large convnext": {"size": {"shortest_edge": 384}},
    "deit": {"size": {"height": 30, "width": 30}, "crop_size": {"height": 24, "width": 24}},
    "bit": {"size": {"shortest_edge": 30}, "crop_size": {"height": 24, "width": 24}},
    "mobilenet_v2": {"size": {"shortest_edge": 30}, "crop_size": {"height": 24, "width": 24}},
    "efficientnet": {"size": {"height": 30, "width": 30}},
    "offset efficientnet": {
        "size": {"height": 30, "width": 30}, "rescale_offset": True, "rescale_factor": 1 / 127.5,
        "include_top": False,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_pixels_are_those_of_other_processors(name, tmp_path):
    family = name.split()[-1]
    module = importlib.import_module(f"transformers.models.{family}.image_processing_pil_{family}")
    cls = next(v for k, v in vars(module).items() if k.endswith("ImageProcessorPil"))
    processor = cls(**OTHERS[name])
    processor.save_pretrained(tmp_path)
    ours = hub.ImagePreprocessor.from_files(resolve(tmp_path))
    for height, width in ((37, 53), (80, 31), (24, 24)):
        image = Image.fromarray(pixels(height, width))
        np.testing.assert_allclose(ours(image), theirs(processor, image), rtol=0, atol=2e-6)
    ours.save(tmp_path)
    again = cls.from_pretrained(tmp_path)
    np.testing.assert_array_equal(theirs(again, image), theirs(processor, image))


@pytest.mark.parametrize("size", [(25, 25), (24, 33)])
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_pixels_are_those_of_the_evaluation_transform_of_timm(mode, size):
    settings = {
        "crop_pct": 0.9, "interpolation": "bilinear", "crop_mode": mode, "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.3, 0.4],
    }  # fmt: skip
    ours = hub.ImagePreprocessor.from_timm(
        {"input_size": [3, 20, 20], "test_input_size": [3, *size], **settings}
    )
    for height, width in ((37, 53), (80, 31), (25, 25), (90, 64)):
        image = Image.fromarray(pixels(height, width))
        expected = evaluate_pixels(image, img_size=size, **settings)
        np.testing.assert_allclose(ours(image)[0], expected, rtol=0, atol=2e-6)


def test_transparency_of_every_strength():
    """Colours are laid on white as transformers does it, for all values of both."""
    grey, alpha = np.meshgrid(np.arange(256), np.arange(256))
    array = np.stack([grey, grey, grey, alpha], -1).astype("uint8")
    raw = {"do_resize": False, "do_center_crop": False, "do_rescale": False, "do_normalize": False}
    expected = theirs(CLIPImageProcessorPil(**raw), Image.fromarray(array))
    ours = hub.ImagePreprocessor("CLIP", **raw)
    np.testing.assert_array_equal(ours(array), expected)


def test_transparent_greys_multiplied_by_alpha():
    image = Image.fromarray(pixels(20, 30, 2)).convert("La")
    ours = hub.ImagePreprocessor("CLIP", do_resize=False, do_center_crop=False)
    np.testing.assert_array_equal(ours(image), ours(image.convert("LA")))


# Files of older versions of the library: sizes are numbers, names are others.
OLDER = {
    "clip": {"feature_extractor_type": "CLIPFeatureExtractor", "size": 24, "crop_size": 18,
             "do_resize": True, "do_center_crop": True, "do_normalize": True, "resample": 3,
             "image_mean": [0.48145466, 0.4578275, 0.40821073],
             "image_std": [0.26862954, 0.26130258, 0.27577711]},
    "vit": {"image_processor_type": "ViTFeatureExtractor", "size": 24, "do_resize": True,
            "do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.5, 0.4, 0.3],
            "do_convert_rgb": None, "resample": 2},
    "bare": {"image_processor_type": "CLIPImageProcessorFast", "crop_size": 100},
}  # fmt: skip


@pytest.mark.parametrize("kind", OLDER)
def test_older_files(kind, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(OLDER[kind]))
    processor = (ViTImageProcessorPil if kind == "vit" else CLIPImageProcessorPil).from_pretrained(
        tmp_path
    )
    ours = hub.ImagePreprocessor.from_files(resolve(tmp_path))
    for height, width in ((37, 53), (80, 31), (24, 24)):
        image = Image.fromarray(pixels(height, width))
        np.testing.assert_allclose(ours(image), theirs(processor, image), rtol=0, atol=1e-6)


def test_settings_inside_a_processor_of_several(tmp_path):
    settings = {**OLDER["clip"], "image_processor_type": "CLIPImageProcessor"}
    whole = {"processor_class": "CLIPProcessor", "image_processor": settings}
    (tmp_path / "processor_config.json").write_text(json.dumps(whole))
    ours = hub.ImagePreprocessor.from_files(resolve(tmp_path))
    assert ours.settings["size"] == {"shortest_edge": 24}
    assert ours(pixels(30, 40)).shape == (1, 18, 18, 3)


def test_whatever_a_user_has(tmp_path):
    ours = hub.ImagePreprocessor("CLIP", size=16, crop_size=16)
    array = pixels(21, 34)
    expected = ours(array)
    Image.fromarray(array).save(tmp_path / "a.png")
    grey = array[..., 0]
    for same in (
        Image.fromarray(array), tmp_path / "a.png", str(tmp_path / "a.png"), [array], array[None],
        array.astype("int64"), array / 255, (array / 255).astype("float32"), iter([array]),
    ):  # fmt: skip
        np.testing.assert_array_equal(ours(same), expected)
    np.testing.assert_array_equal(ours(grey), ours(np.stack([grey] * 3, -1)))
    np.testing.assert_array_equal(ours(grey[..., None]), ours(grey))
    mixed = ours([array, tmp_path / "a.png", Image.fromarray(grey), pixels(90, 50) / 255])
    assert mixed.shape == (4, 16, 16, 3)
    np.testing.assert_array_equal(mixed[:2], np.concatenate([expected] * 2))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_turned_photograph_is_upright(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(pixels(20, 30))
    turned = image.rotate({3: 180, 6: 90, 8: 270}[orientation], expand=True)
    turned.save(tmp_path / "a.png", exif=exif)
    ours = hub.ImagePreprocessor("CLIP", do_resize=False, do_center_crop=False)
    np.testing.assert_array_equal(ours(tmp_path / "a.png"), ours(image))
    np.testing.assert_array_equal(ours(Image.open(tmp_path / "a.png")), ours(image))


def test_images_of_16_bits_and_floats_are_scaled(tmp_path):
    ours = hub.ImagePreprocessor("CLIP", do_resize=False, do_center_crop=False)
    grey = pixels(20, 30)[..., 0]
    grey[0, :2] = 0, 255
    expected = ours(grey)
    deep, floats = grey.astype("uint16") * 257, grey.astype("float32") / 255
    Image.fromarray(deep).save(tmp_path / "a.png")
    Image.fromarray(deep).save(tmp_path / "a.tif")
    Image.fromarray(floats).save(tmp_path / "b.tif")
    with Image.open(tmp_path / "a.png") as file:
        assert file.mode.startswith("I")
    with Image.open(tmp_path / "b.tif") as file:
        assert file.mode == "F"
    forms = [tmp_path / "a.png", tmp_path / "a.tif", tmp_path / "b.tif", deep, deep.astype(">u2"),
             floats, Image.fromarray(deep), Image.fromarray(floats),
             Image.fromarray(grey).convert("I"), deep[..., None]]  # fmt: skip
    for form in forms:
        np.testing.assert_array_equal(ours(form), expected)
    colours = pixels(20, 30)
    np.testing.assert_array_equal(ours(colours.astype("uint16") * 257), ours(colours))
    # What has no range of its own is refused, not cut off.
    Image.fromarray(floats * 255).save(tmp_path / "c.tif")
    for form in (tmp_path / "c.tif", Image.fromarray(deep.astype("int32")), deep.astype("int32")):
        with pytest.raises(ValueError, match=r"floats from 0 to 1, got \w+ from 0"):
            ours(form)


def test_deep_images_and_masks_of_a_pipeline(tmp_path):
    grey = pixels(8, 8)[..., 0]
    deep = np.stack([grey] * 3, -1).astype("uint16") * 257
    np.testing.assert_allclose(load_images(deep, 1), load_images(deep / 65535, 1), atol=1e-6)
    Image.fromarray(deep[..., 0]).save(tmp_path / "a.png")
    np.testing.assert_allclose(load_images(tmp_path / "a.png", 1), load_images(deep, 1), atol=1e-6)
    mask = (grey > 127).astype("float32")
    for form in (grey, deep[..., 0], tmp_path / "a.png", mask.astype("uint16")):
        np.testing.assert_array_equal(load_masks(form, (1, 8, 8))[0, ..., 0], mask)


def test_tensors(backend):
    import keraslite as keras

    ours = hub.ImagePreprocessor("ViT", size=8)
    array = pixels(9, 12)
    np.testing.assert_array_equal(ours(keras.ops.convert_to_tensor(array)), ours(array))


WRONG = [
    ([], ValueError, "Expected images: .*got none"),
    (5, TypeError, "got int"),
    ({"a": 1}, TypeError, "got dict"),
    (b"abc", ValueError, "Image 0: Pillow cannot read the bytes: it is no image"),
    (io.BytesIO(b"abc"), ValueError, "Image 0: Pillow cannot read a file"),
    (np.zeros((3, 20, 20)), ValueError, r"channels last; got an array of shape \(3, 20, 20\)"),
    (np.zeros((2, 3, 4, 4, 3)), ValueError, r"shape \(2, 3, 4, 4, 3\)"),
    (np.zeros((0, 4, 3)), ValueError, "must have pixels"),
    (
        [np.zeros((4, 4, 3)), np.full((4, 4, 3), 99.0)],
        ValueError,
        "Image 1 must have .*got float64 from 99.0 to 99.0: divide by 255",
    ),
    (np.full((4, 4, 3), np.nan), ValueError, "floats from 0 to 1"),
    (np.full((4, 4, 3), 256), ValueError, "int64 from 256 to 256"),
    (np.full((4, 4, 3), -0.5), ValueError, r"from -0\.5"),
    (np.zeros((4, 4, 3), bool), ValueError, "bool"),
    ([[1, 2]], ValueError, "Image 0 must be a path.*got list"),
    ("https://a.b/c.png", ValueError, "download it"),
    ("/nowhere/a.png", FileNotFoundError, "Image 0: there is no file /nowhere/a.png"),
]


@pytest.mark.parametrize(("given", "error", "problem"), WRONG)
def test_bad_images(given, error, problem):
    with pytest.raises(error, match=problem):
        hub.ImagePreprocessor("CLIP", size=4, crop_size=4)(given)


def test_encoded_images(tmp_path):
    ours = hub.ImagePreprocessor("ViT", size=8)
    Image.fromarray(pixels(9, 12)).save(tmp_path / "a.png")
    expected, content = ours(tmp_path / "a.png"), (tmp_path / "a.png").read_bytes()
    np.testing.assert_array_equal(ours(content), expected)
    np.testing.assert_array_equal(ours(io.BytesIO(content)), expected)
    with open(tmp_path / "a.png", "rb") as file:
        np.testing.assert_array_equal(ours([content, file]), np.concatenate([expected] * 2))


@pytest.mark.parametrize("ending", ["gif", "webp", "tif"])
def test_the_first_picture_of_several_counts(ending, tmp_path):
    first, second = (Image.new("RGB", (12, 9), colour) for colour in ("#ff0000", "#0000ff"))
    first.save(tmp_path / f"a.{ending}", save_all=True, append_images=[second])
    ours = hub.ImagePreprocessor("ViT", size=8)
    np.testing.assert_allclose(ours(tmp_path / f"a.{ending}"), ours(first), atol=0.02)


def test_bad_files(tmp_path):
    ours = hub.ImagePreprocessor("CLIP", size=4, crop_size=4)
    (tmp_path / "a.png").write_text("no image")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=r"Pillow cannot read .*a\.png"):
        ours([tmp_path / "a.png"])
    Image.fromarray(pixels(50, 50)).save(tmp_path / "b.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:900])
    with pytest.raises(ValueError, match=r"Pillow cannot read .*b\.png: .*truncated"):
        ours(tmp_path / "b.png")
    with pytest.raises(IsADirectoryError, match="folder"):
        ours(tmp_path / "folder")
    with pytest.raises(FileNotFoundError, match=r"preprocessor_config\.json"):
        hub.ImagePreprocessor.from_files(resolve(tmp_path))


def test_sizes_that_make_no_batch():
    ours = hub.ImagePreprocessor("CLIP", size=6, do_center_crop=False)
    assert ours(pixels(6, 9)).shape == (1, 6, 9, 3)
    with pytest.raises(ValueError, match=r"must have the same size, got \[\(6, 9\), \(9, 6\)\]"):
        ours([pixels(6, 9), pixels(9, 6)])


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"size": {"longest_edge": 9}}, "size must be .*got .*longest_edge"),
        ({"size": 0}, "size must be .*got .*: 0"),
        ({"size": "large"}, "size must be .*got 'large'"),
        ({"crop_size": {"shortest_edge": 9}}, "must have a height and a width"),
        ({"resample": 9}, "resample must be one of .*got 9"),
        ({"image_processor_type": "OtherImageProcessor"}, "OtherImageProcessor is not supported"),
        ({"do_pad": True}, "do_pad"),
    ],
)
def test_bad_settings(config, problem):
    with pytest.raises(ValueError, match=problem):
        hub.ImagePreprocessor.from_config(config)


def test_bad_arguments():
    with pytest.raises(ValueError, match="processor must be one of .*got 'Clip'"):
        hub.ImagePreprocessor("Clip")
    with pytest.raises(ValueError, match=r"Settings must be among .*got \['sizes'\]"):
        hub.ImagePreprocessor(sizes=3)
    with pytest.raises(ValueError, match="crop_mode must be 'center', 'squash' or 'border', got"):
        hub.ImagePreprocessor("timm", crop_mode="edge")
    with pytest.raises(ValueError, match="KerasHub cannot resize images to {'max_height': 256"):
        converter_config(hub.ImagePreprocessor("timm", crop_mode="border"))
    ours = hub.ImagePreprocessor(do_convert_rgb=False, size=4, crop_size=4)
    assert ours(pixels(4, 4)).shape == (1, 4, 4, 3)
    with pytest.raises(ValueError, match="mode 'L'"):
        ours(pixels(4, 4)[..., 0])
