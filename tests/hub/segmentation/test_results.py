"""Results of segmenters: masks, encodings, drawings and files."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

import keraslite
from hub.preprocessing.segmentation import ImageGeometry
from hub.segmentation import rle
from hub.segmentation.boxes import mask_boxes
from hub.segmentation.filtering import Candidates
from hub.segmentation.pictures import draw_masks, label_map
from hub.segmentation.prompts import encode_mask, prepare_prompts
from hub.segmentation.results import GeneratedMasks, Masks

# Of pycocotools, by NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE = (120, 160)
GEOMETRY = ImageGeometry.of(SIZE)
PIXELS = np.full((*SIZE, 3), 100, "uint8")


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def rectangle(left, top, right, bottom):
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


RECTANGLES = [(20, 30, 60, 90), (100, 10, 150, 50), (0, 100, 160, 120), (10, 10, 12, 110)]


def two_sets(**options):
    """Two sets of two masks each, of which the second and the first is the better one."""
    low = np.stack([encode_mask(rectangle(*x)) for x in RECTANGLES]).reshape(2, 2, 256, 256)
    return Masks(low, [[0.2, 0.9], [0.8, 0.1]], GEOMETRY, **options)


def test_masks_have_the_size_of_the_picture():
    masks = two_sets()
    assert masks.size == SIZE and len(masks) == 2 and masks.masks.shape == (2, 2, *SIZE)
    expected = np.stack([rectangle(*x) for x in RECTANGLES]).reshape(2, 2, *SIZE)
    assert (masks.masks != expected).mean() < 0.01
    np.testing.assert_array_equal(masks.masks, masks.logits > 0)
    np.testing.assert_array_equal(masks.areas, masks.masks.sum((2, 3)))
    assert np.abs(masks.boxes.reshape(4, 4) - RECTANGLES).max() <= 1
    (y, x), box = np.nonzero(masks.masks[0, 0]), masks.boxes[0, 0]
    assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
    higher = Masks(masks.low_res_logits, masks.scores, GEOMETRY, threshold=11.0)
    assert higher.areas.max() == 0 and higher.boxes.max() == 0


def test_the_best_masks_and_some_sets():
    masks = two_sets(prompts=prepare_prompts(GEOMETRY, [[[40, 60]], [[50, 110]]]))
    best = masks.best()
    assert best.scores.tolist() == np.float32([[0.9], [0.8]]).tolist()
    np.testing.assert_array_equal(best.masks[:, 0], masks.masks[[0, 1], [1, 0]])
    second = masks[1]
    assert len(second) == 1 and second.scores.tolist() == masks.scores[1:].tolist()
    assert second.prompts.points.tolist() == masks.prompts.points[1:].tolist()
    assert [m.areas.tolist() for m in masks] == [[row] for row in masks.areas.tolist()]
    assert len(masks[[False, True]]) == 1 and len(masks[:0]) == 0
    assert repr(masks) == "picture.jpg: masks of 2 prompts, best score 0.90"
    assert repr(masks[:0]) == "picture.jpg: no masks"
    with pytest.raises(IndexError):
        masks[2]
    with pytest.raises(ValueError, match=r"\(2, 2, 256, 256\) and \(2,\)"):
        Masks(masks.low_res_logits, [1, 2], GEOMETRY)


def test_outputs_of_every_backend(backend):
    masks = two_sets()
    tensor = keraslite.ops.convert_to_tensor
    ours = Masks(tensor(masks.low_res_logits), tensor(masks.scores), GEOMETRY)
    np.testing.assert_array_equal(ours.masks, masks.masks)
    assert type(ours.low_res_logits) is np.ndarray


def test_masks_are_written_as_json():
    masks = two_sets(path="street.jpg")
    content = json.loads(json.dumps(masks.to_dict()))
    assert content["picture"] == "street.jpg" and content["height"] == 120
    for row, expected, scores in zip(content["masks"], masks.masks, masks.scores, strict=True):
        for item, mask, score in zip(row, expected, scores, strict=True):
            np.testing.assert_array_equal(coco.decode(item["segmentation"]), mask)
            assert item["area"] == mask.sum() and item["score"] == pytest.approx(score)
            assert item["bbox"] == coco.toBbox(item["segmentation"]).tolist()
    counts = masks.to_dict(compressed=False)["masks"][0][0]["segmentation"]["counts"]
    np.testing.assert_array_equal(
        rle.decode({"size": list(SIZE), "counts": counts}), masks.masks[0, 0]
    )


def test_masks_are_drawn_and_saved(tmp_path):
    prompts = prepare_prompts(GEOMETRY, [[[120, 30], [80, 60]]] * 2, [[1, 0]] * 2,
                              boxes=[[95, 5, 155, 55], [0, 95, 160, 120]])  # fmt: skip
    masks = two_sets(picture=PIXELS, prompts=prompts)
    drawn = masks.plot(outlines=False, prompts=False)
    inside = drawn.getpixel((130, 40))
    assert inside == (165, 62, 87)  # half of the first color, half of the picture
    assert drawn.getpixel((70, 70)) == (100, 100, 100)
    assert drawn.getpixel((80, 110)) != inside
    with_prompts = masks.plot()
    assert with_prompts.getpixel((120, 30)) == (40, 200, 60)
    assert with_prompts.getpixel((80, 60)) == (230, 30, 40)
    assert with_prompts.getpixel((95, 30)) == (230, 25, 75)  # the box, in the color of its mask
    edge = masks.boxes[0, 1, 0]
    assert masks.plot(prompts=False).getpixel((int(edge), 30)) == (255, 255, 255)
    assert read(masks.save(tmp_path / "drawn.png")).shape == (*SIZE, 3)

    paths = masks.save_masks(tmp_path / "masks")
    assert [p.rsplit("/", 1)[1] for p in paths] == [
        f"picture_{i}_{j}.png" for i in range(2) for j in range(2)
    ]
    np.testing.assert_array_equal(read(paths[2]) > 0, masks.masks[1, 0])
    for cut, mask, box in zip(masks.cut_out(), masks.best().masks[:, 0],
                              masks.best().boxes[:, 0], strict=True):  # fmt: skip
        left, top, right, bottom = box
        np.testing.assert_array_equal(np.asarray(cut)[..., 3] > 0, mask[top:bottom, left:right])
    with pytest.raises(ValueError, match="make Masks with picture or path"):
        two_sets().plot()


def test_a_picture_is_not_overwritten(tmp_path):
    path = tmp_path / "street.png"
    Image.fromarray(PIXELS).save(path)
    masks = two_sets(path=path)
    assert masks.name == "street.png" and masks.picture.size == (160, 120)
    for place in (path, tmp_path):
        with pytest.raises(ValueError, match="would be lost"):
            masks.save(place)
    assert masks.save(f"{tmp_path}/out/").endswith("out/street.png")


# -- everything in a picture ----------------------------------------------------------------------


def generated(count=4, output_mode="binary_mask", **options):
    masks = np.stack([rectangle(*x) for x in RECTANGLES])
    kept = Candidates(
        rle.encode(masks), mask_boxes(masks), np.float32([0.9, 0.8, 0.7, 0.6]),
        np.array([0.95, 0.96, 0.97, 0.98]), np.float32([[40.5, 60], [120, 30], [9, 110], [11, 11]]),
        np.array([[0, 0, 160, 120]] * 3 + [[0, 0, 90, 120]]),
    ).take(range(count))  # fmt: skip
    return GeneratedMasks(kept, SIZE, output_mode, **options), masks


def test_generated_masks_have_the_keys_of_the_authors():
    results, masks = generated()
    assert len(results) == 4 and repr(results) == "picture.jpg: 4 masks"
    assert list(results[0]) == [
        "segmentation", "area", "bbox", "predicted_iou", "point_coords", "stability_score",
        "crop_box",
    ]  # fmt: skip
    first = results[0]
    np.testing.assert_array_equal(first["segmentation"], masks[0])
    assert first["area"] == 40 * 60 and first["bbox"] == [20, 30, 39, 59]
    assert first["predicted_iou"] == pytest.approx(0.9) and first["stability_score"] == 0.95
    assert first["point_coords"] == [[40.5, 60.0]] and first["crop_box"] == [0, 0, 160, 120]
    assert results[-1]["crop_box"] == [0, 0, 90, 120]
    np.testing.assert_array_equal(results.masks, masks)
    assert [item["area"] for item in results] == results.areas.tolist()
    with pytest.raises(IndexError):
        results[4]


def test_generated_masks_are_chosen_and_encoded():
    results, masks = generated(output_mode="coco_rle")
    large = results[results.areas > 1000]
    assert isinstance(large, GeneratedMasks) and len(large) == 3
    assert len(results[:2]) == 2 and len(results[[3, 0]]) == 2
    np.testing.assert_array_equal(results[[3, 0]].masks, masks[[3, 0]])
    np.testing.assert_array_equal(coco.decode(results[1]["segmentation"]), masks[1])
    plain, _ = generated(output_mode="uncompressed_rle")
    assert plain[1]["segmentation"] == rle.encode(masks[1])
    content = json.loads(json.dumps(plain.to_dict()))
    np.testing.assert_array_equal(coco.decode(content["masks"][2]["segmentation"]), masks[2])
    with pytest.raises(ValueError, match="binary_mask.*'png'"):
        generated(output_mode="png")


def test_generated_masks_are_drawn():
    results, masks = generated(picture=PIXELS)
    labels = results.label_map()
    assert labels[50, 11] == 3 and labels[105, 11] == 3 and labels[110, 50] == 2
    assert labels[0, 0] == -1 and set(np.unique(labels)) == {-1, 0, 1, 2, 3}
    drawn = np.asarray(results.plot(alpha=1.0, outlines=False))
    assert tuple(drawn[60, 40]) == (230, 25, 75) and (drawn[labels == -1] == 100).all()
    nothing, _ = generated(0, picture=PIXELS)
    assert repr(nothing) == "picture.jpg: no masks" and nothing.masks.shape == (0, *SIZE)
    np.testing.assert_array_equal(np.asarray(nothing.plot()), PIXELS)
    assert nothing.to_dict()["masks"] == [] and nothing.areas.tolist() == []
    with pytest.raises(ValueError, match=r"\(masks, 120, 160\)"):
        draw_masks(PIXELS, masks[:, :50])
    assert label_map(masks[:0]).shape == SIZE
