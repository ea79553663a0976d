"""Passes the browser's acts to the session, and the session's cards to the browser."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from labeling_ui import media, metrics
from labeling_ui.scene import around
from posewatch.digests import canonical
from posewatch.errors import AccessDenied, LabelError, LabelStoreDown, NoBucket, PosewatchError, Unreachable
from posewatch.labels import judging
from posewatch.labels.cards import Card
from posewatch.labels.find import Filter
from posewatch.labels.session import LabelingSession
from posewatch.labels.tickets import Tickets
from posewatch.labels.verdicts import Verdict
from posewatch.records import LabelEvent
from posewatch.text import storable

MAX_CLIPS = 500
"""Clips that one act may name."""
SEVERAL = ("relabel", "interval", "alike")
"""Acts that label several clips with one label, besides the rest of a page."""
KINDS = ("label", "adjudicate", "rest", "undo", "redo", "comment", "example", *SEVERAL, *judging.KINDS)
_STORE_AWAY = (Unreachable, AccessDenied, NoBucket)
_SAME = ("label", "who", "mine", "source", "suggestion", "confidence", "second", "held", "settled")
"""Attributes of a card that the browser gets unchanged."""
TOLD = 4
"""Clips of an undo that the browser shows."""


@dataclasses.dataclass
class Answers:
    """The server's answers to the acts in the outbox: saved, or refused with a reason.

    ``told`` is what undos and bulk acts did, by the act's id, ``judged`` what verdicts and their undos said. ``kept``
    says why acts wait in the browser. ``closer`` is the clip that the person looks at more closely.
    """

    saved: list[str] = dataclasses.field(default_factory=list)
    refused: list[dict[str, str]] = dataclasses.field(default_factory=list)
    told: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    judged: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    kept: str = ""
    closer: str = ""

    def ids(self) -> set[str]:
        """The ids of the answered acts."""
        return {*self.saved, *(row["id"] for row in self.refused)}

    def retain(self, ids: set[str]) -> None:
        """Delete the answers to acts that have left the outbox."""
        self.saved = [one for one in self.saved if one in ids]
        self.refused = [row for row in self.refused if row["id"] in ids]
        self.told = {act: told for act, told in self.told.items() if act in ids}
        self.judged = {act: said for act, said in self.judged.items() if act in ids}


def handle(
    session: Callable[[], LabelingSession],
    acts: list[dict[str, Any]],
    answers: Answers,
    navigate: Callable[[dict[str, Any]], None],
    queued: bool,
    tickets: Callable[[], Tickets] | None = None,
    reveal: Callable[[list[LabelEvent]], None] = lambda events: None,
    say: Callable[[str], str] = str,
    judge: Callable[[Mapping[str, Any]], Verdict] | None = None,
) -> None:
    """Execute every act that has no answer yet, in order; ``navigate`` handles those that only change the view.

    ``session`` returns a new session, which has the current role and label set. ``tickets`` checks that each clip was
    on the person's page. ``reveal`` gets what an undo changed. While the label store is down, acts get no answer, so
    that the browser keeps them and sends them again; so do verdicts while the store of the alarms is away. ``say``
    translates refusals. ``judge`` does the acts of the page Alarms, which a tab may still have on any page.
    """
    answered, answers.kept = answers.ids(), ""
    for sent in acts:
        if sent["id"] in answered:
            continue
        act = _storable(sent)
        with metrics.timed("act"):
            outcome = "saved"
            try:
                if judge and act.get("kind") in judging.KINDS:
                    said = judge(act)
                    about = {"alarm": said.alarm, "verdict": said.verdict, "camera": said.camera}
                    answers.judged[act["id"]] = {"id": act["id"], **about}
                    answers.saved.append(act["id"])
                    metrics.ACTS.labels(act["kind"], outcome).inc()
                    continue
                person = session()
                if act.get("kind") == "closer":
                    answers.closer = str(act.get("clip") or "")[:64]
                events = _execute(person, act, navigate, queued, tickets() if tickets else None)
                answers.saved.append(act["id"])
                if act.get("kind") in ("undo", "redo", "rest", *SEVERAL):
                    answers.told[act["id"]] = _told(person, act, events)
                if act.get("kind") in ("undo", "redo") and events:
                    reveal(events)
            except LabelStoreDown as error:
                answers.kept = str(error)
                break
            except _STORE_AWAY as error:
                answers.kept = str(error)
                judge = _later  # the others need not find out, too
                continue
            except PosewatchError as error:
                outcome = "refused"
                answers.refused.append({"id": act["id"], "message": say(str(error))})
        kind = act.get("kind")
        metrics.ACTS.labels(kind if kind in KINDS else "other", outcome).inc()
    answers.retain({act["id"] for act in acts})


def _storable(value: Any) -> Any:
    """What a browser sent, with each text in it as the label store takes it: what fails there is sent for ever."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(name): _storable(one) for name, one in value.items()}
    return [_storable(one) for one in value] if isinstance(value, list) else value


