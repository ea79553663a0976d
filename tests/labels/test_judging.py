"""The alarms of a store for many viewers: cheap to look at; filters, pages, acts of browsers, what verdicts say."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posewatch import alarms
from posewatch.artifact import MANIFEST, Job, produce
from posewatch.datasets.layouts import FLOW
from posewatch.digests import canonical
from posewatch.errors import LabelError, NotAllowed, Unreachable
from posewatch.labels import judging, verdicts
from posewatch.labels.alarm_index import AlarmIndex
from posewatch.labels.alarm_picture import picture
from posewatch.labels.judging import AlarmFilter, Judged
from posewatch.labels.precision import Share, figures, tally
from posewatch.labels.store import LabelStore
from posewatch.labels.team import roles
from posewatch.store import MemoryStore

DAY = datetime(2026, 3, 1, 9, tzinfo=UTC)


class Counted(MemoryStore):
    """Counts the requests for each kind of thing; ``away``: gives no answer."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._all[name] = self._objects = {}
        self.asked: Counter[str] = Counter()
        self.away = False

    def _ask(self, what: str) -> None:
        self.asked[what] += 1
        if self.away:
            raise Unreachable("no answer")

    def get(self, key: str) -> bytes:
        self._ask("get")
        return super().get(key)

    def list(self, prefix: str = "") -> Any:
        self._ask("list")
        return super().list(prefix)

    def folders(self, prefix: str) -> tuple[str, ...]:
        self._ask("folders")
        return super().folders(prefix)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> Counted:
    return Counted("judging")


@pytest.fixture
def labels(url: str) -> Iterator[LabelStore]:
    opened = LabelStore(url)
    for who, role in (("op", "operator"), ("eva", "operator"), ("lab", "labeler")):
        roles.set_role(opened, who, role, "test")
    yield opened
    opened.close()


def add(store: MemoryStore, number: str, minutes: float = 0, camera: str = "door", **changes: Any) -> str:
    """A record that began some ``minutes`` after DAY (None: of a recording, stored then); its prefix."""
    at = DAY + timedelta(minutes=minutes)
    about = {
        "kind": "alarm", "id": number, "camera": camera, "person": 2, "began": at.isoformat(), "start_s": 1.0,
        "end_s": 4.5, "probability": 0.9, "model": {"release": "r1", "version": "4"}, "watch": {"on": 0.7, "fps": 10},
        "stored": at.isoformat(), **changes,
    }  # fmt: skip
    prefix = alarms.key_of(camera, at if about["began"] else None, number)
    text = json.dumps(about)
    produce(store, Job("alarms", "x", {}, fixed_prefix=prefix), lambda to: (to / alarms.ABOUT).write_text(text))
    return prefix


def ids(index: AlarmIndex, count: int = 100, **wanted: Any) -> list[str]:
    rows, unread = index.rows(lambda row: True, count, 10, **wanted)
    assert not unread
    return [row.id for row in rows]


def test_looking_for_news_costs_the_same_however_many_records_there_are(store: Counted) -> None:
    clock = Clock()
    for day in range(30):
        for i in range(10):
            add(store, f"a{day:02}{i}", -1440 * day + i, camera=f"c{i % 2}")
    index = AlarmIndex(store, clock)
    store.asked.clear()
    index.refresh()
    assert store.asked["get"] == 2 * 10, "the records of the newest day, and no others"
    assert ids(index, 10) == [f"a00{i}" for i in range(9, -1, -1)]
    before, asked = index.stamp, Counter(store.asked)
    for _ in range(1000):  # as many viewers as there may be
        index.refresh()
    assert store.asked == asked
    clock.now += 2
    index.refresh()
    assert store.asked["list"] == 0, "nothing below a record is ever listed"
    assert store.asked["folders"] - asked["folders"] < 20
    assert (store.asked["get"], index.stamp) == (asked["get"], before)
    # a new one, also of a camera and a day that were not there
    add(store, "new", 60, camera="c1")
    add(store, "late", 3 * 1440, camera="Hof <1>")
    clock.now += 2
    assert index.refresh() != before
    assert ids(index, 3) == ["late", "new", "a009"]
    assert index.cameras()[alarms.camera_key("Hof <1>")] == "Hof <1>"
    # older days when somebody looks that far back; what of them goes is noticed on the tour
    assert len(ids(index, 400)) == 302
    gone = alarms.prune(store, (DAY - timedelta(days=28)).date())
    for _ in range(40):
        clock.now += 2
        index.refresh()
    assert len(gone) == 10
    assert len(ids(index, 400)) == 292
    assert ids(index, 3, since="2026-02-27", until="2026-02-27") == ["a029", "a028", "a027"]


