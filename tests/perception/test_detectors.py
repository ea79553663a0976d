"""YOLOX, detectors of the DETR family, and RTMPose on a detector's boxes: their real contracts at small sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from perception import networks
from pictures import picture, square

from posewatch.config import MaskConfig
from posewatch.errors import WeightsError
from posewatch.perception.masking import mask_video
from posewatch.perception.networks import build_detector, weights_of
from posewatch.perception.networks.yolox import YoloxDetector
from posewatch.perception.storage import read_detections
from posewatch.perception.tracking.matching import iou
from posewatch.records import Detections


def yolox(path: Path, **more: int | bool | tuple[int, int] | None) -> YoloxDetector:
    return build_detector(MaskConfig(detector="yolox", detector_weights=str(networks.yolox(path, **more))))


def padded(image: np.ndarray, side: tuple[int, int]) -> tuple[np.ndarray, float]:
    """The input (1, 3, H, W) that YOLOX's demo makes of an RGB image, and the scale, written from its description."""
    import cv2

    scale = min(side[1] / image.shape[0], side[0] / image.shape[1])
    inner = cv2.resize(image[..., ::-1], (int(image.shape[1] * scale), int(image.shape[0] * scale)))
    canvas = np.full((side[1], side[0], 3), 114, np.uint8)
    canvas[: inner.shape[0], : inner.shape[1]] = inner
    return canvas.transpose(2, 0, 1)[None].astype(np.float32), scale


@pytest.mark.parametrize("side", [(128, 96), (96, 128), (192, 192)])
@pytest.mark.parametrize("classes", [80, 1])
def test_yolox_finds_persons_where_its_own_decoding_puts_them(tmp_path: Path, side: tuple[int, int], classes: int):
    import onnxruntime

    image = picture(0.5, 161, 117)
    found = yolox(tmp_path / "raw.onnx", side=side, classes=classes).detect([image])[0]
    session = onnxruntime.InferenceSession(networks.yolox(tmp_path / "d.onnx", side, 1, classes, decoded=True))
    data, scale = padded(image, side)
    rows = session.run(["output"], {"images": data})[0][0]
    rows = rows[rows[:, 4] * rows[:, 5] >= 0.1]
    boxes = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], 1) / scale
    assert 1 <= len(found) <= len(rows)
    best = iou(found.boxes, boxes.astype(np.float32)).argmax(1)
    assert found.boxes == pytest.approx(boxes[best], abs=1e-3)  # nothing leaves the image here
    assert found.scores == pytest.approx((rows[:, 4] * rows[:, 5])[best], abs=1e-5)
    assert iou(found.boxes, square(image).boxes).min() > 0.1
    assert found.keypoints is None
    twice = iou(found.boxes, found.boxes) - np.eye(len(found))
    assert twice.max() <= 0.45  # no duplicates


