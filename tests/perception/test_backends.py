"""The published networks' real classes behind our ports, at small sizes or random weights; real ones where packaged."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles import FixedNetwork
from perception import networks
from pictures import picture, square

from posewatch import video, weights
from posewatch.config import MaskConfig, PoseConfig
from posewatch.errors import ConfigError, PosewatchError, WeightsError
from posewatch.perception.masking import mask_video
from posewatch.perception.networks import build_detector, build_estimator, build_segmenter, weights_of
from posewatch.perception.networks.boxes import BoxSegmenter
from posewatch.perception.skeletons import estimate_video
from posewatch.perception.storage import read_detections
from posewatch.perception.tracking.matching import iou
from posewatch.records import Detections

# the vendors' own code warns about versions of others
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="session")
def ultralytics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("ultralytics", reason="needs the extra yolo")
    folder = tmp_path_factory.mktemp("ultralytics")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLO_CONFIG_DIR", str(folder))
        yield folder


@pytest.fixture(scope="session")
def yolo11(ultralytics: Path) -> str:
    return str(networks.yolo(ultralytics / "yolo11n-random.pt"))


def test_a_cache_that_cannot_be_written_is_no_obstacle(ultralytics: Path, tmp_path: Path) -> None:
    """A root that is read-only, or an image's folder under another uid; here a file is in the way, for root too."""
    (tmp_path / "file").write_text("")
    env = {k: v for k, v in os.environ.items() if k != "YOLO_CONFIG_DIR"}
    env |= {"POSEWATCH_CACHE": str(tmp_path / "file" / "cache"), "TMPDIR": str(tmp_path)}
    code = "from posewatch.perception.networks.yolo import load_ultralytics as load; print(load().__name__)"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["ultralytics"]), done.stderr


THREADS = """
import os, sys, torch
import numpy as np
from posewatch.perception.networks.yolo import YoloDetector
before = torch.get_num_threads()
YoloDetector(sys.argv[1], "cpu", 64).detect([np.zeros((64, 64, 3), np.uint8)])
print(before, torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS"))
"""


@pytest.mark.parametrize("told", ["2", ""])
def test_ultralytics_leaves_the_number_of_threads(yolo11: str, told: str) -> None:
    """It would give PyTorch as many as the machine has processors but one, whatever a container or the user allows."""
    given = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | (
        {"OMP_NUM_THREADS": told} if told else {}
    )
    done = subprocess.run(
        [sys.executable, "-c", THREADS, yolo11], env=given, capture_output=True, text=True, check=False
    )
    before, after, environment = done.stdout.split()
    if told:
        assert (after, environment) == (before, "2")
    else:
        assert int(after) <= int(before)
        assert environment == "None", "what is loaded later would have one thread"


