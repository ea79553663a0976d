"""YOLOX, detectors of the DETR family, and RTMPose on a detector's boxes: their real contracts at small sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from doubles import FixedNetwork
from perception import networks
from pictures import picture, square

from posewatch.config import MaskConfig, PoseConfig
from posewatch.errors import ConfigError, PosewatchError, WeightsError
from posewatch.perception.masking import mask_video
from posewatch.perception.networks import build_detector, build_estimator, weights_of
from posewatch.perception.networks.rtmpose import RtmposeEstimator
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
    red[red.min(-1) > 190] = (255, 170, 170)  # of class 1, although a person is likely, too; in BGR it would be one
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


def rtmpose(path: Path, detector: FixedNetwork | None = None, **more: int | tuple[int, int] | None) -> RtmposeEstimator:
    return RtmposeEstimator(str(networks.rtmpose(path, **more)), detector or FixedNetwork(square))


def wide(image: np.ndarray) -> Detections:
    """The white square of ``picture`` as a person in a wide box that leaves the image, and one that is not there."""
    x, y = square(image).boxes[0, :2]
    boxes = np.array([[x - 60, y - 10, x + 50, y + 35], [3, 3, 3, 3]], np.float32)
    return Detections(boxes, np.array([0.7, 0.3], np.float32), None, np.array([4, 9]))


def test_rtmpose_cuts_persons_out_as_mmpose_does(tmp_path: Path) -> None:
    import cv2

    image = picture(0.5, 161, 117)
    estimator = rtmpose(tmp_path / "rtmpose.onnx", side=(48, 64))
    seen: list[np.ndarray] = []
    run = estimator._net.run
    estimator._net.run = lambda data, outputs: seen.append(data) or run(data, outputs)  # type: ignore[method-assign]
    estimator.complete([image], [wide(image)])
    x1, y1, x2, y2 = wide(image).boxes[0]
    width = max(x2 - x1, (y2 - y1) * 48 / 64) * 1.25  # fixed aspect ratio, a quarter more room
    middle = np.array([x1 + x2, y1 + y2], np.float32) / 2
    points = np.array([middle, middle - [0, width / 2], middle - [width / 2, width / 2]], np.float32)
    matrix = cv2.getAffineTransform(points, np.array([[24, 32], [24, 8], [0, 8]], np.float32))
    crop = cv2.warpAffine(image, matrix, (48, 64)).astype(np.float32)
    wanted = (crop - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]  # RGB
    assert seen[0].shape == (2, 3, 64, 48)
    assert np.abs(seen[0][0].transpose(1, 2, 0) - wanted).max() < 0.1


def test_rtmpose_gives_the_joints_of_every_box_in_the_image(tmp_path: Path) -> None:
    estimator = rtmpose(tmp_path / "rtmpose.onnx", FixedNetwork(wide))
    found = estimator.estimate([picture(0.5, 161, 117), picture(1, 200, 100)])
    for persons, corner in zip(found, ([30, 58], [50, 50]), strict=True):
        assert persons.scores.tolist() == pytest.approx([0.7, 0.3])
        assert persons.ids is not None
        assert persons.ids.tolist() == [4, 9]
        assert persons.keypoints is not None
        assert persons.keypoints.shape == (2, 17, 3)
        assert persons.keypoints[0, :, :2] == pytest.approx(np.array([corner] * 17), abs=1.5)
        assert persons.keypoints[0, :, 2] == pytest.approx(1 - np.arange(17) / 20)  # the smaller of x and y
    empty = rtmpose(tmp_path / "none.onnx").estimate([picture(0.5, 160, 120) // 3])[0]
    assert empty.keypoints is not None
    assert empty.keypoints.shape == (0, 17, 3)
    assert estimator.estimate([]) == []


def test_rtmpose_sees_batches_as_single_persons(tmp_path: Path) -> None:
    pictures = [picture(t / 10, 160, 120) for t in range(7)]
    dynamic = rtmpose(tmp_path / "any.onnx", FixedNetwork(wide)).estimate(pictures)
    for batch in (1, 4):
        fixed = rtmpose(tmp_path / f"{batch}.onnx", FixedNetwork(wide), batch=batch).estimate(pictures)
        assert all(np.array_equal(a.keypoints, b.keypoints) for a, b in zip(dynamic, fixed, strict=True))


def test_rtmpose_takes_the_detector_that_is_configured(tmp_path: Path) -> None:
    pose, boxes = str(networks.rtmpose(tmp_path / "rtmpose.onnx")), str(networks.yolox(tmp_path / "yolox.onnx"))
    config = PoseConfig(estimator="rtmpose", weights=pose, boxes="yolox", boxes_weights=boxes)
    image = picture(0.5, 160, 120)
    found = build_estimator(config).estimate([image])[0]
    assert np.array_equal(found.boxes, YoloxDetector(boxes).detect([image])[0].boxes)
    assert set(weights_of(config)) == {"yolox.onnx", "rtmpose.onnx"} == set(build_estimator(config).weights)
    with pytest.raises(ConfigError, match=r"pose\.boxes is for estimators such as rtmpose; movenet finds persons by"):
        weights_of(PoseConfig(boxes="yolox"))
    with pytest.raises(PosewatchError, match="runs on PyTorch, not on TensorRT"):
        build_estimator(PoseConfig(estimator="rtmpose", boxes="yolo11", boxes_weights=pose, device="tensorrt"))


def test_what_is_not_a_body_network_of_rtmpose_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is not an RTMPose network: it gives dets, keypoints"):
        rtmpose(tmp_path / "other.onnx", outputs=("dets", "keypoints"))
    feet = rtmpose(tmp_path / "feet.onnx", joints=26)
    with pytest.raises(WeightsError, match=r"gives .joints, columns, rows. \(26, 96, 128\), not \(17, 96, 128\)"):
        feet.estimate([picture(0.5, 160, 120)])


@pytest.mark.filterwarnings("ignore")
def test_rtmpose_gives_the_joints_that_mmpose_gives(tmp_path: Path) -> None:
    """MMPose's own RTMPose-t at random weights, exported, against MMPose's own inference."""
    mmpose = pytest.importorskip("mmpose", reason="needs MMPose, see docs/perception.md")
    import torch

    from posewatch.perception.networks.mmpose import need_mmcv, need_xtcocotools
    from posewatch.perception.networks.pytorch import need_torchvision

    for prepare in (need_torchvision, need_mmcv, need_xtcocotools):
        prepare()
    from mmpose.apis import inference_topdown, init_model

    torch.manual_seed(0)
    folder = Path(mmpose.__file__).parent / ".mim/configs/body_2d_keypoint/rtmpose/body8"
    theirs = init_model(str(folder / "rtmpose-t_8xb256-420e_body8-256x192.py"), None, device="cpu")
    theirs.test_cfg["flip_test"] = False
    with torch.no_grad():  # batch norms that fit the random weights
        theirs.train().head(theirs.backbone(torch.randn(8, 3, 256, 192)))
    network = torch.nn.Sequential(theirs.backbone, theirs.head).eval()
    file = tmp_path / "rtmpose-t.onnx"
    torch.onnx.export(
        network, (torch.zeros(2, 3, 256, 192),), str(file), dynamo=True, verbose=False, external_data=False,
        input_names=["input"], output_names=["simcc_x", "simcc_y"], dynamic_shapes=({0: torch.export.Dim("batch")},),
    )  # fmt: skip
    image = np.kron(np.random.default_rng(0).integers(0, 255, (15, 20, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    boxes = np.array([[20, 30, 90, 200], [100, 10, 300, 120], [-20, 100, 60, 260], [5, 5, 9, 9]], np.float32)
    found = Detections(boxes, np.ones(4, np.float32))
    ours = RtmposeEstimator(str(file), FixedNetwork(lambda image: found)).estimate([image])[0].keypoints
    assert ours is not None
    for joints, sample in zip(ours, inference_topdown(theirs.eval(), image[..., ::-1].copy(), boxes), strict=True):
        assert joints[:, :2] == pytest.approx(sample.pred_instances.keypoints[0], abs=0.01)
        assert joints[:, 2] == pytest.approx(np.clip(sample.pred_instances.keypoint_scores[0], 0, 1), abs=1e-3)
