"""Everything about a run on one page: ``report.html`` and ``cover.jpg``."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from posewatch import lineage
from posewatch.artifact import Artifact, Job, get, members, produce
from posewatch.progress import Progress
from posewatch.stages.contents import clips_of, skeletons_of
from posewatch.store import ObjectStore


def ancestor(artifact: Artifact, stage: str, unit: str = "") -> Artifact:
    """The nearest artifact of ``stage`` that ``artifact`` was made from. Raises LookupError."""
    for node in lineage.trace(artifact):
        if node.lineage.stage == stage and (not unit or node.lineage.unit == unit):
            return node.artifact
    raise LookupError(f"{artifact.uri} was not made from any {stage}")


def report(
    store: ObjectStore, evaluation: Artifact, bench: Artifact, scores: Artifact, smoke: Artifact, *, about: str = ""
) -> Artifact:
    """Write the report of a run. ``about`` says where the videos come from; it is printed as given."""
    job = Job("reports", "", {"about": about}, (evaluation, bench, scores, smoke))

    def make(folder: Path) -> None:
        from jinja2 import Environment, StrictUndefined

        from posewatch.report import pictures

        with Progress("report", 3, "part") as progress:
            data, parts = ancestor(evaluation, "datasets"), evaluation.json("metrics.json")
            predictions = scores.lines("predictions.jsonl")
            scenes = _scenes(store, scores, data, predictions)
            progress.advance()
            triptychs = [
                pictures.caption(
                    pictures.triptych(s),
                    f"{s.name}  {s.clip.start_s:g}-{s.clip.end_s:g} s  {s.label or 'no label'}",
                )
                for s in scenes[:8]
            ]
            cover = pictures.jpeg(pictures.sheet(triptychs[:4], 1), 80)
            (folder / "cover.jpg").write_bytes(cover)
            progress.advance()
            sources = [node for node in lineage.trace(scores) if node.lineage.stage == "raw" and not node.seen]
            page = Environment(autoescape=True, undefined=StrictUndefined).from_string(
                (resources.files("posewatch") / "report" / "page.html").read_text(encoding="utf-8")
            )
            html = page.render(
                about=about,
                metrics=parts,
                dataset=data.json("dataset.json"),
                bench=bench.json("bench.json"),
                smoke=smoke.json("smoke.json"),
                sheet=pictures.data_uri(pictures.jpeg(pictures.sheet(triptychs, 2)), "image/jpeg"),
                clips=[(s, pictures.clip_uri(s)) for s in scenes[:12]],
                plots={
                    name.removesuffix(".png"): pictures.data_uri(source.read(name), "image/png")
                    for source in (evaluation, bench)
                    for name in source.files
                    if name.endswith(".png")
                },
                predictions=predictions,
                videos=len(sources),
                lineage=lineage.text(smoke),
                weights=_weights(smoke),
                version=evaluation.lineage().code_version,
            )
            (folder / "report.html").write_text(html, encoding="utf-8")
            progress.advance()

    return produce(store, job, make)


def _weights(artifact: Artifact) -> list[tuple[str, dict[str, str]]]:
    found: dict[str, dict[str, str]] = {}
    for node in lineage.trace(artifact):
        found.update(node.lineage.weights)
    return sorted(found.items())


def _scenes(store: ObjectStore, scores: Artifact, data: Artifact, predictions: list[dict[str, Any]]) -> list[Any]:
    """Clips worth a picture: classes in turn, each from another video, with one unlabelled clip among them."""
    from posewatch.report.pictures import Scene

    labels = {row["clip"]: row["label"] for row in data.lines("clips.jsonl")}
    unlabelled = {row["clip"] for row in predictions}
    skeletons = {row["video"]: a for row, a in members(ancestor(scores, "sets", "pose"))}
    groups: dict[str, list[Scene]] = {}
    for row, clips in members(ancestor(scores, "sets", "split")):
        masked = get(store, clips.lineage().parents[0].prefix)
        raw = get(store, masked.lineage().parents[0].prefix)
        poses = skeletons_of(skeletons[row["video"]])
        seen = sorted(clips_of(clips), key=lambda c: -float(poses[c.id].keypoints[..., 2].mean()))
        taken: set[str] = set()
        for clip in seen:
            label = labels.get(clip.id)
            kind = label or ("unlabelled" if clip.id in unlabelled else "")
            if kind and kind not in taken and poses[clip.id].persons:
                taken.add(kind)
                groups.setdefault(kind, []).append(
                    Scene(Path(row["names"][0]).stem, clip, raw, masked, clips, poses[clip.id], label)
                )
    # well-seen videos first, then the kinds in turn
    order = sorted(groups, key=lambda k: (k == "unlabelled", k))
    for kind in order:
        groups[kind].sort(key=lambda s: -float(s.skeleton.keypoints[..., 2].mean()))
    out: list[Scene] = []
    while any(groups.values()) and len(out) < 16:
        out.extend(groups[kind].pop(0) for kind in order if groups[kind])
    return out