def test_records_that_are_not_whole_are_waited_for(store: Counted) -> None:
    clock, prefix = Clock(), add(store, "a")
    manifest = store.get(f"{prefix}/{MANIFEST}")
    store.delete(f"{prefix}/{MANIFEST}")
    index = AlarmIndex(store, clock)
    index.refresh()
    assert ids(index) == []
    store.put(f"{prefix}/{MANIFEST}", manifest)
    clock.now += 2
    index.refresh()
    assert ids(index) == ["a"]
    store.put("alarms/door/2026-03-01/junk/alarm.json", b"{}")
    add(store, "r", 5, began=None)  # a recording has the time when it was stored
    add(store, "b", 10)
    clock.now += 2
    index.refresh()
    assert ids(index) == ids(index, since="2026-03-01") == ["b", "r", "a"]
    store.away = True
    clock.now += 2
    with pytest.raises(Unreachable):
        index.refresh()
    assert ids(index) == ["b", "r", "a"], "what was known stays"
    store.away = False
    store.delete(f"{prefix}/{MANIFEST}")
    assert not index.exists(prefix)
    assert ids(index) == ["b", "r"]


def test_filters_and_pages(store: Counted, labels: LabelStore) -> None:
    for i in range(70):
        add(store, f"a{i:02}", i, probability=i / 100, kind=("alarm", "near_miss")[i % 2])
    index, judged = AlarmIndex(store), Judged(labels)
    index.refresh()

    def page(before: str = "", floor: Any = None, keep: Any = (), **query: str) -> judging.AlarmPage:
        return judging.page(index, judged, AlarmFilter.from_query(query), before=before, floor=floor, keep=keep)

    first = page(kind="all")
    assert [row.id for row in first.rows] == [f"a{i:02}" for i in range(69, 19, -1)]
    assert (first.newer, first.older, first.reading) == (False, True, False)
    rest = page(judging.cursor(first.oldest), kind="all")
    assert [row.id for row in rest.rows] == [f"a{i:02}" for i in range(19, -1, -1)]
    assert (rest.newer, rest.older) == (True, False)
    assert [row.id for row in page(low="0.3", high="0.35").rows] == ["a34", "a32", "a30"]
    assert [row.id for row in page(kind="near_miss", since="2026-03-01", zone="0").rows][:1] == ["a69"]
    assert page(until="2026-02-28").rows == page(version="r2").rows == page(camera="yard").rows == ()
    # in Seoul it is the next day from three in the afternoon on, UTC
    assert page(since="2026-03-02", zone="540").rows == ()
    assert len(page(until="2026-03-01", zone="540").rows) == 35
    # minutes, both included, on the clock of whoever asks
    for zone, begin, end in (
        ("0", "2026-03-01T09:10", "2026-03-01T09:12"),
        ("540", "2026-03-01T18:10", "2026-03-01T18:12"),
        ("-570", "2026-02-28T23:40", "2026-02-28T23:42"),
    ):
        found = page(kind="all", since=begin, until=end, zone=zone).rows
        assert [row.id for row in found] == ["a12", "a11", "a10"], zone
    assert page(since="2026-03-01T10:30", until="2026-03-01").rows == ()
    # new ones join the page, and push nobody off it; judged ones stay on it
    verdicts.judge(labels, alarms.read(store, alarms.key_of("door", DAY, "a68")), "true", "op", "1")
    judged.refresh()
    assert page(verdict="true").verdicts["a68"].who == "op"
    assert page(verdict="open").rows[0].id == "a66"
    shown = page(verdict="open", keep=[row.id for row in page().rows], floor=page().oldest)
    assert shown.rows[0].id == "a68"
    for i in range(5):
        add(store, f"n{i}", 100 + i)
    index._due = 0
    index.refresh()
    grown = page(kind="all", keep=[row.id for row in first.rows], floor=first.oldest)
    assert [row.id for row in grown.rows[:6]] == ["n4", "n3", "n2", "n1", "n0", "a69"]
    assert grown.rows[-1].id == "a20"
    for wrong in (
        {"kind": "x"},
        {"verdict": "x"},
        {"low": "2"},
        {"low": "a"},
        {"since": "1.3."},
        {"until": "2026-03-01T9h"},
        {"zone": "9999"},
    ):
        with pytest.raises(LabelError, match="the filter"):
            AlarmFilter.from_query(wrong)
    query = {"camera": "door", "since": "2026-03-01", "zone": "540", "low": "0.5"}
    assert AlarmFilter.from_query(query).query() == query


