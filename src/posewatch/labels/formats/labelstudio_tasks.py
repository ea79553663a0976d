"""Tasks for Label Studio 1.23 and newer: every clip, with the annotations that people have given so far.

Label Studio refuses annotators who have no account there, so the author of an annotation stands in its result, under
``meta``; `labelstudio` reads it back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

from posewatch.files import write_atomically
from posewatch.labels.entries import MARKS, ClipEntry
from posewatch.labels.formats import media
from posewatch.labels.formats.snapshot import Snapshot

if TYPE_CHECKING:
    from posewatch.config import LabelConfig
    from posewatch.labels.store import LabelStore

TASKS, INTERFACE, CLIPS = "tasks.json", "interface.xml", "clips"
"""What a bundle holds: the tasks, the project's labeling interface, the folder of the clips' files."""


def write(store: LabelStore, snapshot: Snapshot, entries: Iterable[ClipEntry], config: LabelConfig, path: Path) -> int:
    """Write the tasks of ``entries`` to ``path``, a .json file or a folder; returns the number of labelled clips.

    A folder is a bundle: the clips' files, the tasks that name them as Label Studio's local files, and the project's
    labeling interface. In a .json file the tasks have the addresses of `media.address`.
    """
    bundle = path.suffix.lower() != ".json"
    entries = list(entries)
    made = tasks(store, snapshot, entries, bundle)
    if bundle:
        for entry in entries:
            media.copy(entry, path / CLIPS / f"{entry.clip.id}.mp4")
        write_atomically(path / INTERFACE, interface(config))
    text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
    write_atomically(path / TASKS if bundle else path, text)
    return len(snapshot.rows)


def interface(config: LabelConfig) -> str:
    """The labeling interface of the project."""
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in config.classes)
    return (
        '<View>\n  <Video name="video" value="$video"/>\n'
        f'  <Choices name="label" toName="video" choice="single">\n{choices}\n  </Choices>\n</View>\n'
    )


def tasks(
    store: LabelStore, snapshot: Snapshot, entries: Iterable[ClipEntry], bundle: bool = False
) -> list[dict[str, Any]]:
    """One task per clip; the current label is the first annotation and ground truth, the votes of others follow."""
    rows = {row["clip_id"]: row for row in snapshot.rows}
    states = store.states(rows)
    found = []
    for number, entry in enumerate(entries, 1):
        clip, row = entry.clip, rows.get(entry.clip.id)
        video = f"/data/local-files/?d={CLIPS}/{clip.id}.mp4" if bundle else media.address(entry)
        data = {"video": video, "clip_id": clip.id, "source_video": entry.video, "start_s": clip.start_s}
        data |= {} if clip.person is None else {"person": clip.person}
        given = [(row["who"], row["label"], row["source"], row["model_version"])] if row else []
        if row:
            votes = sorted(states[clip.id].votes.items())
            given += [
                (who, vote.new, vote.source, vote.model_version)
                for who, vote in votes
                if who != row["who"] and vote.new not in (None, *MARKS)
            ]
        annotations = [_annotation(*one, ground_truth=i == 0) for i, one in enumerate(given)]
        found.append(
            {"id": number, "data": {**data, "length_s": clip.length_s}, "annotations": annotations, "predictions": []}
        )
    return found


def _annotation(who: str, label: str, source: str, model_version: str | None, ground_truth: bool) -> dict[str, Any]:
    about = {"who": who, "label": label, "source": source, "model_version": model_version}
    result = {"from_name": "label", "to_name": "video", "type": "choices", "value": {"choices": [label]}}
    return {"ground_truth": ground_truth, "result": [{**result, "meta": {"posewatch": about}}]}
