"""Data of detection: the letterbox, the forms that are read, broken data, batches, augmentation."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import hub
import keraslite as keras
from hub.preprocessing.detection_batches import padded_boxes
from hub.preprocessing.detection_data import as_detection_data
from hub.preprocessing.letterbox import letterbox
from hub.presets import resolve

NAMES = ["cat", "dog"]
# Of each picture its height and width, and the class and the corners of each object.
PICTURES = {
    "a.png": ((40, 60), [(0, (6, 8, 30, 20)), (1, (0, 0, 60, 40))]),
    "b.png": ((30, 20), [(1, (5, 3, 15, 27))]),
    "c.png": ((24, 24), []),
}


def draw(size, objects=()):
    """A noisy picture, dark but for a bright dot in the first and the last pixel of each box."""
    pixels = np.random.default_rng(0).integers(0, 40, (*size, 3), "uint8")
    for _, (x1, y1, x2, y2) in objects:
        pixels[y1, x1] = pixels[y2 - 1, x2 - 1] = 255
    return pixels


def write_pictures(folder):
    folder.mkdir(parents=True)
    for name, (size, objects) in PICTURES.items():
        Image.fromarray(draw(size, objects)).save(folder / name)


def assert_data(data, names=NAMES):
    assert (data.class_names, len(data)) == (names, 3)
    for i, ((picture, objects), (size, expected)) in enumerate(
        zip(data, PICTURES.values(), strict=True)
    ):
        np.testing.assert_array_equal(picture, draw(size, expected))
        assert objects["labels"].tolist() == [label for label, _ in expected]
        assert objects["boxes"].shape == (len(expected), 4)
        want = np.reshape([box for _, box in expected], (-1, 4))
        np.testing.assert_allclose(objects["boxes"], want, atol=1e-4)
        np.testing.assert_array_equal(data[i][1]["boxes"], objects["boxes"])


# -- the letterbox -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "options", "shape", "inner"),
    [
        ((480, 640), {}, (64, 64), (48, 64)),
        ((31, 50), {}, (64, 64), (40, 64)),
        ((31, 50), {"upscale": False}, (64, 64), (31, 50)),
        ((31, 50), {"upscale": False, "stride": 16}, (32, 64), (31, 50)),
        ((100, 33), {"stride": 32}, (64, 32), (64, 21)),
        ((1, 500), {"stride": 32}, (32, 64), (1, 64)),
    ],
)
def test_a_letterbox_keeps_the_aspect_and_knows_the_way_back(size, options, shape, inner):
    picture = Image.fromarray(np.full((*size, 3), 250, "uint8"))
    pixels, place = letterbox(picture, (64, 64), **options)
    assert pixels.shape == (*shape, 3)
    rows, columns = np.nonzero(pixels[..., 0] != 114)
    assert (rows.min(), columns.min()) == (place.top, place.left)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == inner
    borders = [whole - part for whole, part in zip(shape, inner, strict=True)]
    assert (place.top, place.left) == tuple(round(b / 2 - 0.1) for b in borders)
    whole = [0, 0, size[1], size[0]]
    edges = [place.left, place.top, place.left + inner[1], place.top + inner[0]]
    np.testing.assert_allclose(place.to_input([whole]), [edges], atol=1e-4)
    points = np.random.default_rng(1).random((5, 2, 2)) * (size[1], size[0])
    boxes = np.sort(points, axis=1).reshape(5, 4)
    np.testing.assert_allclose(place.to_picture(place.to_input(boxes)), boxes, atol=1e-3)
    np.testing.assert_allclose(place.to_picture([[-99, -99, 999, 999]]), [whole])


@pytest.mark.parametrize(("size", "factor"), [((40, 60), 1.5), ((60, 45), 0.75), ((96, 60), 4)])
def test_pixels_stay_where_the_way_back_says(size, factor):
    """A ramp of brightness has the values of the points that the way back leads to."""
    ramp = np.broadcast_to(np.arange(size[1])[None, :, None] * 2.0 + 20, (*size, 3))
    box = tuple(round(side / factor) for side in size)
    pixels, place = letterbox(Image.fromarray(ramp.astype("uint8")), box)
    columns = np.arange(place.left + 2, box[1] - place.left - 2)
    points = np.stack([columns + 0.5, columns * 0 + 1, columns + 0.5, columns * 0 + 1], axis=1)
    wanted = (place.to_picture(points)[:, 0] - 0.5) * 2 + 20
    np.testing.assert_allclose(pixels[box[0] // 2, columns, 0], wanted, atol=1.01)


def test_the_preprocessor_takes_pictures_of_any_sizes(tmp_path):
    write_pictures(tmp_path / "images")
    preprocessor = hub.DetectionPreprocessor((64, 96))
    pictures = [tmp_path / "images" / "a.png", np.ones((30, 20)), Image.new("L", (9, 9))]
    inputs, places = preprocessor(pictures)
    assert inputs.shape == (3, 64, 96, 3)
    assert inputs.dtype == np.float32
    assert inputs[1].max() == 1
    np.testing.assert_allclose(inputs[1, 0, 0], 114 / 255)
    assert [(p.height, p.width) for p in places] == [(40, 60), (30, 20), (9, 9)]
    preprocessor.save(tmp_path)
    again = hub.DetectionPreprocessor.from_files(resolve(tmp_path))
    assert again.get_config() == preprocessor.get_config()
    (tmp_path / "preprocessor_config.json").unlink()
    assert hub.DetectionPreprocessor.from_files(resolve(tmp_path)).size == (640, 640)
    np.testing.assert_array_equal(again(pictures)[0], inputs)
    narrow = hub.DetectionPreprocessor(64, rectangular=True)
    assert narrow(pictures[:1])[0].shape == (1, 64, 64, 3)  # 43 rows
    assert narrow(np.zeros((60, 128, 3), "uint8"))[0].shape == (1, 32, 64, 3)
    assert narrow([np.ones((60, 128)), np.ones((128, 60))])[0].shape == (2, 64, 64, 3)
    for options, message in (
        ({"size": 50}, "size must be a multiple of the stride, 32"),
        ({"stride": 0}, "stride must be a positive int"),
        ({"pad_value": 300}, "pad_value must be"),
    ):
        with pytest.raises(ValueError, match=message):
            hub.DetectionPreprocessor(**options)
    with pytest.raises(ValueError, match=r"got \['crop'\]"):
        hub.DetectionPreprocessor.from_config({"crop": 1})


# -- the forms that are read -------------------------------------------------------------------


def yolo(folder, change=None):
    write_pictures(folder / "images" / "train")
    (folder / "labels" / "train").mkdir(parents=True)
    for name, (size, objects) in PICTURES.items():
        lines = []
        for label, box in objects:
            numbers = keras.utils.bounding_boxes.convert_format(
                np.float32(box), "xyxy", "rel_center_xywh", *size
            )
            lines.append(f"{label} " + " ".join(map(repr, np.asarray(numbers).tolist())))
        if lines:
            file = (folder / "labels" / "train" / name).with_suffix(".txt")
            file.write_text("\n".join(lines) + "\n\n")
    text = "path: .\ntrain: images/train\nnames: {0: cat, 1: dog}\nnc: 2\n"
    (folder / "data.yaml").write_text(change(text) if change else text)
    return folder / "data.yaml"


def test_yolo(tmp_path):
    file = yolo(tmp_path)
    assert_data(hub.DetectionDataset.from_yolo(file))
    assert_data(as_detection_data(str(tmp_path)))
    content = {
        "names: {0: cat, 1: dog}": "names: [cat, dog]",
        "path: .\n": "path: /datasets/of/another/machine\n",
        "train: images/train": "train: ../images/train",
    }
    text = file.read_text()
    for old, new in content.items():
        text = text.replace(old, new)
    file.write_text(text)
    assert_data(hub.DetectionDataset.from_yolo(file))
    (tmp_path / "list.txt").write_text("./images/train/a.png\nimages/train/b.png\n")
    file.write_text("train: [list.txt, 'images/train/c.*']\nnc: 2\n")
    assert_data(hub.DetectionDataset.from_yolo(file), ["0", "1"])
    (tmp_path / "labels" / "train" / "b.txt").rename(tmp_path / "images" / "train" / "b.txt")
    assert_data(hub.DetectionDataset.from_yolo(file), ["0", "1"])  # beside the picture
    polygon = "1 0.1 0.2 0.5 0.2 0.5 0.9 0.3 0.5"
    (tmp_path / "labels" / "train" / "c.txt").write_text(polygon)
    objects = hub.DetectionDataset.from_yolo(file)[2][1]
    np.testing.assert_allclose(objects["boxes"], [[2.4, 4.8, 12, 21.6]], rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [a]\ntrain: images/train\nnc: 3", "nc must be the number of names, 1, got 3"),
        ("train: images/train", "names must be a list"),
        ("names: [a]\nval: images/train", r"no part 'train', it has \['val'\]"),
        ("names: [a]\ntrain: pictures", "no folder or list of pictures"),
        ("names: [a\n", "is no YAML"),
        ("[1]", "must have entries"),
    ],
)
def test_a_broken_yaml(text, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        hub.DetectionDataset.from_yolo(yolo(tmp_path, lambda _: text))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2", "expected a class number and four numbers"),
        ("0 0.5 0.5 0.2 x", "could not convert string to float: 'x'"),
        ("0.5 0.5 0.5 0.2 0.2", "must be a whole number from 0 on, got '0.5'"),
        ("7 0.5 0.5 0.2 0.2", "the class must be a number from 0 to 1, got 7"),
        ("0 30 20 12 8", r"numbers from 0 to 1, got \[30, 20, 12, 8\]"),
        ("0 0.5 0.5 0 0.2", "must have a positive width and height"),
        ("0 0.5 0.5 0.3 -0.2", "numbers from 0 to 1"),
        ("0 nan 0.5 0.2 0.2", "must have finite numbers"),
    ],
)
def test_a_broken_label_line_is_named_or_left_out(line, message, tmp_path):
    file = yolo(tmp_path)
    label_file = tmp_path / "labels" / "train" / "a.txt"
    lines = label_file.read_text().splitlines()
    label_file.write_text("\n".join([lines[0], "", line, lines[1]]))
    place = re.escape(f"{label_file}, line 3: ")
    with pytest.raises(ValueError, match=f"{place}.*{message}"):
        hub.DetectionDataset.from_yolo(file)
    with pytest.warns(UserWarning, match=f"{place}.*{message}") as caught:
        data = hub.DetectionDataset.from_yolo(file, on_error="skip")
    assert len(caught) == 1
    assert_data(data)


def test_boxes_are_cut_off_at_the_edges(tmp_path):
    file = yolo(tmp_path)
    (tmp_path / "labels" / "train" / "b.txt").write_text("1 0.9 0.5 0.4 0.5\n0 1.004 .5 .002 .1")
    objects = hub.DetectionDataset.from_yolo(file)[1][1]
    np.testing.assert_allclose(objects["boxes"], [[14, 7.5, 20, 22.5]], rtol=1e-5)
    assert objects["labels"].tolist() == [1]


def coco():
    images, annotations = [], []
    for i, (name, (size, objects)) in enumerate(PICTURES.items()):
        images.append({"id": 10 * i, "file_name": name, "height": size[0], "width": size[1]})
        for label, (x1, y1, x2, y2) in objects:
            annotations.append({
                "id": len(annotations), "image_id": 10 * i, "category_id": (3, 90)[label],
                "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": int(label == 1),
            })  # fmt: skip
    categories = [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}]
    return {"images": images, "annotations": annotations[::-1], "categories": categories}


def test_coco(tmp_path):
    write_pictures(tmp_path / "train2017")
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations" / "instances_train2017.json"
    content = coco()
    content["annotations"].sort(key=lambda row: row["id"])
    file.write_text(json.dumps(content))
    data = as_detection_data(str(file))
    assert_data(data)
    assert data[0][1]["ignored"].tolist() == [False, True]
    content["annotations"][1] |= {"bbox": [1, 2, 0, 4]}
    content["annotations"][2] |= {"category_id": 7}
    content["annotations"].append({"id": 5, "image_id": 0, "category_id": 3})
    content["images"].append({"id": 1, "file_name": "missing.png"})
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"instances_train2017.json, annotation 2: .*category_id"):
        hub.DetectionDataset.from_coco(file)
    with pytest.warns(UserWarning, match="Left out") as caught:
        data = hub.DetectionDataset.from_coco(file, tmp_path / "train2017", on_error="skip")
    message = str(caught[0].message)
    for part in (
        "annotation 2: there is no category_id 7", "annotation 5: it has no bbox",
        "annotation 1: a box must have a positive width", "There is no picture", "missing.png",
    ):  # fmt: skip
        assert part in message
    assert [len(objects["labels"]) for _, objects in data] == [1, 0, 0]
    (tmp_path / "train2017").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="say where they are"):
        hub.DetectionDataset.from_coco(file)


def voc(folder):
    write_pictures(folder / "JPEGImages")
    (folder / "Annotations").mkdir()
    for name, (_, objects) in PICTURES.items():
        rows = [
            f"<object>\n<name>{NAMES[label]}</name><difficult>{label}</difficult>\n<bndbox>"
            f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
            "</bndbox></object>\n"
            for label, (x1, y1, x2, y2) in objects
        ]
        text = f"<annotation>\n<filename>{name}</filename>\n{''.join(rows)}</annotation>"
        (folder / "Annotations" / name).with_suffix(".xml").write_text(text)
    return folder


def test_pascal_voc(tmp_path):
    folder = voc(tmp_path)
    data = as_detection_data(str(folder))
    assert_data(data)
    assert data[0][1]["ignored"].tolist() == [False, True]
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "val.txt").write_text("b 1\n")
    part = as_detection_data(folder, "val", class_names=["dog", "cat"])
    assert (len(part), part[0][1]["labels"].tolist()) == (1, [0])
    with pytest.raises(ValueError, match=r"a.xml, line 3: the class must be one of \['dog'\]"):
        hub.DetectionDataset.from_voc(folder, class_names=["dog"])
    file = folder / "Annotations" / "b.xml"
    sound = file.read_text()
    for old, new, message in (
        ("<bndbox>", "<box>", "line 5: no XML"),
        ("<ymin>4</ymin>", "", "line 3: <bndbox> has no <ymin>"),
        ("<ymin>4</ymin>", "<ymin>?</ymin>", "line 3: could not convert"),
        ("<ymin>4</ymin>", "<ymin>99</ymin>", "line 3: a box must have a positive width"),
        ("<annotation>", '<!DOCTYPE a [<!ENTITY b "c">]>\n<annotation>', "line 1: entities are"),
    ):
        file.write_text(sound.replace(old, new))
        with pytest.raises(ValueError, match=f"b.xml, {message}"):
            hub.DetectionDataset.from_voc(folder)
        with pytest.warns(UserWarning, match=r"b\.xml"):
            hub.DetectionDataset.from_voc(folder, on_error="skip")


@pytest.mark.parametrize("name", sorted(keras.ops.bounding_boxes.FORMATS))
def test_arrays_in_every_format(name, backend):
    images = [draw(*row) for row in PICTURES.values()]
    boxes, labels = np.zeros((3, 2, 4), "float32"), np.full((3, 2), -1)
    for i, ((height, width), objects) in enumerate(PICTURES.values()):
        for j, (label, box) in enumerate(objects):
            row = keras.utils.bounding_boxes.convert_format(
                np.float32(box), "xyxy", name, height, width
            )
            boxes[i, j], labels[i, j] = np.asarray(keras.ops.convert_to_numpy(row)), label
    tensors = {"boxes": keras.ops.convert_to_tensor(boxes), "classes": labels}
    data = as_detection_data({"images": images, "bounding_boxes": tensors}, "train", name, NAMES)
    assert_data(data)


class Samples:
    """A data set that is read by numbers, as PyTorch's are."""

    def __init__(self):
        self.reads = 0

    def __len__(self):
        return len(PICTURES)

    def __getitem__(self, index):
        self.reads += 1
        size, objects = list(PICTURES.values())[index]
        boxes = [box for _, box in objects]
        return draw(size, objects), {"boxes": boxes, "labels": [label for label, _ in objects]}


