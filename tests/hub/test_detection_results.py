"""Results of detection: drawn, cropped, as tables; and the pictures that are looked at."""

import json
import sys
import tracemalloc

import numpy as np
import pandas
import pytest
from PIL import Image

import keraslite as keras
from hub.detection.metrics import DetectionConfusionMatrix, MeanAveragePrecision
from hub.detection.pictures import color_of, draw_detections, plot_curves, plot_detection_confusion
from hub.detection.results import Results
from hub.detection.sources import read_pictures

BOXES = np.array([[20.0, 30, 60, 70], [0, 40, 50, 80], [90, 5, 119, 79]], "float32")
NAMES = ["person", "car"]


def results(**options):
    options = {"picture": np.full((80, 120, 3), 100, "uint8"), **options}
    return Results(BOXES, [0.9, 0.6, 0.3], [0, 1, 0], NAMES, **options)


def read(path):
    with Image.open(path) as image:
        return image.copy()


def test_what_a_result_says():
    found = results(path="folder/street.jpg")
    assert repr(found) == "street.jpg: 2 person, 1 car"
    assert len(found) == 3
    assert [item.name for item in found] == ["person", "car", "person"]
    assert found[1].box == (0.0, 40.0, 50.0, 80.0)
    assert found[-1].score == pytest.approx(0.3)
    sure = found[found.scores > 0.5]
    assert (repr(sure), sure.size) == ("street.jpg: 1 person, 1 car", (80, 120))
    assert repr(found[:0]) == "street.jpg: no detections"
    assert Results(BOXES[:1], [0.5], [7], NAMES)[0].name == "7"
    with pytest.raises(ValueError, match="3 boxes, 2 scores and 3 labels"):
        Results(BOXES, [0.9, 0.6], [0, 1, 0])
    with pytest.raises(ValueError, match="has no pixels"):
        Results(BOXES[:1], [0.9], [0]).plot()


def test_tensors_of_every_backend(backend):
    tensors = map(keras.ops.convert_to_tensor, (BOXES, [0.9, 0.6, 0.3], [0, 1, 0]))
    found = Results(*tensors, names={0: "person", 1: "car"}, size=(80, 120))
    assert (found.boxes.dtype, found.scores.dtype) == (np.float32, np.float32)
    assert found.to_dict() == {**results().to_dict(), "picture": "picture.jpg"}
    expected = keras.ops.convert_to_numpy(
        keras.utils.bounding_boxes.convert_format(BOXES, "xyxy", "rel_xywh", 80, 120)
    )
    np.testing.assert_allclose(found.in_format("rel_xywh"), expected, rtol=1e-6)
    np.testing.assert_array_equal(found.in_format("yxyx"), BOXES[:, [1, 0, 3, 2]])


def test_tables():
    values = json.loads(json.dumps(results(path="a/street.jpg").to_dict()))
    assert (values["picture"], values["height"], values["width"]) == ("street.jpg", 80, 120)
    assert values["detections"][1] == {
        "box": [0, 40, 50, 80], "score": pytest.approx(0.6), "label": 1, "name": "car",
    }  # fmt: skip
    table = results().to_pandas()
    assert list(table.columns) == ["name", "label", "score", "x1", "y1", "x2", "y2"]
    assert table.query("name == 'person'").x2.tolist() == [60, 119]
    assert isinstance(table, pandas.DataFrame)
    assert len(results()[:0].to_pandas()) == 0


def test_without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        results().to_pandas()


