"""Shared by the views: the person at the page, and errors as one line."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

import streamlit as st

from labeling_ui import acts, wiring
from labeling_ui.refusals import translated
from posewatch.errors import PosewatchError
from posewatch.labels import judging
from posewatch.labels.entries import BAD, UNSURE
from posewatch.labels.session import LabelingSession
from posewatch.labels.team import roles
from posewatch.labels.tickets import Tickets
from posewatch.labels.verdicts import Verdict
from posewatch.records import LabelEvent


@dataclass(frozen=True)
class Viewer:
    """The person at the page, and the page's texts in their language."""

    who: str
    texts: dict[str, Any]

    @property
    def session(self) -> LabelingSession:
        """A new session, so that a changed role or label set takes effect."""
        return LabelingSession(wiring.label_store(), self.who, wiring.label_config(), unit=wiring.unit())

    @property
    def role(self) -> roles.Role:
        return roles.role_of(wiring.label_store(), self.who)

    @property
    def tickets(self) -> Tickets:
        """Gives out and checks the tickets of the clips on this person's pages."""
        return Tickets(wiring.label_store(), self.who, wiring.media_secret())

    def judge(self, act: Mapping[str, Any]) -> Verdict:
        """Do an act of the page Alarms."""
        return judging.execute(wiring.label_store(), wiring.alarm_store, wiring.judged(), self.who, act)

    def handle(
        self,
        sent: list[dict[str, Any]],
        answers: acts.Answers,
        navigate: Callable[[dict[str, Any]], None],
        queued: bool = False,
        reveal: Callable[[list[LabelEvent]], None] = lambda events: None,
    ) -> None:
        """Do this person's acts, see `acts.handle`."""
        tickets = self.tickets
        acts.handle(
            lambda: self.session, sent, answers, navigate, queued, lambda: tickets, reveal, self.said, self.judge
        )

    def said(self, error: Exception | str) -> str:
        """An error in the language of the page."""
        return translated(str(error), self.texts["code"])

    def grid_data(self, mode: str, page: str) -> dict[str, Any]:
        """The data that every grid gets; the caller adds the clips."""
        config = wiring.label_config()
        marks = [
            {"label": UNSURE, "text": self.texts["unsure"], "key": "u"},
            {"label": BAD, "text": self.texts["bad"], "key": "b"},
        ]
        return {
            "mode": mode,
            "page": page,
            "who": self.who,
            "classes": list(config.classes),
            "marks": marks,
            "all_marks": marks,
            "bad": BAD,
            "queued": False,
            "default": config.default,
            "sensitive": list(config.sensitive),
            "welfare": bool(config.sensitive),
            "words": self.texts,
            "may_guide": roles.may(self.role, "guide"),
            "may_raw": roles.at_least(self.role, config.raw_scene),
            "turns": [],
            "start": "",
            "find": None,
            "closer": None,
            "context": None,
        }


def only_caption(viewer: Viewer) -> None:
    """Say that the store has clips of the other unit, too, which this experiment leaves out."""
    if only := viewer.session.unit:
        st.caption(viewer.texts[f"only_{only}"])


def table(viewer: Viewer, rows: list[dict[str, Any]], **options: Any) -> None:
    """A table, or words where it would be empty: a table without cells is nothing that a screen reader can read."""
    if rows:
        st.dataframe(rows, hide_index=True, **options)
    else:
        st.caption(viewer.texts["nothing_yet"])


def plain(text: str) -> str:
    """Text of unknown origin, such as a file name, with its Markdown escaped."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~:$<>&@])", r"\\\1", text)


def errors_shown(view: Callable[..., None]) -> Callable[..., None]:
    """A view that shows its errors as one line on the page."""

    @wraps(view)
    def wrapped(*args: Any) -> None:
        try:
            view(*args)
        except PosewatchError as error:
            st.error(plain(args[0].said(error)), icon=":material/error:")

    return wrapped