class Batches(Samples):
    """Batches that are read by numbers."""

    def __getitem__(self, index):
        return np.zeros((2, 4, 4, 3)), {"boxes": np.zeros((2, 0, 4)), "labels": np.zeros((2, 0))}


def test_samples_of_any_iterable():
    samples = Samples()
    lazy = hub.DetectionDataset.from_samples(samples, class_names=NAMES)
    assert samples.reads == 3
    assert_data(lazy)
    assert_data(hub.DetectionDataset.from_samples((x for x in samples), class_names=NAMES))
    dicts = [{"images": x, "bounding_boxes": y} for x, y in (samples[i] for i in range(3))]
    assert_data(hub.DetectionDataset.from_samples(dicts), ["0", "1"])
    padded = {
        "images": np.stack([draw((9, 9)) for _ in PICTURES]),
        "bounding_boxes": {
            "boxes": np.float32([[[1, 1, 3, 3]] * 2] * 3),
            "labels": np.int32([[0, 1], [1, -1], [-1, -1]]),
        },
    }
    stream = tf.data.Dataset.from_tensor_slices(padded)
    for batched in (stream, stream.batch(2)):
        data = hub.DetectionDataset.from_samples(batched)
        assert [x["labels"].tolist() for _, x in data] == [[0, 1], [1], []]
        np.testing.assert_array_equal(data[0][0], padded["images"][0])
    with pytest.raises(ValueError, match="of one image each"):
        hub.DetectionDataset.from_samples(Batches())
    for sample, message in (
        (np.zeros((4, 4, 3)), "Sample 0 must be an image and a dict"),
        ((np.zeros((4, 4, 3)), {"boxes": []}), 'must be a dict of "boxes" and "labels"'),
        ((np.zeros((4, 4, 3)), {"boxes": [[1, 2, 3]], "labels": [1]}), "Picture 0: boxes must be"),
        ((np.zeros((4, 4, 3)), {"boxes": [[1, 1, 2, 2]], "labels": [-3]}), "Picture 0, box 0: the"),
        ((np.zeros((4, 4, 3)), {"boxes": [[1, 1, 2, 2]], "labels": [0.5]}), "class numbers"),
        (
            (np.zeros((4, 4, 3)), {"boxes": [[0, 0.1, 1, 1]], "labels": [0]}),
            "is their format 'rel_",
        ),
        ((np.zeros((4, 4, 3)), {"boxes": [[3, 1, 2, 2]], "labels": [0]}), "a positive width"),
    ):
        with pytest.raises(ValueError, match=message):
            hub.DetectionDataset.from_samples([sample])
    with pytest.raises(ValueError, match="format of the boxes must be set"):
        as_detection_data(dicts)
    with pytest.raises(TypeError, match="got int"):
        as_detection_data(5)
    with pytest.raises(ValueError, match=r"There is no picture|got none"):
        hub.DetectionDataset.from_samples([])