def test_boxes_are_drawn_at_their_borders():
    image = np.asarray(results().plot())
    for x1, _, x2, y2 in BOXES.astype(int).tolist()[::2]:
        # Two lines wide, within the box.
        for y, x in ((y2 - 1, x1), (y2 - 2, x2 - 1), (y2 - 1, (x1 + x2) // 2)):
            assert tuple(image[y, x]) == color_of(0)
    assert tuple(image[50, 40]) == (100, 100, 100)
    assert tuple(image[70, 60]) == (100, 100, 100)  # just outside
    assert (image[30:70, 90:92] == color_of(0)).all()


@pytest.mark.parametrize("side", [64, 640, 2560])
def test_texts_are_legible_and_grow_with_the_picture(side):
    box = np.array([[side * 0.2, side * 0.4, side * 0.9, side * 0.9]])
    plain = draw_detections(np.zeros((side, side, 3), "uint8"), box, [2])
    named = draw_detections(np.zeros((side, side, 3), "uint8"), box, [2], ["person"])
    changed = (np.asarray(plain) != np.asarray(named)).any(-1)
    rows, columns = np.nonzero(changed)
    assert rows.max() < side * 0.4  # above the box
    height = rows.max() - rows.min() + 1
    assert max(11, side / 40) <= height <= max(24, side / 18)
    # Letters against their plate, by the contrast of WCAG.
    plate = np.array(color_of(2)) / 255
    linear = np.where(plate <= 0.04045, plate / 12.92, ((plate + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    assert (np.asarray(named)[changed] == 255).all(-1).any()  # white letters on blue
    assert 1.05 / (luminance + 0.05) > 3


def test_texts_stay_in_the_picture():
    corners = np.array([[0.0, 0, 30, 30], [95, 60, 99, 99]])
    plain = np.asarray(draw_detections(np.zeros((100, 100, 3), "uint8"), corners, [0, 1]))
    named = np.asarray(
        draw_detections(np.zeros((100, 100, 3), "uint8"), corners, [0, 1], ["cat", "tower"])
    )
    for color, region in ((0, np.s_[:30, :60]), (1, np.s_[40:62, 40:])):
        plate = (named[region] == color_of(color)).all(-1).sum()
        assert plate > (plain[region] == color_of(color)).all(-1).sum() + 100


def test_a_result_is_written(tmp_path):
    path = results(name="frame.png").save(f"{tmp_path}/out/")
    assert path == f"{tmp_path}/out/frame.png"
    np.testing.assert_array_equal(np.asarray(read(path)), np.asarray(results().plot()))
    assert results().save(tmp_path / "deep" / "a.jpg", scores=False).endswith("a.jpg")
    assert read(tmp_path / "deep" / "a.jpg").size == (120, 80)


def test_crops(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype="uint8")
    boxes = [[20.4, 30, 59.5, 70], [110, 70, 200, 200], [130, -5, 140, -1]]
    found = Results(boxes, [0.9, 0.8, 0.7], [0, 1, 1], ["person", "a/b"], pixels, name="x.png")
    crops = found.crop(tmp_path)
    np.testing.assert_array_equal(np.asarray(crops[0]), pixels[30:70, 20:60])
    np.testing.assert_array_equal(np.asarray(crops[1]), pixels[70:, 110:])
    assert crops[2].size == (1, 1)  # outside
    written = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png"))
    assert written == ["a_b/x_1.png", "a_b/x_2.png", "person/x_0.png"]
    np.testing.assert_array_equal(np.asarray(read(tmp_path / written[2])), pixels[30:70, 20:60])


def test_pictures_of_metrics(tmp_path):
    metric, confusion = MeanAveragePrecision(), DetectionConfusionMatrix(2)
    y_true = [{"boxes": BOXES, "labels": np.array([0, 1, 0])}]
    y_pred = [{**y_true[0], "labels": np.array([0, 1, 1]), "confidence": [0.9, 0.6, 0.3]}]
    for one in (metric, confusion):
        one.update_state(y_true, y_pred)
    figure = plot_curves(metric.curves(), NAMES)
    lines = figure.axes[3].lines
    assert [line.get_label() for line in lines] == ["person", "car", "mean"]
    np.testing.assert_array_equal(lines[0].get_ydata()[[0, 900, 901]], [0.5, 0.5, 0])
    assert plot_curves(MeanAveragePrecision().curves(), path=tmp_path / "none.png") is None
    figure = plot_detection_confusion(confusion.result(), {0: "person"})
    assert [text.get_text() for text in figure.axes[0].texts] == list("110010000")
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["person", "1", "background"]
    plot_detection_confusion(confusion.result(), path=tmp_path / "confusion.png")
    assert read(tmp_path / "confusion.png").size > (100, 100)


# -- sources ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b").mkdir()
    for i, name in enumerate(("2.png", "1.jpg", "b/1.jpg")):
        Image.new("RGB", (8 + i, 6), "red").save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("none")
    return tmp_path


def names_of(source, **options):
    return [picture.name for picture in read_pictures(source, **options)]


def test_files(folder):
    assert names_of(folder / "2.png") == ["2.png"]
    assert names_of(folder) == ["1.jpg", "2.png", "1_1.jpg"]
    assert names_of(f"{folder}/*") == ["1.jpg", "2.png"]
    assert names_of(f"{folder}/**/1.jpg") == ["1.jpg", "1_1.jpg"]
    assert names_of([folder / "b", str(folder / "2.png")]) == ["1.jpg", "2.png"]
    first = next(read_pictures(str(folder)))
    assert (first.path, first.picture.size, first.picture.mode) == (
        f"{folder}/1.jpg",
        (9, 6),
        "RGB",
    )
    (folder / "[x].png").write_bytes((folder / "2.png").read_bytes())
    assert names_of(f"{folder}/[x].png") == ["[x].png"]


def test_pixels(backend):
    array = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype="uint8")
    tensor = keras.ops.convert_to_tensor(array)
    for source in (array, tensor, Image.fromarray(array), [tensor], array[None], iter([array])):
        (picture,) = read_pictures(source)
        assert (picture.name, picture.path) == ("picture_0.jpg", None)
        np.testing.assert_array_equal(np.asarray(picture.picture), array)


def test_pictures_without_a_name_are_numbered(folder):
    encoded = (folder / "2.png").read_bytes()
    with Image.open(folder / "b" / "1.jpg") as opened, open(folder / "1.jpg", "rb") as file:
        sources = [np.zeros((2, 2, 3)), opened, encoded, file, np.zeros((2, 2))]
        expected = ["picture_0.jpg", "1.jpg", "picture_2.jpg", "1_1.jpg", "picture_4.jpg"]
        assert names_of(sources) == expected


def test_pictures_are_read_one_at_a_time():
    def frames():
        while True:  # without an end
            yield np.zeros((500, 1000, 3), "uint8")

    pictures = read_pictures(frames())
    next(pictures)
    tracemalloc.start()
    for _ in range(20):
        next(pictures)
    assert tracemalloc.get_traced_memory()[1] < 8e6  # of 1.5 MB each
    tracemalloc.stop()


def test_broken_sources(folder):
    (folder / "3.png").write_bytes(b"none")
    with pytest.raises(ValueError, match=r"Picture 2: Pillow cannot read .*3\.png"):
        names_of(folder)
    with pytest.warns(UserWarning, match=r"Left out: Picture 2.*3\.png"):
        assert names_of(folder, on_error="skip") == ["1.jpg", "2.png", "1_1.jpg"]
    with pytest.raises(FileNotFoundError, match=r"no file none\.jpg"):
        names_of("none.jpg")
    with pytest.raises(FileNotFoundError, match=r"\*\.webp must hold pictures"):
        names_of(f"{folder}/*.webp")
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match="empty must hold pictures"):
        names_of(folder / "empty")
    with pytest.raises(ValueError, match="at least one picture"):
        names_of([])
    with pytest.raises(TypeError, match="got dict"):
        names_of({"a": 1})
    with pytest.raises(ValueError, match="channels last"):
        names_of(np.zeros((3, 4, 6)))
    with pytest.raises(ValueError, match="every"):
        read_pictures("a.mp4", every=0)
    with pytest.raises(ValueError, match="on_error"):
        read_pictures("a.mp4", on_error="stop")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A video of ten frames of 64 x 32 pixels, the left half brighter in each."""
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    if "mpeg4" not in av.codecs_available:
        pytest.skip("PyAV has no encoder")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for i in range(10):
            pixels = np.zeros((32, 64, 3), "uint8")
            pixels[:, :32] = 25 * i
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def test_videos(video):
    frames = list(read_pictures(str(video)))
    assert [frame.name for frame in frames] == [f"clip_{i:06d}.jpg" for i in range(10)]
    assert {frame.picture.size for frame in frames} == {(64, 32)}
    grey = [np.asarray(frame.picture)[8:24, 8:24].mean() for frame in frames]
    np.testing.assert_allclose(grey, 25 * np.arange(10), atol=6)
    assert names_of(video, every=4) == ["clip_000000.jpg", "clip_000004.jpg", "clip_000008.jpg"]
    assert len(names_of(video.parent)) == 10
    assert names_of([video, video], every=9)[2:] == ["clip_000000_1.jpg", "clip_000009_1.jpg"]


def test_videos_that_were_filmed_upright(video, tmp_path):
    def matrix(*numbers):
        return b"".join((number % 2**32).to_bytes(4, "big") for number in numbers)

    one = 1 << 16
    plain = matrix(one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    clockwise = matrix(0, one, 0, -one, 0, 0, 32 * one, 0, 1 << 30)
    content = video.read_bytes()
    place = content.rindex(plain)  # in the header of the track
    turned = content[:place] + clockwise + content[place + len(plain) :]
    (tmp_path / "turned.mp4").write_bytes(turned)
    picture = list(read_pictures(tmp_path / "turned.mp4"))[-1].picture
    assert picture.size == (32, 64)
    pixels = np.asarray(picture).mean(-1)
    assert pixels[8:24].mean() > 200  # left was turned to the top
    assert pixels[40:56].mean() < 20


def test_broken_videos(video, tmp_path, monkeypatch):
    (tmp_path / "cut.mp4").write_bytes(video.read_bytes()[:400])
    with pytest.raises(ValueError, match=r"Video .*cut\.mp4 cannot be opened: PyAV says"):
        names_of(tmp_path / "cut.mp4")
    with pytest.raises(FileNotFoundError, match=r"no file none\.mp4"):
        names_of("none.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"keraslite-hub\[video\]"):
        names_of(video)


@pytest.mark.skipif(sys.platform != "linux", reason="cameras are files of Linux")
@pytest.mark.parametrize("source", [99, "camera:99"])
def test_a_camera_that_is_missing(source):
    pytest.importorskip("av")
    with pytest.raises(OSError, match=r"Camera 99.*/dev/video99"):
        names_of(source)