def _later(act: Mapping[str, Any]) -> Verdict:
    raise Unreachable("the store of the alarms gives no answer")


def _execute(
    session: LabelingSession,
    act: Mapping[str, Any],
    navigate: Callable[[dict[str, Any]], None],
    queued: bool,
    tickets: Tickets | None,
) -> list[LabelEvent]:
    # the act is untrusted: the session checks the role, the classes and the clips
    kind, batch = act.get("kind"), str(act["id"])[:64]
    clip, label = str(act.get("clip"))[:64], act.get("label")
    label = None if label is None else str(label)[:200]
    if kind in ("label", "adjudicate"):
        seen = tickets.check(clip, act.get("ticket"), label) if tickets else False
        if kind == "label":
            event = session.label(clip, label, str(act.get("how")), batch, bool(act.get("queued", queued)), seen)
        else:
            event = None if label is None else session.adjudicate(clip, label, batch)
        return [event] if event else []
    if kind == "rest":
        given = act.get("tickets")
        for one in _clips(act) if tickets else ():
            tickets.check(one, given.get(one) if isinstance(given, dict) else None, session.config.default)
        return session.label_remaining(_clips(act), batch)
    if kind in SEVERAL and label is not None:
        return _several(session, act, str(kind), label, batch, tickets)
    if kind in ("comment", "example"):
        if tickets:
            tickets.check(clip, act.get("ticket"))
        if kind == "comment":
            session.comment(clip, str(act.get("text")), batch)
        else:
            session.example(clip, label, batch)
        return []
    if kind in ("undo", "redo"):
        named = act.get("act")
        return session.step(kind, batch, None if named is None else str(named)[:64])
    navigate(dict(act))
    return []


def _several(
    session: LabelingSession, act: Mapping[str, Any], kind: str, label: str, batch: str, tickets: Tickets | None
) -> list[LabelEvent]:
    """Label several clips: those that the act names, or all of a filter that was on the person's page."""
    found = act.get("whole")
    if kind == "relabel" and isinstance(found, dict):
        query = found.get("query")
        if tickets:
            tickets.check(whole(found), found.get("ticket"))
        wanted = Filter.from_query(query if isinstance(query, dict) else {})
        return session.relabel_found(wanted, str(found.get("stamp")), label, batch)
    clips, given, seen = _clips(act), act.get("tickets"), set()
    for one in clips if tickets else ():
        if tickets.check(one, given.get(one) if isinstance(given, dict) else None, label):
            seen.add(one)
    if kind == "relabel":
        return session.relabel(clips, label, batch)
    if kind == "interval":
        return session.label_interval(clips, _number(act, "since"), _number(act, "until"), label, batch, seen)
    return session.label_several(clips, label, kind, batch, seen)


def _number(act: Mapping[str, Any], name: str) -> float:
    value = act.get(name)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise LabelError(f"an interval has a beginning and an end in seconds, not {value!r}: reload the page")
    return float(value)


def whole(found: Mapping[str, Any]) -> str:
    """What a ticket for all clips of a filter is about: the filter, and the time at which it was shown."""
    return f"filter {canonical(found.get('query'))} {found.get('stamp')}"


def _clips(act: Mapping[str, Any]) -> list[str]:
    """The clips that a bulk act names."""
    clips = act.get("clips")
    return [str(one)[:64] for one in clips[:MAX_CLIPS]] if isinstance(clips, list) else []


