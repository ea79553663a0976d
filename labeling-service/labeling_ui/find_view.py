"""For a reviewer: finds clips by filters. The address holds the filter, the page and the clip, so it can be sent."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from labeling_ui import acts, guide
from labeling_ui.common import Viewer, errors_shown, only_caption
from labeling_ui.grid import grid, outbox
from labeling_ui.server import base
from posewatch.errors import LabelError, LabelStoreDown
from posewatch.labels.entries import BAD, timestamp
from posewatch.labels.find import MOST, Filter, Found
from posewatch.labels.team import roles
from posewatch.units import SCENE

KEY = "find"
ENDS = ("after", "before", "clip")
"""What an address holds besides the filter: an end of another page, and the clip that has the focus."""


def show(viewer: Viewer) -> None:
    st.subheader(viewer.texts["find"], anchor=False)
    only_caption(viewer)
    _found(viewer)


@st.fragment
@errors_shown
def _found(viewer: Viewer) -> None:
    answers = st.session_state.setdefault("answers", acts.Answers())
    view = st.session_state.setdefault("view find", {"context": None})
    query = st.query_params.to_dict()

    def navigate(act: dict[str, Any]) -> None:
        kind, ends = act.get("kind"), view.get("ends")
        if kind == "context":
            view["context"] = act
        elif kind == "find" and isinstance(act.get("query"), dict):
            view["at"] = None  # the same filter once more looks again
            _go(Filter.from_query(act["query"]).query())
        elif kind in ("next", "previous") and ends and act.get("page") == view.get("page"):
            end = {"after": ends.last} if kind == "next" else {"before": ends.first}
            _go(Filter.from_query(query).query() | end)

    def on_acts() -> None:
        viewer.handle(outbox(KEY), answers, navigate)

    problem = ""
    try:
        data = view["data"] = _page(viewer, query, view, answers)
    except LabelStoreDown as error:
        if "data" not in view:
            raise
        data = view["data"]  # the page stays as it was, and goes on to keep what is pressed
        data.update(saved=answers.saved, refused=answers.refused, kept=str(error), told=[])
    except LabelError as error:  # a filter that is wrong leaves the form, where it can be mended
        problem = viewer.said(error)
        data = viewer.grid_data("find", "find") | acts.shown(viewer.session, (), answers, viewer.tickets, base())
        data["find"] = _form(viewer, {name: value for name, value in query.items() if name not in ENDS})
    data["find"]["problem"] = problem
    grid(data, KEY, on_acts, "find")


def _go(query: dict[str, str]) -> None:
    """Change the address, as a step that the browser's Back takes back."""
    st.query_params.from_dict(query)


def _page(viewer: Viewer, query: dict[str, str], view: dict[str, Any], answers: acts.Answers) -> dict[str, Any]:
    session = viewer.session
    wanted = Filter.from_query(query)
    at = json.dumps([wanted.query(), *(query.get(name) for name in ENDS)])
    if view.get("at") != at:  # until somebody looks again, a clip stays where it is, whatever label it gets
        ends = session.find(wanted, session.page_size, query.get("after", ""), query.get("before", ""))
        clip = query.get("clip", "")
        ids = ends.ids if not clip or clip in ends.ids else (clip, *ends.ids)
        view.update(at=at, ends=ends, ids=ids, stamp=timestamp(), count=session.count(wanted), page=f"find {at}")
    found: Found = view["ends"]
    data = viewer.grid_data("find", view["page"])
    data["marks"] = [mark for mark in data["marks"] if mark["label"] == BAD]
    data.update(acts.shown(session, session.found_cards(view["ids"]), answers, viewer.tickets, base()))
    data["turns"] = [*(["previous"] if found.earlier else []), *(["next"] if found.later else [])]
    data["start"] = query.get("clip", "")
    data["context"], data["guide"] = acts.context(session, view["context"], base()), guide.guide(session, base())
    whole = {"query": wanted.query(), "stamp": view["stamp"]}
    whole["ticket"] = viewer.tickets.issue(acts.whole(whole))
    data["find"] = _form(viewer, wanted.query()) | {"count": view["count"], "most": MOST, "whole": whole}
    return data


def _form(viewer: Viewer, query: dict[str, str]) -> dict[str, Any]:
    """What the form offers."""
    session = viewer.session
    people, persons = list(roles.all_roles(session.store)), session.unit != SCENE
    return {"query": query, "people": people, "persons": persons, "count": 0, "most": MOST, "whole": None}
