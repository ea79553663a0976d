"""Everything about a run on one page: ``report.html`` and ``cover.jpg``."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from posewatch import lineage
from posewatch.artifact import Artifact, Job, produce
from posewatch.progress import Progress
from posewatch.records import Clip, Skeleton
from posewatch.stages.contents import (
    ALARMS,
    BENCH,
    SMOKE,
    by_video,
    clips_of,
    dataset_about,
    dataset_labels,
    mask_report,
    masked_file,
    masked_frame,
    masked_of,
    masked_parts,
    metrics_of,
    persons_of,
    plots_of,
    predictions_of,
    raw_file,
    raw_of,
    skeletons_of,
    videos_of,
)
from posewatch.store import ObjectStore
from posewatch.units import shown

if TYPE_CHECKING:
    from posewatch.report.pictures import Image

MAX_SCENES, TRIPTYCHS, CLIPS_SHOWN = 16, 8, 12
MAX_PERSONS = 4
"""Of one moment, that are shown alone."""


@dataclass(frozen=True)
class Scene:
    """A clip to be shown, with its skeleton and its label; ``clips`` is the artifact that holds its file."""

    name: str
    clip: Clip
    clips: Artifact
    skeleton: Skeleton
    label: str | None = None

    @property
    def visibility(self) -> float:
        """Mean joint score."""
        return float(self.skeleton.keypoints[..., 2].mean())


def report(
    store: ObjectStore,
    evaluation: Artifact,
    bench: Artifact,
    scores: Artifact,
    smoke: Artifact,
    *,
    about: str = "",
    persons: Artifact | None = None,
) -> Artifact:
    """Write the report of a run. ``about`` says where the videos come from; it is printed as given.

    ``persons`` is a set of videos masked with ``mask.unit=person``, of which one moment is shown person by person.
    """

    def write(folder: Path) -> None:
        from jinja2 import Environment, StrictUndefined

        from posewatch.report import pictures

        with Progress("report", 3, "part") as progress:
            dataset, predictions = lineage.ancestor(evaluation, "datasets"), predictions_of(scores)
            scenes = _scenes(scores, dataset_labels(dataset), {row["clip"] for row in predictions})
            progress.advance()
            triptychs = [_triptych(scene) for scene in scenes[:TRIPTYCHS]]
            (folder / "cover.jpg").write_bytes(pictures.jpeg(pictures.sheet(triptychs[:4], 1), 80))
            progress.advance()
            page = Environment(autoescape=True, undefined=StrictUndefined).from_string(
                (resources.files("posewatch") / "report" / "page.html").read_text(encoding="utf-8")
            )
            plots = {**plots_of(evaluation), **plots_of(bench)}
            html = page.render(
                about=about,
                metrics=metrics_of(evaluation),
                dataset=dataset_about(dataset),
                bench=bench.json(BENCH),
                smoke=smoke.json(SMOKE),
                sheet=pictures.data_uri(pictures.jpeg(pictures.sheet(triptychs, 2)), "image/jpeg"),
                clips=[
                    (scene, pictures.data_uri(scene.clips.read(f"{scene.clip.id}.mp4"), "video/mp4"))
                    for scene in scenes[:CLIPS_SHOWN]
                ],
                plots={name: pictures.data_uri(png, "image/png") for name, png in plots.items()},
                predictions=predictions,
                videos=len(lineage.raw_videos(scores)),
                lineage=lineage.text(smoke),
                persons=None if persons is None else _persons(persons),
                weights=_weights(smoke),
                version=evaluation.lineage().code_version,
            )
            (folder / "report.html").write_text(html, encoding="utf-8")
            progress.advance()

    parents = (evaluation, bench, scores, smoke, *([persons] if persons is not None else []))
    return produce(store, Job("reports", "", {"about": about}, parents), write)


def _weights(artifact: Artifact) -> list[tuple[str, dict[str, str]]]:
    """Name → {"sha256", "licence"} of all weights that an artifact depends on, sorted by name."""
    weights: dict[str, dict[str, str]] = {}
    for node in lineage.trace(artifact):
        weights.update(node.lineage.weights)
    return sorted(weights.items())


def _triptych(scene: Scene) -> Image:
    from posewatch.report import pictures

    masked = masked_of(scene.clips)
    with tempfile.TemporaryDirectory(prefix="posewatch-report-") as temp:
        raw = raw_file(raw_of(masked), Path(temp))
        first = masked_frame(mask_report(masked), scene.clip.start_s)
        image = pictures.triptych(raw, masked_file(masked, Path(temp)), scene.clip, scene.skeleton, first)
    title = f"{scene.name}  {scene.clip.start_s:g}-{scene.clip.end_s:g} s  {scene.label or 'no label'}"
    return pictures.caption(image, title)


def _persons(masked: Artifact) -> str | None:
    """The moment at which most persons are seen: the raw frame, everybody, and each person alone; None without any."""
    from posewatch.report import pictures

    item = max(videos_of(masked), key=lambda item: len(persons_of(item.artifact)))
    people, report = persons_of(item.artifact), mask_report(item.artifact)
    if not people:
        return None
    boxes = [p.detections(report["frames"]) for p in people]
    frame = max(range(report["frames"]), key=lambda i: sum(row[i] is not None for row in boxes))
    there = [p for p in people if p.first <= frame < p.end][:MAX_PERSONS]
    ahead_s = next(ahead for first, _, ahead in reversed(masked_parts(report)) if first <= frame)
    fps, side = report["fps"], max(report["width"], report["height"])
    with tempfile.TemporaryDirectory(prefix="posewatch-report-") as temp:
        raw = raw_file(raw_of(item.artifact), Path(temp))
        views = [
            ("the camera", pictures.frame_at(raw, fps, frame + round(ahead_s * fps), side)),
            ("scene", pictures.frame_at(masked_file(item.artifact, Path(temp)), fps, frame)),
            *(
                (f"person {p.person}", pictures.frame_at(item.artifact.fetch(p.file, Path(temp)), fps, frame - p.first))
                for p in there
            ),
        ]
    row = [pictures.caption(pictures.fit(image), title) for title, image in views]
    return pictures.data_uri(pictures.jpeg(pictures.sheet(row, len(row))), "image/jpeg")


def _scenes(scores: Artifact, labels: dict[str, str], unlabelled: set[str]) -> Sequence[Scene]:
    """Clips to show: per video the most visible one of each class, the classes in turn, unlabelled clips among them."""
    skeletons = by_video(lineage.ancestor(scores, "sets", "pose"))
    groups: dict[str, list[Scene]] = {}
    for item in videos_of(lineage.ancestor(scores, "sets", "split")):
        if ALARMS in item.artifact.files:  # there is no raw video to show beside it
            continue
        poses = skeletons_of(skeletons[item.video])
        name = Path(item.names[0]).stem
        scenes = [
            Scene(shown(name, c.person), c, item.artifact, poses[c.id], labels.get(c.id))
            for c in clips_of(item.artifact)
        ]
        taken: set[str] = set()
        for scene in sorted(scenes, key=lambda s: -s.visibility):
            kind = scene.label or ("unlabelled" if scene.clip.id in unlabelled else "")
            if kind and kind not in taken and scene.skeleton.persons:
                taken.add(kind)
                groups.setdefault(kind, []).append(scene)
    kinds = sorted(groups, key=lambda k: (k == "unlabelled", k))
    for kind in kinds:
        groups[kind].sort(key=lambda s: -s.visibility)
    chosen: list[Scene] = []
    while any(groups.values()) and len(chosen) < MAX_SCENES:
        chosen.extend(groups[kind].pop(0) for kind in kinds if groups[kind])
    return chosen
