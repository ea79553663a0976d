"""How far the work is, how fast it goes, how well people agree, and the audit trail."""

from __future__ import annotations

import streamlit as st

from labeling_ui.common import Here
from posewatch.labels.entries import BAD, UNSURE
from posewatch.labels.team import audit, roles
from posewatch.labels.team.agreement import agreement, opinions
from posewatch.labels.team.statistics import per_class, per_labeler


def show(here: Here) -> None:
    say, store = here.say, here.session.store
    videos = here.session.videos()
    total, done = sum(v.clips for v in videos), sum(v.labelled for v in videos)
    st.subheader(say["progress"], anchor=False)
    st.progress(done / max(1, total), say["all_labelled"].format(done=done, total=total))
    left, right = st.columns(2)
    names = {UNSURE: say["unsure"], BAD: say["bad"]}
    with left:
        st.markdown(f"##### {say['per_class']}")
        rows = [
            {
                say["class"]: names.get(label, label),
                **{source: sources.get(source, 0) for source in ("human", "bulk", "import", "model")},
            }
            for label, sources in per_class(store).items()
        ]
        st.dataframe(rows, hide_index=True)
    with right:
        st.markdown(f"##### {say['per_labeler']}")
        people = per_labeler(store)
        if not roles.may(here.role, "see others"):
            people = [one for one in people if one.who == here.who]  # nobody is ranked in public
        st.dataframe(
            [
                {
                    say["who"]: p.who,
                    say["clips"]: p.clips,
                    say["speed_min"]: None if p.per_minute is None else round(p.per_minute, 1),
                }
                for p in people
            ],
            hide_index=True,
        )
    st.markdown(f"##### {say['per_video']}")
    st.dataframe(
        {
            say["video"]: [v.name for v in videos],
            say["clips"]: [v.clips for v in videos],
            say["labelled"]: [v.labelled / v.clips for v in videos],
        },
        hide_index=True,
        column_config={say["labelled"]: st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1)},
    )
    if roles.may(here.role, "see others"):
        _agreement(here)
    if roles.may(here.role, "audit"):
        _audit(here)


def _agreement(here: Here) -> None:
    say = here.say
    st.markdown(f"##### {say['agreement']}")
    found = agreement(opinions(here.session.store))
    if not found.clips:
        st.caption(say["no_agreement"])
        return
    st.caption(say["twice"].format(count=found.clips))
    left, right = st.columns(2)
    right.caption(say["cohen"])
    left.caption(say["fleiss_class"])
    rows = [{say["class"]: say["fleiss"], say["kappa"]: _number(found.fleiss)}]
    rows += [{say["class"]: name, say["kappa"]: _number(value)} for name, value in found.per_class.items()]
    left.dataframe(rows, hide_index=True)
    pairs = [
        {
            say["pair"]: f"{p.one} – {p.other}",
            say["shared"]: p.clips,
            say["kappa"]: _number(p.kappa),
            **{name: _number(value) for name, value in p.per_class.items()},
        }
        for p in found.pairs
    ]
    right.dataframe(pairs, hide_index=True)


def _number(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _audit(here: Here) -> None:
    say = here.say
    st.markdown(f"##### {say['audit']}")
    rows = audit.trail(here.session.store)
    st.caption(say["audit_text"].format(count=len(rows)))
    st.download_button(
        say["download"], audit.text(rows, ".csv"), "labels-audit.csv", "text/csv", icon=":material/download:"
    )
