"""Progress, speed, agreement, and the audit trail."""

from __future__ import annotations

import streamlit as st

from labeling_ui.common import Viewer, only_caption, table
from posewatch.labels.entries import BAD, UNSURE
from posewatch.labels.team import audit, roles
from posewatch.labels.team.agreement import agreement, opinions
from posewatch.labels.team.statistics import per_class, per_labeler
from posewatch.records import SOURCES
from posewatch.units import SCENE


def show(viewer: Viewer) -> None:
    texts, session = viewer.texts, viewer.session
    store, videos = session.store, session.videos()
    total, done = sum(v.clips for v in videos), sum(v.labelled for v in videos)
    st.subheader(texts["progress"], anchor=False)
    only_caption(viewer)
    st.progress(done / max(1, total), texts["all_labelled"].format(done=done, total=total))
    left, right = st.columns(2)
    names = {UNSURE: texts["unsure"], BAD: texts["bad"]}
    with left:
        st.markdown(f"#### {texts['per_class']}")
        rows = [
            {
                texts["class"]: names.get(label, label),
                **{texts[f"source_{source}"]: sources.get(source, 0) for source in SOURCES},
            }
            for label, sources in per_class(store, session.unit).items()
        ]
        table(viewer, rows)
    with right:
        st.markdown(f"#### {texts['per_labeler']}")
        people = per_labeler(store)
        if not roles.may(viewer.role, "see others"):
            people = [one for one in people if one.who == viewer.who]  # labelers are not compared in public
        rows = [
            {
                texts["who"]: p.who,
                texts["clips"]: p.clips,
                texts["speed_min"]: None if p.per_minute is None else round(p.per_minute, 1),
            }
            for p in people
        ]
        table(viewer, rows)
    st.markdown(f"#### {texts['per_video']}")
    persons = {} if session.unit == SCENE else store.slow_counts.get("persons", store.persons_by_video)
    rows = [
        {
            texts["video"]: v.name,
            **({texts["persons"]: persons.get(v.video_id)} if persons else {}),
            texts["clips"]: v.clips,
            texts["labelled"]: v.labelled / v.clips,
        }
        for v in videos
    ]
    bar = st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1)
    table(viewer, rows, column_config={texts["labelled"]: bar})
    if roles.may(viewer.role, "see others"):
        _agreement(viewer)
    if roles.may(viewer.role, "audit"):
        _audit(viewer)


def _agreement(viewer: Viewer) -> None:
    texts = viewer.texts
    st.markdown(f"#### {texts['agreement']}")
    session = viewer.session
    result = agreement(opinions(session.store, session.unit))
    if not result.clips:
        st.caption(texts["no_agreement"])
        return
    st.caption(texts["twice"].format(count=result.clips))
    left, right = st.columns(2)
    right.caption(texts["cohen"])
    left.caption(texts["fleiss_class"])
    rows = [{texts["class"]: texts["fleiss"], texts["kappa"]: _number(result.fleiss)}]
    rows += [{texts["class"]: name, texts["kappa"]: _number(value)} for name, value in result.per_class.items()]
    with left:
        table(viewer, rows)
    pairs = [
        {
            texts["pair"]: f"{p.one} – {p.other}",
            texts["shared"]: p.clips,
            texts["kappa"]: _number(p.kappa),
            **{name: _number(value) for name, value in p.per_class.items()},
        }
        for p in result.pairs
    ]
    with right:
        table(viewer, pairs)


def _number(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _audit(viewer: Viewer) -> None:
    texts = viewer.texts
    st.markdown(f"#### {texts['audit']}")
    rows = audit.trail(viewer.session.store)
    st.caption(texts["audit_text"].format(count=len(rows)))
    st.download_button(
        texts["download"], audit.as_bytes(rows, ".csv"), "labels-audit.csv", "text/csv", icon=":material/download:"
    )
