"""For operators: the alarms of the cameras, newest first, to be judged. The address holds the filter and the page."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import streamlit as st

from labeling_ui import acts, alarm_routes, metrics, wiring
from labeling_ui.common import Viewer, errors_shown
from labeling_ui.grid import alarms as component
from labeling_ui.grid import outbox
from labeling_ui.server import base
from posewatch import alarms
from posewatch.errors import LabelError, LabelStoreDown, NotAllowed, StoreError
from posewatch.labels import judging, verdicts
from posewatch.labels.judging import AlarmFilter, AlarmPage
from posewatch.labels.precision import FEWEST, Figures, Share
from posewatch.labels.team import roles
from posewatch.labels.verdicts import Verdict

KEY = "alarms"
MARKS = tuple(zip(verdicts.VERDICTS, "1234", strict=True))
"""The verdicts with their keys."""
NAVIGATION = ("filter", "next", "previous", "look", "raw")
"""Acts of this page that only change what is shown."""
CAMERAS = 8
"""Cameras whose precision is told, those with the most verdicts."""


@errors_shown
def show(viewer: Viewer) -> None:
    roles.require(viewer.role, viewer.who, roles.JUDGE)
    st.subheader(viewer.texts["alarms"], anchor=False)
    _judge(viewer)


@st.fragment
@errors_shown
@metrics.timed("page")
def _judge(viewer: Viewer) -> None:
    answers = st.session_state.setdefault("answers", acts.Answers())
    view = st.session_state.setdefault("view alarms", {})
    query = st.query_params.to_dict()

    def navigate(act: dict[str, Any]) -> None:
        kind, wanted = act["kind"], AlarmFilter.from_query(query).query()
        if kind == "raw":
            needed = wiring.label_config().raw_alarms
            record = judging.look(wiring.label_store(), wiring.alarm_store, needed, viewer.who, act)
            url = alarm_routes.raw_url(record.artifact.store.uri, record.prefix, base())
            view["raw"] = {"id": act["id"], "alarm": record.id, "url": url}
        elif kind == "filter" and isinstance(act.get("query"), dict):
            view["at"] = None  # the same filter once more looks again
            st.query_params.from_dict(AlarmFilter.from_query(act["query"]).query())
        elif act.get("page") != view.get("at"):  # or sent twice
            return
        elif kind == "next" and view["page"].older:
            st.query_params.from_dict(wanted | {"before": judging.cursor(view["page"].oldest)})
        elif kind == "previous":
            st.query_params.from_dict(wanted | _before(view))

    def on_acts() -> None:
        sent, answered = outbox(KEY), answers.ids()
        for act in sent:
            if act.get("kind") in NAVIGATION and act["id"] not in answered:
                try:
                    navigate(act)
                    answers.saved.append(act["id"])
                except (LabelStoreDown, StoreError):
                    continue  # the browser sends it again
                except (LabelError, NotAllowed) as error:
                    answers.refused.append({"id": act["id"], "message": viewer.said(error)})
        viewer.handle(sent, answers, lambda act: None)

    problem = ""
    try:
        roles.require(viewer.role, viewer.who, roles.JUDGE)
        data = view["data"] = _data(viewer, query, view)
    except (LabelStoreDown, StoreError) as error:
        if "data" not in view and isinstance(error, LabelStoreDown):
            raise
        # the page stays as it was, and goes on to keep what is pressed
        data = view.setdefault("data", _empty(viewer, {}))
        data.update(away=isinstance(error, StoreError), kept=str(error) if isinstance(error, LabelStoreDown) else "")
    except LabelError as error:  # a filter that is wrong leaves the form, where it can be mended
        names = [field.name for field in dataclasses.fields(AlarmFilter)]
        problem, data = viewer.said(error), _empty(viewer, {name: query[name] for name in names if name in query})
        view["data"] = data
    data["raw"] = view.get("raw")
    data.update(saved=answers.saved, refused=answers.refused, judged=list(answers.judged.values()), problem=problem)
    data["kept"] = data["kept"] or answers.kept
    component(data, KEY, on_acts)


def _before(view: dict[str, Any]) -> dict[str, str]:
    """The address of the page before, of those that were seen; else the first page."""
    seen = view["seen"]
    at = seen.index(view["before"]) if view["before"] in seen else 0
    return {"before": seen[at - 1]} if at > 0 and seen[at - 1] else {}


def _data(viewer: Viewer, query: dict[str, str], view: dict[str, Any]) -> dict[str, Any]:
    wanted, before = AlarmFilter.from_query(query), query.get("before", "")
    index, judged = wiring.alarm_index(), wiring.judged()
    stamp = alarm_routes.stamp()
    at = json.dumps([wanted.query(), before])
    if view.get("at") != at:
        seen = view.get("seen", []) if view.get("filter") == wanted else []
        seen = seen[: seen.index(before)] if before in seen else seen
        view.update(at=at, filter=wanted, before=before, seen=[*seen, before], floor=None, keep=())
    page = judging.page(index, judged, wanted, before=before, floor=view["floor"], keep=view["keep"])
    view.update(page=page, keep=[row.id for row in page.rows])
    if not page.reading:
        view["floor"] = view["floor"] or page.oldest
    data = _empty(viewer, wanted.query())
    data.update(
        page=at,
        stamp=stamp,
        news=alarm_routes.news_url(index.store.uri, base()),
        rows=[_row(viewer, index.store.uri, row, page) for row in page.rows],
        turns=[*(["previous"] if page.newer else []), *(["next"] if page.older else [])],
        reading=page.reading,
        start=query.get("alarm", ""),
        cameras=sorted(index.cameras().items(), key=lambda item: item[1]),
        versions=sorted(index.versions().items(), key=lambda item: item[1]),
        figures=_figures(judged.figures()),
    )
    return data


def _empty(viewer: Viewer, query: dict[str, str]) -> dict[str, Any]:
    """A page without alarms."""
    texts = viewer.texts
    data = viewer.grid_data("alarms", "")
    marks = [{"label": verdict, "text": texts[f"verdict_{verdict}"], "key": key} for verdict, key in MARKS]
    more: dict[str, Any] = {
        "classes": [],
        "marks": marks,
        "all_marks": marks,
        "words": {**texts, **texts["alarms_words"]},
        "may_raw": roles.at_least(viewer.role, wiring.label_config().raw_alarms),
        "kinds": [*alarms.KINDS, "all"],
        "query": query,
        **dict.fromkeys(("rows", "cameras", "versions", "turns"), ()),
        **dict.fromkeys(("kept", "news", "stamp", "start"), ""),
        **dict.fromkeys(("away", "reading"), False),
        "figures": None,
    }
    return {**data, **more}


def _row(viewer: Viewer, store: str, row: Any, page: AlarmPage) -> dict[str, Any]:
    said = page.verdicts.get(row.id)
    return {
        "id": row.id, "record": row.prefix, "kind": row.kind, "camera": row.camera, "person": row.person,
        "time": row.time, "length": row.length_s, "score": row.score, "on": row.on, "version": row.named,
        "rule": row.rule, "about": alarm_routes.about_url(store, row.prefix, base()),
        "said": _said(said, viewer.who) if said else None,
    }  # fmt: skip


def _said(verdict: Verdict, who: str) -> dict[str, Any]:
    about = {name: getattr(verdict, name) for name in ("id", "verdict", "who", "when", "note")}
    return {**about, "mine": verdict.who == who}


def _figures(found: Figures) -> dict[str, Any]:
    cameras = list(found.cameras.items())
    return {
        "judged": found.judged,
        "cameras": [[camera, *_share(share)] for camera, share in cameras[:CAMERAS]],
        "others": max(0, len(cameras) - CAMERAS),
        "missed": _share(found.missed),
        "fewest": FEWEST,
    }


def _share(share: Share) -> tuple[int, int, float, float]:
    return share.hits, share.n, *share.interval
