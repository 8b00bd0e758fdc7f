"""Boxes, masks, galleries, curves and confusion matrices."""

import sys

import keras
import numpy as np
import pytest
from compare import assert_close

import keraslite
from keraslite import layers, models, visualization
from keraslite.ops import bounding_boxes

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (2, 12, 16, 3), "uint8")
MASKS = RNG.integers(-1, 3, (2, 12, 16, 1), "int32")


def boxes(*corners, labels=None):
    return {
        "boxes": np.array([corners], "float32"),
        "labels": np.array([labels or [0] * len(corners)]),
    }


def test_boxes_are_drawn_at_their_corners(backend):
    black = np.zeros((1, 12, 16, 3), "uint8")
    given = boxes((3, 2, 10, 8), (1, 1, 4, 4), labels=[5, -1])
    out = visualization.draw_bounding_boxes(black, given, "xyxy", color=(9, 8, 7), line_thickness=1)
    expected = np.zeros((12, 16), bool)
    expected[2:9, 3:11] = True
    expected[3:8, 4:10] = False
    np.testing.assert_array_equal((out[0] == (9, 8, 7)).all(-1), expected)
    assert (out[0][~expected] == 0).all()
    for name in ("rel_yxyx", "center_xywh"):
        other = bounding_boxes.convert_format(given, "xyxy", name, 12, 16)
        again = visualization.draw_bounding_boxes(
            black, other, name, color=(9, 8, 7), line_thickness=1
        )
        np.testing.assert_array_equal(again, out)
    first = visualization.draw_bounding_boxes(
        np.moveaxis(black, -1, 1), given, "xyxy", color=(9, 8, 7), line_thickness=1,
        data_format="channels_first",
    )  # fmt: skip
    np.testing.assert_array_equal(np.moveaxis(first, 1, -1), out)
    thick = visualization.draw_bounding_boxes(black, given, "xyxy", line_thickness=3)
    assert thick[0, 1, 2].any()
    assert thick[0, 3, 4].any()
    assert not thick[0, 4, 5].any()


def test_boxes_have_their_class_written_by_them():
    black = np.zeros((1, 60, 80, 4), "float32")
    given = {**boxes((10, 30, 40, 50)), "confidences": np.array([[0.25]])}

    def drawn(**arguments):
        out = visualization.draw_bounding_boxes(black, given, "xyxy", **arguments)
        return (out[0, ..., :3] > 0).any(-1)

    without = drawn()
    text = drawn(class_mapping={0: "cat"}) & ~without
    assert text.any()
    assert not text[30:].any()  # above the box
    np.testing.assert_array_equal(drawn(class_mapping={1: "dog"}), without)
    small = drawn(class_mapping={0: "cat"}, font_scale=0.5) & ~without
    assert 0 < small.sum() < text.sum()


def test_bad_boxes_are_refused():
    draw = visualization.draw_bounding_boxes
    with pytest.raises(ValueError, match="must be a batch"):
        draw(IMAGES[0], boxes((1, 1, 2, 2)), "xyxy")
    with pytest.raises(TypeError, match="must be a dict"):
        draw(IMAGES, np.ones((2, 1, 4)), "xyxy")
    with pytest.raises(ValueError, match=r"\['labels'\] are missing"):
        draw(IMAGES, {"boxes": np.ones((2, 1, 4))}, "xyxy")


@pytest.mark.parametrize(
    "arguments",
    [{}, {"alpha": 0.3, "ignore_index": 1}, {"color_mapping": {0: (0, 0, 9), 1: (255, 0, 0), 2: (1, 2, 3)}}],
    ids=["defaults", "ignored", "colors"],
)  # fmt: skip
def test_masks_are_drawn_as_by_keras(backend, arguments):
    want = keras.visualization.draw_segmentation_masks(IMAGES, MASKS, 3, **arguments)
    for masks in (MASKS, MASKS[..., 0], keraslite.ops.convert_to_tensor(MASKS)):
        got = visualization.draw_segmentation_masks(IMAGES, masks, 3, **arguments)
        assert got.dtype == np.uint8
        assert np.abs(got.astype(int) - want).max() <= 1  # Keras blends on its backend
    first = visualization.draw_segmentation_masks(
        np.moveaxis(IMAGES, -1, 1), np.moveaxis(MASKS, -1, 1), 3, data_format="channels_first",
        **arguments,
    )  # fmt: skip
    np.testing.assert_array_equal(np.moveaxis(first, 1, -1), got)


def test_bad_masks_are_refused():
    with pytest.raises(TypeError, match="must be integers, got float64"):
        visualization.draw_segmentation_masks(IMAGES, MASKS / 2)
    with pytest.raises(
        ValueError, match=r"the size of the images, \(2, 12, 16\), got \(2, 6, 16\)"
    ):
        visualization.draw_segmentation_masks(IMAGES, MASKS[:, ::2])


def shown(axes) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