def shown(
    session: LabelingSession, cards: Iterable[Card], answers: Answers, tickets: Tickets, base: str
) -> dict[str, Any]:
    """What the browser gets with each page: the cards, the answers, what undos did, and whether a store is away."""
    cards = list(cards)
    payloads = [payload(card, base, tickets) for card in cards]
    return {
        "cards": payloads,
        "saved": answers.saved,
        "refused": answers.refused,
        "kept": answers.kept,
        "closer": _closer(session, answers.closer, tickets, base),
        "told": [
            {**told, "cards": [payload(card, base) for card in session.cards(row["id"] for row in told["clips"])]}
            for told in answers.told.values()
        ],
        "away": any(one["away"] for one in payloads),
    }


def _closer(session: LabelingSession, clip: str, tickets: Tickets, base: str) -> dict[str, Any] | None:
    """A clip in full size, with the clips that look like it."""
    cards = session.cards([clip]) if clip else ()
    if not cards:
        return None
    entry, alike = cards[0].entry, session.similar(clip)
    full = media.clip_url(entry.store, entry.key, base)
    return {"clip": clip, "url": full, "similar": [payload(card, base, tickets) for card in alike]}


def _told(session: LabelingSession, act: Mapping[str, Any], events: list[LabelEvent]) -> dict[str, Any]:
    """What an act on several clips did, for the person who did it: the first clips with their labels before and now."""
    told: dict[str, Any] = {"id": act["id"], "kind": act["kind"], "asked": len(_clips(act)), "count": len(events)}
    told["label"] = act.get("label")
    rows = []
    changed = {event.clip_id: event for event in events}
    for card in session.cards(list(changed)[:TOLD]) if act["kind"] in ("undo", "redo") else ():
        clip, event = card.entry.clip, changed[card.entry.clip.id]
        # not event.old: that may be the label of somebody whose opinion this person must not see
        own = {one.id: one.new for one in session.store.history(clip.id)}
        was = own.get(event.undoes or 0) if event.new is None else None
        row = {"id": clip.id, "video": card.entry.shown, "start": clip.start_s, "end": clip.end_s}
        rows.append({**row, "was": was, "now": card.label})
    return {**told, "clips": rows}


def context(session: LabelingSession, asked: Mapping[str, Any] | None, base: str) -> dict[str, Any] | None:
    """What the browser has ``asked`` for around a clip; None for nothing.

    The clips before and after it or, with ``scene``, those of everybody at the same moment, and the video ``around`` it
    where those do not make one. With ``raw`` that is the unmasked video: a look that is recorded once.
    """
    clip, scene = (str(asked.get("clip") or ""), bool(asked.get("scene"))) if asked else ("", False)
    if not asked or not clip:
        return None
    cards = session.moment(clip).cards if scene else session.neighbours(clip)
    found = next((card.entry for card in cards if card.entry.clip.id == clip), None) if scene else None
    raw = bool(asked.get("raw")) and found is not None and session.may_see_raw
    if raw:
        session.look(clip, str(asked["id"])[:64])
    video = around(found, base, raw) if found else None
    return {"clip": clip, "scene": scene, "around": video, "cards": [payload(card, base) for card in cards]}


def payload(card: Card, base: str, tickets: Tickets | None = None) -> dict[str, Any]:
    """A card as the browser gets it: no keys of the object store, only URLs that expire.

    With ``tickets`` it can be labelled.
    """
    entry, clip = card.entry, card.entry.clip
    url = media.clip_url(entry.store, entry.preview or entry.key, base)
    away = not url and media.away(entry.store)
    others = card.label is not None and not card.mine
    missing = not url and not away
    skeleton = media.signed(entry.store, entry.skeleton, base) if entry.skeleton else None
    return {
        "id": clip.id,
        "video": entry.video,
        "video_id": clip.video_id,
        "shown": entry.shown,
        "person": clip.person,
        "start": clip.start_s,
        "end": clip.end_s,
        "fps": clip.fps,
        "people": clip.people,
        "url": url,
        "away": away,
        "ticket": tickets.issue(clip.id, seen=others, missing=missing) if tickets else "",
        "skeleton": skeleton,
        "votes": [list(vote) for vote in card.votes],
        "comments": [[one.who, one.when, one.text] for one in card.comments],
        **{name: getattr(card, name) for name in _SAME},
    }