def test_acts_of_browsers(store: Counted, labels: LabelStore) -> None:
    prefix, judged = add(store, "a"), Judged(labels)

    def act(who: str, number: str, verdict: str | None = "true", seen: Any = 0, **more: Any) -> verdicts.Verdict:
        kind = "judge" if verdict else "unjudge"
        given = {"id": number, "kind": kind, "alarm": "a", "record": prefix, "verdict": verdict, "seen": seen, **more}
        return judging.execute(labels, lambda: store, judged, who, given)

    first = act("op", "1", note=" a mop ")
    assert act("op", "1") == first
    assert (first.note, judged.of("a")) == ("a mop", first)
    # one's own verdict is no surprise, somebody else's is
    act("op", "2", "false")
    with pytest.raises(LabelError, match="somebody else was faster: op said false"):
        act("eva", "3", "true", seen=first.id)
    act("op", "4", None)
    assert judged.of("a") == first
    undone = act("op", "5", None, alarm=None)  # the last one, whichever it is
    assert act("op", "5", None, alarm=None) == undone
    assert judged.of("a") is None
    assert act("op", "6", "unsure", seen=first.id).verdict == "unsure", "it was taken back by the same person"
    act("op", "7", None)
    with pytest.raises(LabelError, match="you have no verdict to take back"):
        act("op", "8", None, alarm=None)
    for wrong in ("alarms/../../etc", "models/a/b/c", "", None, "alarms/door/2026-03-01/a/x"):
        with pytest.raises(LabelError, match="names its alarm record"):
            act("op", "9", record=wrong)
    with pytest.raises(NotAllowed):
        act("lab", "10")
    store.away = True
    with pytest.raises(Unreachable):
        act("op", "11")
    store.away = False
    for item in store.list(prefix):
        store.delete(item.key)
    with pytest.raises(LabelError, match="deleted by retention: it cannot be judged"):
        act("op", "12")


def test_a_look_at_an_unmasked_clip_needs_the_role_and_the_clip_and_is_recorded(
    store: Counted, labels: LabelStore
) -> None:
    about = {"kind": "alarm", "id": "r", "camera": "door", "model": {}}

    def files(folder: Path) -> None:
        (folder / alarms.ABOUT).write_text(json.dumps(about))
        (folder / alarms.RAW).write_bytes(b"mp4")

    raw = produce(store, Job("alarms", "x", {}, fixed_prefix=alarms.key_of("door", DAY, "r")), files).prefix

    def look(who: str, record: str | None = raw, needed: str = "operator", number: str = "1") -> alarms.AlarmRecord:
        return judging.look(labels, lambda: store, needed, who, {"id": number, "kind": "raw", "record": record})

    for who, needed in (("lab", "operator"), ("op", "reviewer"), ("op", "nobody"), ("eve", "operator")):
        with pytest.raises(NotAllowed, match=f"{who} may not look at unmasked video: labels.raw_alarms is {needed}"):
            look(who, needed=needed)
    with pytest.raises(LabelError, match="this alarm has no unmasked clip: the watcher keeps one with --record-raw"):
        look("op", add(store, "masked"))
    with pytest.raises(LabelError, match="names its alarm record"):
        look("op", "alarms/../../etc")
    store.away = True
    with pytest.raises(Unreachable):
        look("op")
    store.away = False
    assert verdicts.trail(labels) == [], "nothing was seen so far"
    assert look("OP ").id == "r"
    look("op")  # sent again
    look("eva", number="2")
    assert [(row["act"], row["who"], row["clip_id"]) for row in verdicts.trail(labels)] == [
        ("raw", "op", "r"), ("raw", "eva", "r"),
    ]  # fmt: skip