def test_yolox_reports_persons_only_and_nobody_where_nobody_is(tmp_path: Path) -> None:
    detector = yolox(tmp_path / "yolox.onnx")
    red = picture(0.5, 160, 120)
    red[red.min(-1) > 190] = (255, 120, 120)  # of class 1, although a person is likely, too
    assert [len(d) for d in detector.detect([picture(0.5, 160, 120) // 3, red])] == [0, 0]
    assert detector.detect([]) == []


def test_yolox_sees_batches_as_single_pictures(tmp_path: Path) -> None:
    pictures = [picture(t / 10, 160 + 10 * t, 120) for t in range(11)]
    one, many, four = (yolox(tmp_path / f"{n}.onnx", batch=n) for n in (1, None, 4))
    assert [len(d) for d in one.detect(pictures)] == [len(d) for d in many.detect(pictures)]
    for a, b, c in zip(one.detect(pictures), many.detect(pictures), four.detect(pictures), strict=True):
        assert len(a) > 0
        assert np.allclose(a.boxes, b.boxes, atol=1e-3)
        assert np.allclose(a.boxes, c.boxes, atol=1e-3)


def test_what_is_not_a_file_of_yolox_release_is_refused(tmp_path: Path) -> None:
    image = picture(0.5, 160, 120)
    with pytest.raises(WeightsError, match=r"gives boxes in pixels \(export it without --decode_in_inference"):
        yolox(tmp_path / "pixels.onnx", side=(416, 416), decoded=True).detect([image])
    other = str(networks.rtmo(tmp_path / "rtmo.onnx"))
    with pytest.raises(WeightsError, match=r"rtmo.onnx is not a YOLOX network: it gives \(3, 5\) for 128x128 pixels"):
        build_detector(MaskConfig(detector="yolox", detector_weights=other)).detect([image])


def test_yolox_masks_a_video_with_tracks(make, tmp_path: Path) -> None:
    file = networks.yolox(tmp_path / "yolox.onnx", side=(160, 128))
    config = MaskConfig(detector="yolox", detector_weights=str(file), segmenter="bbox", fps=10, min_score=0.4)
    report = mask_video(make(seconds=2, fps=10), tmp_path / "masked.mp4", config)
    assert report.frames_with_people == 20
    assert weights_of(config)["yolox.onnx"]["licence"] == "your own file"
    found = read_detections(tmp_path / "detections.npz")
    assert all(iou(d.boxes, d.boxes[:1]).max() > 0 for d in found)


@pytest.fixture(scope="module", params=["rt_detr_v2", "d_fine"])
def detr(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("transformers", reason="needs the extra detr")
    return networks.detr(tmp_path_factory.mktemp(request.param), request.param)


def persons_of(folder: Path, image: np.ndarray) -> Detections:
    """All persons that a network saved in a folder of transformers reports, from its raw answer."""
    import torch
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    network = AutoModelForObjectDetection.from_pretrained(folder).eval()
    assert network.config.id2label[1] == "person"
    with torch.inference_mode():
        answer = network(**AutoImageProcessor.from_pretrained(folder)(images=image, return_tensors="pt"))
    scores, boxes = answer.logits[0].sigmoid()[:, 1].numpy(), answer.pred_boxes[0].numpy()
    boxes = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
    height, width = image.shape[:2]
    return Detections(np.clip(boxes, 0, 1) * np.array([width, height, width, height], np.float32), scores)


@pytest.mark.filterwarnings("ignore")
def test_a_detr_of_transformers_finds_persons_only(detr: Path) -> None:
    config = MaskConfig(detector="detr", detector_weights=str(detr), segmenter="bbox", device="cpu")
    detector = build_detector(config)
    pictures = [picture(t / 10, 160 + t, 120) for t in range(9)]  # more than a batch
    together = detector.detect(pictures)
    found, wanted = together[0], persons_of(detr, pictures[0])
    nearest = np.abs(found.boxes[:, None] - wanted.boxes[None]).sum(-1).argmin(1)
    assert 0 < len(found) == len(set(nearest))
    assert found.boxes == pytest.approx(wanted.boxes[nearest], abs=0.05)
    assert found.scores == pytest.approx(wanted.scores[nearest], abs=1e-3)
    assert (np.diff(found.scores) <= 0).all()
    left_out = np.delete(np.arange(len(wanted)), nearest)
    assert all(iou(wanted.boxes[[i]], found.boxes).max() > 0.7 or wanted.scores[i] < 0.1 for i in left_out)
    assert (iou(found.boxes, found.boxes) - np.eye(len(found))).max() <= 0.7
    alone = detector.detect(pictures[8:])[0]
    assert alone.boxes == pytest.approx(together[8].boxes, abs=0.05)
    assert set(weights_of(config)) == {detr.name}
    assert detector.detect([]) == []


@pytest.mark.filterwarnings("ignore")
def test_what_is_not_a_detector_of_transformers_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs the extra detr")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(WeightsError, match="is not a detector of transformers with its image processor"):
        build_detector(MaskConfig(detector="detr", detector_weights=str(tmp_path)))