def test_a_picture_that_cannot_be_read(tmp_path):
    file = yolo(tmp_path)
    data = hub.DetectionDataset.from_yolo(file)
    (tmp_path / "images" / "train" / "b.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"Pillow cannot read .*b.png"):
        list(data)
    skipping = hub.DetectionDataset.from_yolo(file, on_error="skip")
    with pytest.warns(UserWarning, match=r"b.png.*It is left out"):
        assert len(list(skipping)) == 2
    with pytest.warns(UserWarning, match=r"b.png"):
        sizes = [len(x) for x, _ in skipping.batches(2, hub.DetectionPreprocessor(32))]
    assert sizes == [1, 1]


# -- batches and augmentation ------------------------------------------------------------------


def test_batches_have_inputs_and_boxes_of_one_form():
    data = hub.DetectionDataset.from_samples(Samples())
    batches = data.batches(2, hub.DetectionPreprocessor(64, upscale=False))
    (x, y), (rest, none) = batches
    assert (len(batches), x.shape, rest.shape) == (2, (2, 64, 64, 3), (1, 64, 64, 3))
    assert y["labels"].tolist() == [[0, 1] + [-1] * 6, [1] + [-1] * 7]
    assert (none["labels"] == -1).all()
    for row, labels, boxes in zip(x, y["labels"], y["boxes"], strict=True):
        for x1, y1, x2, y2 in boxes[labels >= 0].round().astype(int):
            assert row[y1, x1, 0] == row[y2 - 1, x2 - 1, 0] == 1
    crowd = {"boxes": np.zeros((9, 4)), "labels": np.zeros(9), "ignored": np.arange(9) > 7}
    assert padded_boxes([crowd])["labels"].tolist() == [[0] * 8 + [-3] + [-1] * 7]
    parts = data.split(0.3)
    assert [len(part) for part in parts] == [2, 1]
    sizes = [picture.shape for part in parts for picture, _ in part]
    assert sorted(sizes) == sorted(picture.shape for picture, _ in data)
    assert parts[1].source(0).shape == parts[1][0][0].shape


def dotted(label, size=64):
    """A dark picture with a bright square in each of two corners of its only box."""
    pixels = np.zeros((size, size, 3), "uint8")
    x1, y1, x2, y2 = box = (16, 12, 48, 52)
    pixels[y1 : y1 + 4, x1 : x1 + 4] = pixels[y2 - 4 : y2, x2 - 4 : x2] = 255
    return pixels, {"boxes": [box], "labels": [label]}


@pytest.mark.parametrize(
    ("options", "closed"),
    [
        ({}, False),
        ({}, True),
        ({"mosaic": 0.0, "scale": 0.2, "flip": 1.0}, False),
        ({"mosaic": 0.0, "scale": 0.0, "degrees": 90.0, "translate": 0.0}, False),
        ({"shear": 15.0, "hue": 0.0, "saturation": 0.0, "value": 0.0}, False),
        ({"mixup": 1.0, "scale": 0.1}, False),
    ],
)
def test_boxes_go_along_with_what_they_are_around(options, closed):
    """Each box whole in the picture has bright pixels near two of its sides, and none beyond."""
    augment = hub.DetectionAugment(fill=0, **options)
    checked = 0
    for seed in range(40):
        count = augment.pictures(seed, closed)
        samples = [dotted(i) for i in range(count)]
        pixels, objects = augment(samples, seed, (64, 64), closed)
        assert pixels.shape == (64, 64, 3)
        assert pixels.dtype == np.uint8
        again, same = augment(samples, seed, (64, 64), closed)
        np.testing.assert_array_equal(pixels, again)
        np.testing.assert_array_equal(objects["boxes"], same["boxes"])
        bright = pixels.max(-1) > 30
        covered = np.zeros_like(bright)
        for x1, y1, x2, y2 in objects["boxes"]:
            assert 0 <= x1 < x2 <= 64
            assert 0 <= y1 < y2 <= 64
            rows, columns = slice(int(y1), int(y2) + 1), slice(int(x1), int(x2) + 1)
            covered[max(int(y1) - 1, 0) : int(y2) + 2, max(int(x1) - 1, 0) : int(x2) + 2] = True
            whole = min(x1, y1) > 0 and max(x2, y2) < 64
            straight = not (augment.degrees or augment.shear)
            if whole and straight and count < 5 and (x2 - x1) * (y2 - y1) > 300:
                y, x = np.nonzero(bright[rows, columns])
                if len(objects["boxes"]) == 1:  # boxes that were cut off at a tile have one dot
                    np.testing.assert_allclose(
                        [x.min(), y.min(), x.max() + 1, y.max() + 1],
                        [0, 0, x2 - int(x1), y2 - int(y1)], atol=1.6,
                    )  # fmt: skip
                    checked += 1
        lost = bright & ~covered
        # What is outside of all boxes belongs to one of which less than a tenth is left.
        assert lost.sum() <= 40, (seed, lost.sum())
    if not (augment.degrees or augment.shear) and (closed or not augment.mosaic):
        assert checked > 5


def test_augmented_batches_follow_from_the_seed_and_close():
    data = hub.DetectionDataset.from_samples([dotted(i % 3) for i in range(8)], workers=2)
    options = {"preprocessor": hub.DetectionPreprocessor(32), "shuffle": True, "seed": 3}
    first = data.batches(3, augment=hub.DetectionAugment(), **options)
    second = data.batches(3, augment=hub.DetectionAugment(), cache_megabytes=0, **options)
    for epoch in (0, 1):
        for (x, y), (again, same) in zip(first.epoch(epoch), second.epoch(epoch), strict=True):
            np.testing.assert_array_equal(x, again)
            np.testing.assert_array_equal(y["boxes"], same["boxes"])
    assert (next(first.epoch(0))[0] != next(first.epoch(1))[0]).any()
    closing = data.batches(8, augment=hub.DetectionAugment(scale=0.0), closing_epoch=1, **options)
    longest = [(next(closing.epoch(n))[1]["labels"] >= 0).sum(1).max() for n in (0, 1)]
    assert longest[0] > 1 == longest[1]
    narrow = hub.DetectionPreprocessor(32, rectangular=True)
    with pytest.raises(ValueError, match="must not be rectangular"):
        data.batches(2, narrow, hub.DetectionAugment())
    with pytest.raises(ValueError, match="batch_size must be"):
        data.batches(0)
    for name, value in (("mosaic", 2), ("scale", 1), ("degrees", -1), ("fill", 300)):
        with pytest.raises(ValueError, match=f"{name} must be a number from 0 to"):
            hub.DetectionAugment(**{name: value})
    with pytest.raises(ValueError, match="Expected 4 samples, got 1"):
        hub.DetectionAugment()([dotted(0)], 0, (64, 64))