def test_galleries_show_every_image(tmp_path, backend):
    images = keraslite.ops.convert_to_tensor(IMAGES.astype("float32") / 255)
    figure = visualization.plot_image_gallery(
        images, [0, 7], np.array([1, 1]), {0: "cat", 1: "dog"}, value_range=(0, 1), show=False
    )
    assert [axes.get_title() for axes in figure.axes] == [
        "Label: cat  Pred: dog", "Label: Unknown  Pred: dog",
    ]  # fmt: skip
    for axes, image in zip(figure.axes, IMAGES, strict=True):
        assert np.abs(shown(axes).astype(int) - image).max() <= 1
    five = visualization.plot_image_gallery(np.concatenate([IMAGES] * 3)[:5], show=False)
    assert len(five.axes) == 5
    assert visualization.plot_image_gallery(IMAGES, path=tmp_path / "sheet.png") is None
    assert (tmp_path / "sheet.png").read_bytes()[1:4] == b"PNG"
    with pytest.raises(ValueError, match="not both"):
        visualization.plot_image_gallery(IMAGES, path="a.png", show=True)
    with pytest.raises(ValueError, match="label_map"):
        visualization.plot_image_gallery(IMAGES, y_true=[0, 1])


def test_galleries_draw_boxes_and_masks():
    given = {"boxes": np.tile(np.float32([2, 2, 8, 8]), (2, 1, 1)), "labels": np.zeros((2, 1))}
    figure = visualization.plot_bounding_box_gallery(
        IMAGES,
        "xyxy",
        given,
        given,
        pred_color=(1, 2, 3),
        line_thickness=1,
        legend=True,
        show=False,
    )
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "Ground Truth",
        "Prediction",
    ]
    assert (shown(figure.axes[0])[2, 2:9] == (1, 2, 3)).all()
    with pytest.raises(ValueError, match="not both"):
        visualization.plot_bounding_box_gallery(IMAGES, "xyxy", legend=True, legend_handles=[1])
    masks = np.maximum(MASKS, 0)
    figure = visualization.plot_segmentation_mask_gallery(
        IMAGES, 3, y_true=masks, y_pred=masks, show=False
    )
    assert len(figure.axes) == 6
    drawn = visualization.draw_segmentation_masks(IMAGES, masks, 3)
    np.testing.assert_array_equal(shown(figure.axes[1]), drawn[0])
    np.testing.assert_array_equal(shown(figure.axes[3]), IMAGES[1])


def test_curves_show_training_and_validation(tmp_path):
    with keraslite.use_backend("torch" if "torch" in keraslite.backend.available() else "jax"):
        model = models.Sequential([layers.Input((3,)), layers.Dense(1)])
        model.compile("sgd", "mse", metrics=["mae"])
        x, y = np.ones((8, 3)), np.ones((8, 1))
        history = model.fit(x, y, epochs=4, validation_data=(x, y), validation_freq=2, verbose=0)
    figure = history.plot()
    assert sorted(axes.get_title() for axes in figure.axes) == ["loss", "mae"]
    training, validation = figure.axes[0].lines
    assert training.get_xdata().tolist() == [1, 2, 3, 4]
    assert validation.get_xdata().tolist() == [2, 4]
    name = figure.axes[0].get_title()
    assert_close(validation.get_ydata(), history.history[f"val_{name}"])
    assert history.plot(["mae"], tmp_path / "curves.svg") is None
    assert "<svg" in (tmp_path / "curves.svg").read_text()
    with pytest.raises(ValueError, match=r"among .* got \['auc'\]"):
        history.plot(["auc"])
    with pytest.raises(ValueError, match="call fit first"):
        keraslite.callbacks.History().plot()


def test_confusions_are_counted():
    truth, answers = RNG.integers(0, 4, (2, 50))
    pairs = list(zip(truth.tolist(), answers.tolist(), strict=True))
    want = np.array([[pairs.count((i, j)) for j in range(4)] for i in range(4)])
    np.testing.assert_array_equal(visualization.confusion_matrix(truth, answers), want)
    scores = np.eye(4)[answers]
    np.testing.assert_array_equal(visualization.confusion_matrix(truth[:, None], scores, 4), want)
    figure = visualization.plot_confusion_matrix(truth, scores, list("abcd"), normalize=True)
    axes = figure.axes[0]
    np.testing.assert_allclose(shown(axes), want / want.sum(1, keepdims=True))
    assert [label.get_text() for label in axes.get_yticklabels()] == list("abcd")
    with pytest.raises(ValueError, match="got 3 for 50"):
        visualization.confusion_matrix(truth, answers[:3])
    with pytest.raises(ValueError, match="from 0 to 2, got"):
        visualization.confusion_matrix(truth, answers, 3)


def test_a_missing_matplotlib_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for call in (
        lambda: visualization.plot_image_gallery(IMAGES, show=False),
        lambda: visualization.plot_history({"loss": [1.0]}),
        lambda: visualization.plot_confusion_matrix([0], [0]),
    ):
        with pytest.raises(ImportError, match=r"keraslite-hub\[plot\]"):
            call()
