"""Alarms by kind of act: what a recogniser takes for the class that raises alarms, and which of those it finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.datasets.clipset import ClipSet
from posewatch.recognition.evaluation.metrics import wilson

FALSE, FOUND = "false_alarms_by_act", "recall_by_act"


def acts_of(clips: ClipSet) -> Sequence[str]:
    """What is done in each of N clips: its act, else its class; () where nobody says and there are two classes only."""
    if not clips.acts and len(clips.classes) <= 2:
        return ()
    acts = clips.acts or [""] * len(clips)
    return [act or clips.classes[k] for act, k in zip(acts, clips.labels, strict=True)]


def alarms_by_act(
    alarms: NDArray[np.bool_], truth: NDArray[np.bool_], acts: Sequence[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """``false_alarms_by_act`` of clips without an event and ``recall_by_act`` of those with one: act → clips, alarms,
    their share and its 95 % interval. ``alarms`` and ``truth`` (N,); {} for no ``acts``."""
    if not len(acts):
        return {}
    known = np.array(acts)
    return {FALSE: _shares(alarms[~truth], known[~truth]), FOUND: _shares(alarms[truth], known[truth])}


def _shares(alarms: NDArray[np.bool_], acts: NDArray[np.str_]) -> dict[str, dict[str, Any]]:
    out = {}
    for act in np.unique(acts):
        own = alarms[acts == act]
        hits, n = int(own.sum()), len(own)
        out[str(act)] = {"clips": n, "alarms": hits, "share": round(hits / n, 6), "interval": wilson(hits, n)}
    return out


def lines(metrics: dict[str, Any]) -> list[str]:
    """The two tables of ``metrics`` as text, what alarms most first; [] where there are none."""
    out = []
    for key, title in ((FALSE, "false alarms by act"), (FOUND, "found, by act")):
        rows = metrics.get(key) or {}
        if rows:
            out.append(f"{title:<24}{'clips':>8}{'alarms':>8}{'share':>8}   95 % interval")
        for act, row in sorted(rows.items(), key=lambda item: (-item[1]["share"], item[0])):
            low, high = row["interval"]
            out.append(f"  {act:<22}{row['clips']:>8}{row['alarms']:>8}{row['share']:>8.3f}   {low:.3f} to {high:.3f}")
    return out
