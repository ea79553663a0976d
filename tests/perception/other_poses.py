"""Poses as other tools write them, from what their writers' source does; each takes tracks (M, T, V, 3) in pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def triples(person: np.ndarray) -> list[float]:
    return [round(float(v), 3) for v in person.reshape(-1)]


def openpose(folder: Path, video: str, tracks: np.ndarray, first: int = 0, step: int = 1, scale: float = 1.0) -> None:
    """``--write_json``: a file for each frame, people in any order, joints that are not found as 0, 0, 0."""
    folder.mkdir(parents=True, exist_ok=True)
    for t in range(tracks.shape[1]):
        people = [
            {"person_id": [-1], "pose_keypoints_2d": triples(one[t] * [scale, scale, 1]), "face_keypoints_2d": []}
            for one in np.roll(tracks, t, 0)
            if one[t, :, 2].any()
        ]
        name = f"{video}_{first + t * step:012d}_keypoints.json"
        (folder / name).write_text(json.dumps({"version": 1.3, "people": people}))


def alphapose(path: Path, tracks: np.ndarray, ids: bool = True, form: str = "") -> None:
    """The list, ``image_id`` without padding, frames without persons left out; or ``form`` "open" or "cmu"."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, frames = [], {}
    for t in range(tracks.shape[1]):
        for m, one in enumerate(tracks):
            if not one[t, :, 2].any():
                continue
            idx = ([[m + 1.0]] if t % 2 else m + 1) if ids else [0.0]
            rows.append({"image_id": f"{t}.jpg", "category_id": 1, "keypoints": triples(one[t]), "score": 2.9,
                         "box": [0.0, 0.0, 9.0, 9.0], "idx": idx})  # fmt: skip
            key, inner = ("bodies", "joints") if form == "cmu" else ("people", "pose_keypoints_2d")
            frames.setdefault(f"{t}.jpg", {"version": "AlphaPose v0.3", key: []})[key].append({inner: triples(one[t])})
    path.write_text(json.dumps(frames if form else rows))


def coco_results(path: Path, tracks: np.ndarray) -> None:
    rows = [
        {"image_id": 100 + t, "category_id": 1, "keypoints": triples(one[t]), "score": 0.9}
        for t in range(tracks.shape[1])
        for one in tracks
    ]
    path.write_text(json.dumps(rows))


def coco_annotations(
    path: Path, videos: dict[str, np.ndarray], names: list[str], tracks_in: str = "attributes"
) -> None:
    """As CVAT exports tracks: the number of a track in ``attributes``, annotations without keypoints in between."""
    images, annotations = [], []
    for video, tracks in videos.items():
        for t in range(tracks.shape[1]):
            images.append(
                {"id": len(images) + 1, "file_name": f"{video}/frame_{t:06d}.PNG", "width": 640, "height": 480}
            )
            for m, one in enumerate(tracks):
                joints = one[t].copy()
                joints[:, 2] = np.where(joints[:, 2] > 0, 2, 0)
                joints[joints[:, 2] == 0] = 0
                about = {"attributes": {"occluded": False, "track_id": m, "keyframe": True}}
                about = about if tracks_in == "attributes" else {tracks_in: m}
                annotations.append({"id": len(annotations) + 1, "image_id": len(images), "category_id": 1, "iscrowd": 0,
                                    "bbox": [0, 0, 9, 9], "keypoints": triples(joints), **about})  # fmt: skip
            annotations.append({"id": len(annotations) + 1, "image_id": len(images), "category_id": 2, "keypoints": []})
    categories = [{"id": 1, "name": "person", "keypoints": names, "skeleton": []}, {"id": 2, "name": "dog"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def ultralytics_json(folder: Path, video: str, tracks: np.ndarray, ids: bool = True, in_one: bool = False) -> None:
    """``Results.summary()`` of each frame, in a file of its own or all in one."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = []
    for t in range(tracks.shape[1]):
        frame = []
        for m, one in enumerate(tracks):
            if not one[t, :, 2].any():
                continue
            x, y, seen = (one[t, :, i].round(5).tolist() for i in range(3))
            box = {"x1": 0, "y1": 0, "x2": 9, "y2": 9}
            row = {"name": "person", "class": 0, "confidence": 0.8, "box": box}
            row |= {"track_id": m + 1} if ids else {}
            frame.append({**row, "keypoints": {"x": x, "y": y, "visible": seen}})
        frames.append(frame)
    if in_one:
        (folder / f"{video}.json").write_text(json.dumps(frames))
    else:
        for t, frame in enumerate(frames):
            (folder / f"{video}_{t}.json").write_text(json.dumps(frame))


def yolo(
    folder: Path, video: str, tracks: np.ndarray, size: tuple[int, int], conf: bool, ids: bool, per: int = 3
) -> None:
    """``save_txt``: frames from 1 on without padding, none where nobody is seen; shares of the picture."""
    folder.mkdir(parents=True, exist_ok=True)
    for t in range(tracks.shape[1]):
        lines = []
        for m, one in enumerate(tracks):
            if one[t, :, 2].any():
                joints = one[t] / [size[1], size[0], 1]
                row = [
                    0,
                    0.5,
                    0.5,
                    0.2,
                    0.4,
                    *joints[:, :per].reshape(-1),
                    *([0.81] if conf else []),
                    *([m + 1] if ids else []),
                ]
                lines.append(" ".join(f"{v:g}" for v in row) + "\n")
        if lines:
            (folder / f"{video}_{t + 1}.txt").write_text("".join(lines))


def kinetics(path: Path, tracks: np.ndarray, label: str, index: int, size: tuple[int, int] = (256, 340)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = []
    for t in range(tracks.shape[1]):
        skeletons = []
        for one in np.roll(tracks, t, 0):
            xy = (one[t, :, :2] / [size[1], size[0]]).round(3)
            if one[t, :, 2].any():
                skeletons.append({"pose": xy.reshape(-1).tolist(), "score": one[t, :, 2].round(3).tolist()})
        frames.append({"frame_index": t + 1, "skeleton": skeletons})
    path.write_text(json.dumps({"data": frames, "label": label, "label_index": index}))


def skeleton(path: Path, bodies: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]], frames: int) -> None:
    """NTU RGB+D: ``bodies`` by id: frame → (in the picture (25, 3), in space (25, 3)); a score of 0 is not tracked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [str(frames)]
    for t in range(frames):
        here = [(name, body[t]) for name, body in bodies.items() if t in body]
        lines.append(str(len(here)))
        for name, (picture, space) in here:
            lines += [f"{name} 0 1 1 0 0 0 0.1 -0.2 2", "25"]
            for (x, y, seen), where in zip(picture, space, strict=True):
                xyz = " ".join(f"{v:.7g}" for v in where)
                lines.append(f"{xyz} 250.1 200.2 {x:.7g} {y:.7g} -0.2 0.03 0.9 -0.02 {2 if seen else 0}")
    path.write_text("\n".join(lines) + "\n")
