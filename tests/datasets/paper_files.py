"""Files as the tools of the paper's authors leave them, written from what those tools do (docs/from-the-paper.md): a
folder of persons' clips, labels, poses, and the dataset that is made of them."""

from __future__ import annotations

import json
import pickle
import random
from pathlib import Path

import numpy as np
from skeletons import walk

CLASSES = ["normal", "falldown", "selfharm"]


def pose_json(path: Path, people: list[np.ndarray], gaps: tuple[int, ...] = ()) -> None:
    """MMPose's predictions of one video: frames of instances; ``people`` are (T, 17, 3), ``gaps`` frames of nobody."""
    frames = []
    for t in range(len(people[0])):
        instances = [
            {
                "keypoints": one[t, :, :2].tolist(),
                "keypoint_scores": one[t, :, 2].tolist(),
                "bbox": [[*one[t, :, :2].min(0).tolist(), *one[t, :, :2].max(0).tolist()]],
                "bbox_score": 0.9,
            }
            for one in ([] if t in gaps else people)
        ]
        frames.append({"frame_id": t, "instances": instances})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(frames, indent=2))


def dataset_pkl(path: Path, poses: Path, names: list[str], labels: dict[str, int], seed: int = 0) -> Path:
    """What the tool makes of a folder of poses: paths in the split, one annotation per instance, relative coordinates
    in half precision, and class 0 where ``labels`` (by name without ending) says nothing."""
    rng = random.Random(seed)
    split: dict[str, list[str]] = {"train": [], "val": []}
    rows = []
    for name in names:
        split["train" if rng.random() < 0.8 else "val"].append(f"data/input/{name}.mp4")
        people: list[tuple[list, list]] = [([], []) for _ in range(6)]
        frames = json.loads((poses / f"{name}.json").read_text())
        for frame in frames:
            for i, one in enumerate(frame["instances"][:6]):
                xy = np.array(one["keypoints"])
                with np.errstate(all="ignore"):
                    relative = (xy - (xy[11] + xy[12]) / 2) / np.linalg.norm(xy[11] - xy[12])
                people[i][0].append(relative)
                people[i][1].append(one["keypoint_scores"])
        for keypoints, scores in people:
            if keypoints:
                rows.append(
                    {
                        "frame_dir": name,
                        "label": labels.get(name, 0),
                        "img_shape": (640, 480),
                        "original_shape": (640, 480),
                        "total_frames": len(frames),
                        "keypoint": np.array([keypoints], np.float16),
                        "keypoint_score": np.array([scores], np.float16),
                    }
                )
    path.write_bytes(pickle.dumps({"split": split, "annotations": rows}))
    return path


def folder(root: Path, videos: int = 5, clips: int = 4) -> list[str]:
    """``output/pose/*.json``, ``input/label.csv`` and ``label_map.txt`` of persons' clips ``<video>_<person>_<i>``; the
    last clip of each video has no label. Returns the clips' names."""
    names = [f"cam-{v:02d}_{p}_{i}" for v in range(videos) for p in range(2) for i in range(clips)]
    rows = []
    for k, name in enumerate(names):
        waving = k % 3 == 0
        pose_json(root / "output/pose" / f"{name}.json", [walk(k, waving, frames=30)[0]])
        if not name.endswith(f"_1_{clips - 1}"):
            rows.append(f"{name}.mp4, {'selfharm' if waving else 'normal'}\n")
    (root / "input").mkdir(parents=True, exist_ok=True)
    (root / "input/label.csv").write_text("".join(rows))
    (root / "input/label_map.txt").write_text("normal\nselfharm\n")
    return names