@pytest.fixture(scope="session")
def sam2(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("transformers", reason="needs the extra sam2")
    return str(networks.sam2(tmp_path_factory.mktemp("sam2")))


@pytest.fixture(scope="session")
def rtmo(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(networks.rtmo(tmp_path_factory.mktemp("rtmo") / "rtmo.onnx"))


def numbered(boxes: list[list[float]], ids: list[int]) -> Detections:
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.ones(len(ids), np.float32), None, np.array(ids))


def test_rtmo_keeps_the_published_contract(rtmo: str) -> None:
    estimator = build_estimator(PoseConfig(estimator="rtmo", weights=rtmo))
    pictures = [picture(0.5, 240, 160), picture(0.5, 240, 160) // 3, picture(1, 100, 200)]
    one, nobody, tall = estimator.estimate(pictures)
    assert [len(d) for d in (one, nobody, tall)] == [1, 0, 1]  # the weaker copy, the NaN and the score of 0 are gone
    assert one.boxes[0] == pytest.approx([30, 80, 50, 100], abs=2)  # letterboxed there and back
    assert tall.boxes[0] == pytest.approx([50, 100, 70, 120], abs=2)
    assert one.scores[0] == pytest.approx(0.9)
    assert one.keypoints is not None
    assert one.keypoints.shape == (1, 17, 3)
    assert one.keypoints[0, [0, 16], :2] == pytest.approx(np.array([[30, 80], [50, 100]]), abs=2)
    assert nobody.keypoints is not None
    assert nobody.keypoints.shape == (0, 17, 3)


def test_rtmo_sees_batches_as_single_pictures(tmp_path: Path, rtmo: str) -> None:
    pictures = [picture(t / 10, 160, 120) for t in range(11)]
    dynamic = build_estimator(PoseConfig(estimator="rtmo", weights=rtmo)).estimate(pictures)
    fixed_file = networks.rtmo(tmp_path / "fixed.onnx", batch=4)
    fixed = build_estimator(PoseConfig(estimator="rtmo", weights=str(fixed_file))).estimate(pictures)
    for a, b in zip(dynamic, fixed, strict=True):
        assert np.array_equal(a.keypoints, b.keypoints)


def test_rtmo_on_a_video_and_in_the_lineage(make, rtmo: str) -> None:
    config = PoseConfig(estimator="rtmo", weights=rtmo, min_score=0.5)
    source = make(seconds=2, fps=10)
    frames = estimate_video(source, config)
    assert [len(f) for f in frames] == [1] * 20
    assert [f.boxes[0, 0] for f in frames] == pytest.approx([10 + 4 * i for i in range(20)], abs=3)
    sum_ = hashlib.sha256(Path(rtmo).read_bytes()).hexdigest()
    assert weights_of(config) == {"rtmo.onnx": {"sha256": sum_, "licence": "your own file"}}


def test_what_is_not_an_rtmo_network_is_refused(tmp_path: Path, rtmo: str) -> None:
    (tmp_path / "text.onnx").write_text("no network")
    other = networks.rtmo(tmp_path / "other.onnx", outputs=("boxes", "points"))
    for file, said in ((tmp_path / "text.onnx", "not an ONNX network"), (other, "gives boxes, points")):
        with pytest.raises(WeightsError, match=said):
            build_estimator(PoseConfig(estimator="rtmo", weights=str(file)))
    with pytest.raises(ConfigError, match=r"pose.device must be auto, cpu, cuda or tensorrt, not 'tensorcore'"):
        PoseConfig(device="tensorcore")
    with pytest.raises(PosewatchError, match=r"has no CUDAExecutionProvider \(it has .*; install onnxruntime-gpu"):
        build_estimator(PoseConfig(estimator="rtmo", weights=rtmo, device="cuda:1"))


def test_yolo11_batches_its_pictures(yolo11: str) -> None:
    detector = build_detector(MaskConfig(detector="yolo11", detector_weights=yolo11))
    pictures = [picture(t / 10, 240, 160) for t in range(5)]
    together = detector.detect(pictures)
    assert all(len(d) and d.scores[0] == pytest.approx(0.88, abs=0.01) for d in together)  # sigmoid of the bias
    alone = [detector.detect([p])[0] for p in pictures]
    for a, b in zip(together, alone, strict=True):
        assert a.boxes == pytest.approx(b.boxes, abs=0.5)
        assert (a.boxes[:, 2] <= 240).all()


def test_yolo11_loses_no_picture_of_a_batch_when_time_goes_by(yolo11: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ultralytics gives the rest of a batch up when the suppression of duplicates took seconds of the wall clock."""
    detector = build_detector(MaskConfig(detector="yolo11", detector_weights=yolo11))
    pictures = [picture(t / 10, 240, 160) for t in range(3)]
    expected = [len(found) for found in detector.detect(pictures)]
    now = itertools.count(
        time.time(), 60
    )  # the clock is set, the machine sleeps, a GPU or its share of CPUs is awaited
    monkeypatch.setattr(time, "time", lambda: next(now))
    assert [len(found) for found in detector.detect(pictures)] == expected
    assert all(expected)


def test_a_checkpoint_that_a_package_ships_follows_a_person_through_a_fall(ultralytics: Path, tmp_path: Path) -> None:
    fall = Path(__file__).resolve().parents[2].parent / "shared/data/video/gmdcsa24/Subject_1_Fall_13.mp4"
    if not fall.is_file():
        pytest.skip("the GMDCSA24 samples are not there")
    try:
        weights.path("fall-yolov8s")
    except WeightsError as error:
        pytest.skip(f"weights cannot be had here: {error}")
    config = MaskConfig(detector="yolo11", detector_weights="fall-yolov8s", segmenter="bbox", fps=4, min_score=0.4)
    report = mask_video(fall, tmp_path / "masked.mp4", config)
    assert report.frames_with_people >= 0.9 * report.frames
    assert weights_of(config)["fall-yolov8s"]["licence"] == "AGPL-3.0"
    found = read_detections(tmp_path / "detections.npz")
    biggest = [d.boxes[np.prod(d.boxes[:, 2:] - d.boxes[:, :2], 1).argmax()] for d in found if len(d)]
    assert min(float(iou(a[None], b[None])[0, 0]) for a, b in pairwise(biggest)) > 0.15


def test_bytetrack_numbers_persons_who_cross(ultralytics: Path) -> None:
    from posewatch.perception.networks.bytetrack import ByteTrack

    tracker = ByteTrack(0.5, hold=5)
    numbers = []
    for t in range(24):
        boxes = [[10 + 10 * t, 20, 50 + 10 * t, 120], [250 - 10 * t, 24, 290 - 10 * t, 130]]
        order = [0, 1] if t % 2 else [1, 0]
        if t == 8:
            order = [0]  # lost for a moment
        found = Detections(np.array([boxes[i] for i in order], np.float32), np.full(len(order), 0.9, np.float32))
        followed = tracker.update(found)
        assert followed.ids is not None
        places = [order[int(np.flatnonzero((found.boxes == box).all(1))[0])] for box in followed.boxes]
        numbers.append(dict(zip(places, followed.ids.tolist(), strict=True)))
    assert numbers[-1] == numbers[2]
    assert len({n for row in numbers for n in row.values()}) == 2
    assert len(tracker.update(Detections.none())) == 0


def test_yolo_seg_is_detector_and_segmenter_in_one_pass(ultralytics: Path) -> None:
    file = str(networks.yolo(ultralytics / "seg.pt", "yolo11n-seg.yaml"))
    config = MaskConfig(detector="yolo-seg", segmenter="yolo-seg", detector_weights=file)
    detector = build_detector(config)
    segmenter = build_segmenter(config, detector)
    assert segmenter is detector
    image = picture(0.5, 240, 160)
    found = detector.detect([image])[0].pick([0, 1])
    masks = segmenter.segment(image, found)
    assert masks.shape == (2, 160, 240)
    assert masks.dtype == bool
    with pytest.raises(WeightsError, match="for segment, not for detect"):
        build_detector(MaskConfig(detector="yolo11", detector_weights=file))


def test_yolo_pose_gives_skeletons(ultralytics: Path) -> None:
    file = str(networks.yolo(ultralytics / "pose.pt", "yolo11n-pose.yaml"))
    estimator = build_estimator(PoseConfig(estimator="yolo-pose", weights=file))
    found = estimator.estimate([picture(0.5, 240, 160)])[0]
    assert found.keypoints is not None
    assert found.keypoints.shape[1:] == (17, 3)
    assert ((found.keypoints[..., 2] >= 0) & (found.keypoints[..., 2] <= 1)).all()


@pytest.mark.filterwarnings("ignore")
def test_mmpose_runs_its_own_rtmo_at_random_weights(ultralytics: Path) -> None:
    mmpose = pytest.importorskip("mmpose", reason="needs MMPose, see docs/perception.md")
    folder = Path(mmpose.__file__).parent / ".mim/configs/body_2d_keypoint/rtmo/body7"
    config = PoseConfig(estimator="mmpose", weights=str(folder / "rtmo-t_8xb32-600e_body7-416x416.py"))
    found = build_estimator(config).estimate([picture(0.5, 320, 240)])[0]
    assert found.keypoints is not None
    assert found.keypoints.shape == (len(found), 17, 3)
    assert np.isfinite(found.keypoints).all()
    assert (np.diff(found.scores) <= 0).all()
    assert weights_of(config) == {}
    with pytest.raises(WeightsError, match="no such MMPose configuration"):
        build_estimator(PoseConfig(estimator="mmpose", weights=f"{folder}/nothing.py"))


class Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.file),)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zipped", [True, False], ids=["trained here", "published"])
def test_mmpose_reads_checkpoints_as_mmpose_writes_them(zipped: bool, ultralytics: Path, tmp_path: Path) -> None:
    mmpose = pytest.importorskip("mmpose", reason="needs MMPose, see docs/perception.md")
    import torch
    from mmengine.logging import HistoryBuffer

    folder = Path(mmpose.__file__).parent / ".mim/configs/body_2d_keypoint/rtmo/body7"
    config, file = folder / "rtmo-t_8xb32-600e_body7-416x416.py", tmp_path / "rtmo.pth"
    net: Any = build_estimator(PoseConfig(estimator="mmpose", weights=str(config)))._net  # type: ignore[attr-defined]
    held = {"meta": {"dataset_meta": net.dataset_meta, "seed": np.int64(3)}, "state_dict": net.state_dict()}
    held["message_hub"] = {"log_scalars": {"loss": HistoryBuffer([1.5, 0.5], [1, 1])}, "more": Trap(tmp_path / "ran")}
    torch.save(held, file, _use_new_zipfile_serialization=zipped)  # MMPose publishes the older format
    estimator: Any = build_estimator(PoseConfig(estimator="mmpose", weights=f"{config}::{file}"))
    read = estimator._net.state_dict()
    assert all(torch.equal(value, read[name]) for name, value in net.state_dict().items())
    assert not (tmp_path / "ran").exists()
    torch.save({"state_dict": {"other": torch.zeros(1)}}, file)
    with pytest.raises(WeightsError, match="holds no weights of the network"):
        build_estimator(PoseConfig(estimator="mmpose", weights=f"{config}::{file}"))
    file.write_bytes(b"no checkpoint")
    with pytest.raises(WeightsError, match="is not a checkpoint of MMPose"):
        build_estimator(PoseConfig(estimator="mmpose", weights=f"{config}::{file}"))


def test_sam2_prompts_when_somebody_appears_and_gives_frames_back(sam2: str) -> None:
    segmenter = build_segmenter(MaskConfig(segmenter="sam2", segmenter_weights=sam2, reprompt=100))
    segmenter.begin()
    image = picture(0.5, 240, 160)
    first, second = [20, 20, 120, 140], [150, 30, 220, 150]
    assert segmenter.segment(image, numbered([], [])).shape == (0, 160, 240)
    assert segmenter.prompts == 0
    masks = segmenter.segment(image, numbered([first], [7]))
    assert masks.shape == (1, 160, 240)
    shown = segmenter.prompts
    assert shown >= 1
    segmenter.segment(image, numbered([first, second], [7, 9]))
    assert segmenter.prompts > shown
    grown = BoxSegmenter().segment(image, numbered([[0, 0, 140, 160]], [7]))[0]
    assert not (masks[0] & ~grown).any()  # a mask does not leave its box by much
    assert set(segmenter.recall([7, 9, 11])) == {7, 9}
    frames = segmenter._session.processed_frames
    assert sum(f.numel() for f in frames.values()) == 0  # memory does not grow with the video
    segmenter.begin()
    assert segmenter.recall([7]) == {}


def test_edgetam_goes_the_same_way(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="needs the extra edgetam")
    folder = networks.edgetam(tmp_path / "edgetam")
    segmenter = build_segmenter(MaskConfig(segmenter="sam2", segmenter_weights=str(folder), reprompt=100))
    assert type(segmenter._net).__name__ == "EdgeTamVideoModel"
    segmenter.begin()
    image, person = picture(0.5, 240, 160), [20, 20, 120, 140]
    for _ in range(2):  # the second frame goes through the memory
        masks = segmenter.segment(image, numbered([person], [7]))
        assert masks.shape == (1, 160, 240)
        assert masks.any()
        grown = BoxSegmenter().segment(image, numbered([[0, 0, 140, 164]], [7]))[0]
        assert not (masks[0] & ~grown).any()
    assert set(segmenter.recall([7, 9])) == {7}


def test_sam2_prompts_every_so_many_frames_unless_mask_and_box_disagree(sam2: str, monkeypatch) -> None:
    segmenter = build_segmenter(MaskConfig(segmenter="sam2", segmenter_weights=sam2, reprompt=4))
    image, box = picture(0.5, 240, 160), [20, 20, 120, 140]
    monkeypatch.setattr(segmenter, "_agrees", lambda person, box: True)
    segmenter.begin()
    for _ in range(9):
        segmenter.segment(image, numbered([box], [1]))
    assert segmenter.prompts == 3  # frames 0, 4 and 8
    monkeypatch.setattr(segmenter, "_agrees", lambda person, box: False)
    segmenter.segment(image, numbered([box], [1]))
    assert segmenter.prompts == 4


def test_sam2_sees_pictures_as_its_own_processor_would(sam2: str) -> None:
    import torch
    from transformers import Sam2ImageProcessor

    segmenter = build_segmenter(MaskConfig(segmenter="sam2", segmenter_weights=sam2))
    image = picture(0.5, 320, 200)
    theirs = Sam2ImageProcessor(size={"height": 256, "width": 256})(images=image, return_tensors="pt").pixel_values
    assert torch.allclose(segmenter._pixels(image), theirs, atol=0.02)


def test_sam2_masks_a_video_the_same_way_twice(make, sam2: str, tmp_path: Path) -> None:
    config = MaskConfig(segmenter="sam2", segmenter_weights=sam2, fps=5, crops=True)
    source = make(seconds=2, fps=10)
    outs = []
    for name in "ab":
        segmenter = build_segmenter(config)
        report = mask_video(
            source, tmp_path / name / "m.mp4", config, detector=FixedNetwork(square), segmenter=segmenter
        )
        outs.append((tmp_path / name / "m.mp4").read_bytes())
    assert report.frames_with_people == 10
    assert outs[0] == outs[1]
    assert video.probe(tmp_path / "a" / "crops" / "person-0000-000000.mp4").frames == 10
    with pytest.raises(WeightsError, match=r"config\.json"):
        build_segmenter(MaskConfig(segmenter="sam2", segmenter_weights=f"{tmp_path}/a"))


def test_backends_that_take_no_weights_or_do_not_exist_say_so() -> None:
    with pytest.raises(ConfigError, match="movenet takes no weights"):
        weights_of(MaskConfig(detector_weights="yolo11n"))
    with pytest.raises(ConfigError, match=r"config\.py::checkpoint\.pth"):
        weights_of(PoseConfig(estimator="mmpose", weights="rtmo-s"))


def test_black_frames_need_no_network(make, rtmo: str, tmp_path: Path) -> None:
    looks: list[int] = []

    class Counting:
        name, layout, weights = "counting", "coco17", {}

        def estimate(self, images):
            looks.append(len(images))
            return [square(i) for i in images]

    mask_video(
        make(seconds=1), tmp_path / "m.mp4", MaskConfig(fps=10), detector=FixedNetwork(), segmenter=BoxSegmenter()
    )
    frames = estimate_video(tmp_path / "m.mp4", PoseConfig(), estimator=Counting())
    assert [len(f) for f in frames] == [0] * 10
    assert sum(looks) == 0


@pytest.mark.slow
def test_real_sizes_run_on_real_video(ultralytics: Path, tmp_path: Path, walk: Path) -> None:
    pytest.importorskip("transformers", reason="needs the extra sam2")
    frames = list(video.read(walk, 5, 480, start_s=2.0, end_s=2.4))
    part = tmp_path / "part.mp4"
    with video.Writer(part, 5, frames[0].image.shape[1::-1]) as writer:
        for frame in frames:
            writer.write(frame.image)
    config = MaskConfig(
        detector="yolo11", detector_weights=str(networks.yolo(ultralytics / "n.pt")), segmenter="sam2",
        segmenter_weights=str(networks.sam2(tmp_path / "hiera-tiny", real_size=True)), fps=5,
    )  # fmt: skip
    detector = build_detector(config)
    few = FixedNetwork(lambda image: detector.detect([image])[0].pick([0]))
    report = mask_video(part, tmp_path / "masked.mp4", config, detector=few, segmenter=build_segmenter(config))
    assert (report.frames, report.frames_with_people) == (2, 2)