def test_what_verdicts_add_up_to(store: Counted, labels: LabelStore) -> None:
    judged = Judged(labels)
    said = [("door", "alarm", "true")] * 3 + [("door", "alarm", "false"), ("door", "alarm", "unsure")]
    said += [("yard", "alarm", "not_a_person"), ("yard", "near_miss", "true"), ("yard", "sample", "true")]
    for i, (camera, kind, verdict) in enumerate(said):
        record = alarms.read(store, add(store, f"a{i}", camera=camera, kind=kind))
        verdicts.judge(labels, record, verdict, "op", f"{i}")
    verdicts.judge(labels, alarms.read(store, alarms.key_of("door", DAY, "a0")), "false", "eva", "again")
    verdicts.undo(labels, "a0", "eva", "undone")
    judged.refresh()
    found = judged.figures()
    assert found.judged == 8
    assert found.cameras == {"door": Share(3, 4), "yard": Share(0, 1)}
    assert found.missed == Share(1, 1)
    low, high = Share(3, 4).interval
    assert (low, high) == pytest.approx((0.3006, 0.9544), abs=1e-4)  # R: prop.test(3, 4, correct = FALSE)
    assert Share(0, 0).interval == (0, 1)
    counted = judged.tally()
    assert counted.now["door", "r1", "alarm", "true"] == 3
    assert counted.now["door", "r1", "alarm", "not_a_person"] == 0
    assert counted.said == {"true": 5, "false": 2, "unsure": 1, "not_a_person": 1}
    assert counted.delays[-1] == 6, "alarms only, and each once"
    assert figures([]).cameras == tally([]).now == {}


def test_the_figures_of_verdicts_do_not_grow_with_every_version() -> None:
    """Series of a monitoring system, for each camera: only the newest versions have some of their own."""

    def said(number: int, version: str) -> verdicts.Verdict:
        began = f"2026-{1 + number // 28:02}-{1 + number % 28:02}T00:00:00+00:00"
        return verdicts.Verdict(
            f"a{number}", "true", "", "op", began, None, f"{number}", "", "alarm", "door", began, version, number
        )  # fmt: skip

    events = [[said(i, f"r{i % 40}")] for i in range(100)]
    now = tally(events).now
    assert {version for _, version, _, _ in now} == {*(f"r{i}" for i in range(10, 20)), "older"}
    assert now["door", "r19", "alarm", "true"] == 3
    assert sum(now.values()) == 100
    assert len(now) == 11 * len(verdicts.VERDICTS)


def test_a_record_as_a_browser_draws_it(store: Counted) -> None:
    def stored(number: str, rows: list[dict[str, Any]], **about: Any) -> dict[str, Any]:
        whole = {
            "kind": "alarm", "id": number, "camera": "door", "person": None, "persons": [1], "model": {},
            "watch": {"on": 0.7, "off": 0.5, "fps": 10.0}, **about,
        }  # fmt: skip

        def files(folder: Path) -> None:
            (folder / alarms.ABOUT).write_text(json.dumps(whole))
            if rows:
                (folder / alarms.PEOPLE).write_text("".join(canonical(row) + "\n" for row in rows))
            columns = 17 + FLOW if number == "flow" else 17
            np.savez(folder / alarms.WINDOWS, w0=np.full((2, 20, columns, 3), 0.5, np.float32))

        prefix = alarms.key_of("door", DAY, number)
        produce(store, Job("alarms", "door", {}, fixed_prefix=prefix), files)
        return picture(alarms.read(store, prefix))

    one = {"id": 1, "box": [10.0, 20.0, 30.4, 60.0], "keypoints": [[1.2, 2.0, 0.9]] * 17}
    rows = [{"index": i, "time_s": i / 10, "people": [one] if i < 50 else []} for i in (40, 41, 44, 90)]
    clip = {"start_s": 4.0, "fps": 10.0, "frames": 6, "width": 64, "height": 48}
    windows = [{"start_s": 3.0, "end_s": 5.0, "p": 0.4, "smoothed": 0.3, "keypoints": "w0"}]
    drawn = stored("a", rows, clip=clip, windows=windows)
    # two missing pictures repeat the one before; after a long gap the next one follows
    assert drawn["times"] == [4.0, 4.1, 4.2, 4.3, 4.4, 9.0]
    assert [len(people) for people in drawn["frames"]] == [1, 1, 1, 1, 1, 0]
    assert drawn["boxes"][0] == [[1, 10, 20, 30, 60]]
    assert drawn["frames"][0][0][:3] == [1, 2, 90]
    assert (drawn["w"], drawn["h"], drawn["about"], drawn["limbs"]) == (64, 48, [1], True)
    assert (drawn["curve"], drawn["on"]) == ([[5.0, 0.4, 0.3]], 0.7)
    # without pictures the skeletons of the windows
    bones = stored("b", [], windows=windows)
    assert (len(bones["frames"]), bones["times"][0], len(bones["frames"][0])) == (20, 3.0, 2)
    assert stored("c", [], windows=[])["frames"] == []
    assert stored("flow", [], windows=windows)["frames"] == bones["frames"], "how pixels move is no joint"
