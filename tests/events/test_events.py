import json
import math
from pathlib import Path

import numpy as np
import pytest
from skeletons import walk

from posewatch.cli.main import main
from posewatch.errors import ConfigError, InputError, LabelError
from posewatch.events.alarms import Event, Hysteresis, detect, ious, match
from posewatch.events.files import read_intervals, read_windows, write_windows
from posewatch.events.report import average_precision, choose_hysteresis, report
from posewatch.events.timeline import Window, smooth

GMDCSA = Path(__file__).resolve().parents[2].parent / "shared/data/video/gmdcsa24"


def seconds(*p, video="a"):
    """One window a second, without overlap."""
    return [Window(video, float(i), float(i + 1), v) for i, v in enumerate(p)]


def ones(spans, length=20, video="a", high=0.9):
    """Windows of a second that say ``high`` inside the spans, 0.1 elsewhere."""
    return seconds(*(high if any(a <= i < b for a, b in spans) else 0.1 for i in range(length)), video=video)


def truth(*spans, video="a", label="fall"):
    return [Event(video, a, b, label) for a, b in spans]


def test_overlapping_windows_are_averaged_where_they_cover_the_middle_of_a_cell():
    (made,) = smooth([Window("a", 0, 2, 0.2), Window("a", 1, 3, 0.6), Window("a", 4, 5, 1.0)], 0.5)
    assert made.p.tolist() == [0.2, 0.2, 0.4, 0.4, 0.6, 0.6, 0, 0, 1, 1]
    assert made.covered.tolist() == [True] * 6 + [False] * 2 + [True] * 2
    assert made.ready_s.tolist() == [2, 2, 3, 3, 3, 3, 0, 0, 5, 5]
    assert (made.watched_s, made.end_s) == (4.0, 5.0)
    # Windows that start between cells, and the rounding of 0.1 + 0.2.
    (made,) = smooth([Window("a", 0.1 + 0.2, 0.6, 0.7), Window("a", 0.3, 0.6, 0.7), Window("a", 0.3, 0.6, 0.7)], 0.1)
    assert made.p.tolist() == [0, 0, 0, 0.7, 0.7, 0.7]
    assert [t.video for t in smooth([*seconds(1, video="b"), *seconds(1)])] == ["a", "b"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ((0.6, 0.6), [(1, 2), (4, 5), (8, 9)]),
        ((0.6, 0.4), [(1, 3), (4, 5), (8, 9)]),  # off keeps an alarm on, but never begins one
        ((0.95, 0.4), [(4, 5)]),
        ((0.6, 0.4, 0, 2), [(1, 5), (8, 9)]),  # a gap of 1 s is less than 2 s, one of 3 s is not
        ((0.6, 0.4, 0, 1), [(1, 3), (4, 5), (8, 9)]),  # less than, not equal to
        ((0.6, 0.4, 2), [(1, 3)]),
        ((0.6, 0.4, 3, 2), [(1, 5)]),  # merged first, then too short
        ((1.0, 1.0), [(4, 5)]),
    ],
)
def test_hysteresis_by_hand(settings, expected):
    p = [0, 0.7, 0.5, 0.3, 1.0, 0.1, 0.5, 0.1, 0.6, 0]
    (timeline,) = smooth(seconds(*p), 0.5)
    assert [(a.start_s, a.end_s) for a in detect(timeline, Hysteresis(*settings))] == expected


def test_an_alarm_knows_its_peak_and_when_it_could_have_been_raised():
    windows = [Window("a", i, i + 4, 0.8 if i >= 2 else 0.0) for i in range(8)]
    (timeline,) = smooth(windows, 1)
    assert timeline.p.round(3).tolist() == [0, 0, 0.267, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8]
    (alarm,) = detect(timeline, Hysteresis(0.6, 0.5))
    # The cell of second 4 is averaged over the windows that start at 1 to 4; the last of those ends at 8.
    assert (alarm.start_s, alarm.end_s, alarm.score, alarm.alarm_s) == (4, 11, 0.8, 8)
    (late,) = detect(timeline, Hysteresis(0.6, 0.5, min_s=3))
    assert late.alarm_s == 10


def test_pairs_are_as_many_as_can_be():
    overlap = ious(truth((0, 10), (8, 20)), truth((5, 12), (0, 4)))
    assert overlap.round(4).tolist() == [[0.4167, 0.4], [0.2667, 0]]
    # Greedily the first event would take the first alarm, and leave the second event without one.
    assert match(overlap, 0.2) == [(0, 1), (1, 0)]
    assert match(overlap, 0.41) == [(0, 0)]
    assert ious(truth((0, 1)), truth((1, 2))).tolist() == [[0]], "touching is not overlapping"
    assert match(np.zeros((0, 3)), 0.2) == match(np.zeros((2, 0)), 0.2) == match(np.zeros((1, 1)), 0.0) == []
    chain = np.eye(3000) * 0.3 + np.eye(3000, k=-1) * 0.4
    assert len(match(chain, 0.2)) == 3000, "a long chain of displacements"


def table(events, spans, **hysteresis):
    found = report(events, ones(spans), Hysteresis(0.5, 0.4, **hysteresis), step_s=0.5)
    low, high = found["iou_0.2"], found["iou_0.5"]
    return [
        *(low["hits"], high["hits"], found["missed"], found["false_alarms"], found["repeated_alarms"]),
        *(found["delay_s"]["mean"], round(low["precision"], 3), round(low["recall"], 3), round(low["f1"], 3)),
    ]


@pytest.mark.parametrize(
    ("what", "events", "spans", "expected"),
    # pairs at IoU .2 and .5, missed, false, repeated, mean delay, then precision, recall and F1 at .2
    [
        ("perfect", [(5, 10)], [(5, 10)], [1, 1, 0, 0, 0, 0, 1, 1, 1]),
        ("late", [(5, 10)], [(8, 10)], [1, 0, 0, 0, 0, 3, 1, 1, 1]),
        ("early", [(5, 10)], [(3, 8)], [1, 0, 0, 0, 0, 0, 1, 1, 1]),
        ("split", [(4, 14)], [(4, 7), (9, 14)], [1, 1, 0, 0, 1, 0, 0.5, 1, 0.667]),
        ("merged", [(2, 5), (7, 10)], [(2, 10)], [1, 0, 0, 0, 0, 0, 1, 0.5, 0.667]),
        ("missed", [(5, 10)], [], [0, 0, 1, 0, 0, None, 0, 0, 0]),
        ("elsewhere", [(5, 10)], [(14, 16)], [0, 0, 1, 1, 0, None, 0, 0, 0]),
        ("only grazed", [(5, 10)], [(9, 16)], [0, 0, 0, 0, 0, 4, 0, 0, 0]),
        ("double", [(5, 15)], [(5, 8), (12, 15)], [1, 0, 0, 0, 1, 0, 0.5, 1, 0.667]),
        ("one of two", [(1, 5), (12, 16)], [(12, 15)], [1, 1, 1, 0, 0, 0, 1, 0.5, 0.667]),
        ("no event", [], [(5, 8), (12, 15)], [0, 0, 0, 2, 0, None, 0, 0, 0]),
        ("no event, no alarm", [], [], [0, 0, 0, 0, 0, None, 0, 0, 0]),
        ("at the edges", [(0, 2), (18, 20)], [(0, 2), (18, 20)], [2, 2, 0, 0, 0, 0, 1, 1, 1]),
        ("past the end", [(18, 30)], [(18, 20)], [0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("until the end", [(18, math.inf)], [(18, 20)], [1, 1, 0, 0, 0, 0, 1, 1, 1]),
        ("two people at once", [(5, 10), (5, 10)], [(5, 10)], [1, 1, 0, 0, 0, 0, 1, 0.5, 0.667]),
    ],
)
def test_measures_by_hand(what, events, spans, expected):
    assert table(truth(*events), spans) == expected, what


def test_merging_and_the_shortest_alarm_mend_split_and_spurious_ones():
    assert table(truth((4, 14)), [(4, 7), (9, 14), (17, 18)], merge_s=3, min_s=2)[:5] == [1, 1, 0, 0, 0]


def test_hours_delays_and_several_videos():
    events = [*truth((5, 10)), *truth((0, 4), video="b"), *truth((6, 8), label="sit")]
    windows = [*ones([(7, 10), (15, 16)]), *ones([(3, 4)], video="b"), *ones([(1, 2)], length=8, video="c")]
    found = report(events, windows, Hysteresis(0.5, 0.4), label="fall", step_s=0.5)
    assert (found["videos"], found["events"], found["alarms"], found["false_alarms"]) == (3, 2, 4, 2)
    assert found["camera_hours"] == pytest.approx(48 / 3600, abs=1e-6)
    assert found["false_alarms_per_hour"] == pytest.approx(2 / (48 / 3600))
    assert found["delay_s"] == {"mean": 2.5, "median": 2.5, "p95": 2.95}
    assert found["alarm_share"] == pytest.approx(6 / 48)
    # A live system knows of a second once it has passed.
    assert found["live_delay_s"] == {"mean": 3.5, "median": 3.5, "p95": 3.95}
    assert [t["video"] for t in found["timelines"]] == ["a", "b", "c"]
    assert found["timelines"][0]["alarms"] == [[7.0, 10.0, 0.9], [15.0, 16.0, 0.9]]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert report(events[::-1], windows[::-1], Hysteresis(0.5, 0.4), label="fall", step_s=0.5) == found


def test_average_precision_by_hand():
    # Thresholds .9, .8, .7: a hit; a hit and a false alarm; both hits and a false alarm.
    p = [0.1] * 20
    p[2:4], p[8:10], p[14:16] = [0.9] * 2, [0.8] * 2, [0.7] * 2
    found = report(truth((2, 4), (14, 16)), seconds(*p), Hysteresis(0.5, 0.5), step_s=0.5)
    curve = [(c["threshold"], c["precision"], c["recall"]) for c in found["curve"]]
    assert curve[:3] == [(0.9, 1, 0.5), (0.8, 0.5, 0.5), (0.7, 0.666667, 1)]
    # Everything is one long alarm at the lowest threshold.
    assert curve[3] == (0.1, 0, 0)
    assert found["iou_0.2"]["average_precision"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3, abs=1e-6)
    assert average_precision([]) == 0
    assert average_precision([{"recall": 0.5, "precision": 0.5}, {"recall": 1.0, "precision": 0.25}]) == 0.375


def test_hysteresis_is_chosen_on_validation():
    p = [0.1] * 30
    p[5:9], p[6] = [0.35] * 4, 0.25
    p[15] = 0.4  # short, and higher than the event
    p[20:24] = [0.3] * 4
    windows, events = seconds(*p), truth((5, 9), (20, 24))
    before = report(events, windows, Hysteresis(), step_s=0.5)
    chosen = choose_hysteresis(events, windows, step_s=0.5)
    after = report(events, windows, chosen, step_s=0.5)
    assert (before["iou_0.2"]["f1"], after["iou_0.2"]["f1"], after["false_alarms"]) == (0, 1, 0)
    assert chosen.min_s == 2
    assert chosen.on <= 0.3
    # Nothing to gain: what one started from stays. Nothing to learn from: likewise.
    start = Hysteresis(0.52, 0.41, 0.0, 0.0)
    assert choose_hysteresis(truth((5, 9)), ones([(5, 9)]), start=start) == start
    assert choose_hysteresis([], ones([(5, 9)]), start=start) == start


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Window("a", 0, 1, math.nan), InputError, "probability must be between 0 and 1, not nan"),
        (lambda: Window("a", 0, 1, 1.2), InputError, r"between 0 and 1, not 1\.2"),
        (lambda: Window("a", 0, math.nan, 0.5), InputError, "times must be 0 or more"),
        (lambda: Window("a", 2, 1, 0.5), InputError, "at 2 s: it ends at 1 s, before it starts"),
        (lambda: Event("a", math.nan, 2), LabelError, "times must be 0 or more seconds"),
        (lambda: Event("a", 5, 4), LabelError, "event of 'a' at 5 s ends at 4 s, before it starts"),
        (lambda: Event("a", -1, 4), LabelError, "0 or more seconds"),
        (lambda: Hysteresis(0.4, 0.5), ConfigError, "off <= on"),
        (lambda: Hysteresis(0.4, math.nan), ConfigError, "off <= on"),
        (lambda: smooth([]), InputError, "no window"),
        (lambda: smooth([Window("a", 0, 1e12, 1)]), InputError, "are its times in seconds"),
        (lambda: report(truth((0, 1), video="b"), seconds(1)), LabelError, "'b' has an annotated event but no window"),
        (lambda: report(truth((3, math.inf)), seconds(1)), LabelError, "starts after the last window"),
        (lambda: report(truth((0, 1)), seconds(1), label="fight"), LabelError, "no annotation is labelled 'fight'"),
        (lambda: report([*truth((0, 1)), *truth((0, 1), label="sit")], seconds(1)), LabelError, "several labels"),
        (lambda: report([], [Window("a", 0.1, 0.2, 1)], step_s=1), InputError, "use a shorter step"),
    ],
)
def test_refusals(make, error, message):
    with pytest.raises(error, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_files_in_many_spellings(tmp_path):
    (tmp_path / "a.csv").write_text("File,Start,End,Class,remark\na.mp4,1.5,3,fall,x\n\nb.mp4,0,,fall,\n")
    assert read_intervals(tmp_path / "a.csv") == [Event("a.mp4", 1.5, 3, "fall"), Event("b.mp4", 0, math.inf, "fall")]
    (tmp_path / "none.csv").write_text("video,start_s,end_s,label\n")
    assert read_intervals(tmp_path / "none.csv") == []
    windows = [Window("a.mp4", 0, 1.5, 0.25), Window("a.mp4", 0.5, 2, 1.0)]
    assert read_windows(write_windows(tmp_path / "w.jsonl", windows)) == windows
    (tmp_path / "w.csv").write_text("video,start,end,score\na.mp4,0,1.5,0.25\na.mp4,0.5,2,1\n")
    assert read_windows(tmp_path / "w.csv") == windows
    rows = [
        {"clip": "c", "video": "v", "start_s": 0, "people": 1, "probabilities": {"normal": 0.4, "fall": 0.6}},
        {"clip": "d", "video": "v", "start_s": 3, "people": 0},
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read_windows(tmp_path / "p.jsonl", "fall", 3) == [Window("v", 0, 3, 0.6), Window("v", 3, 6, 0.0)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "video,begin\na,x\n", r"a\.csv row 2: start_s must be a number of seconds, not 'x'"),
        ("a.csv", "video,start_s,end_s\na,1,nan\n", r"a\.csv row 2: event of 'a': times must be"),
        ("a.csv", "video,start_s,end_s\na,4,2\n", r"a\.csv row 2: event of 'a' at 4 s ends at 2 s"),
        ("a.csv", "video,start_s,end_s\n,1,2\n", r"a\.csv row 2: video is empty"),
        ("a.csv", "clip,start_s\n", r"a\.csv has no column 'video': found clip, start_s"),
        ("none.csv", None, "cannot read"),
    ],
)
def test_intervals_refused(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_intervals(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no window"),
        ("[1]", "row 1 is not a JSON object"),
        ("{", "row 1 is not JSON"),
        ('{"video": "a", "start_s": 0, "end_s": 1, "p": NaN}', "row 1: window of 'a' at 0 s: the probability"),
        ('{"video": "a", "start_s": 0, "end_s": 1, "p": "x"}', "the probability must be a number, not 'x'"),
        ('{"video": "a", "start_s": 0, "end_s": 1}', "row 1: it has no probability"),
        ('{"video": "a", "start_s": 0, "p": 1}', "row 1: it has no end_s .*--window-s"),
        ('{"video": "a", "start_s": 0, "end_s": 1, "probabilities": {"n": 1}}', "choose one of n"),
    ],
)
def test_windows_refused(tmp_path, text, message):
    (tmp_path / "w.jsonl").write_text(text)
    with pytest.raises(InputError, match=message):
        read_windows(tmp_path / "w.jsonl")


@pytest.mark.skipif(not GMDCSA.is_dir(), reason=f"no GMDCSA-24 videos at {GMDCSA}")
def test_annotations_of_real_falls():
    events = read_intervals(GMDCSA / "Subject_1_Fall.csv")
    assert {e.video for e in events} == {"Subject_1_Fall_13.mp4"}
    assert {e.label for e in events} == {"abnormal", "normal"}
    everything = read_intervals(GMDCSA)
    falls = [e for e in everything if e.label == "abnormal"]
    assert {e.video for e in falls} >= {"Subject_3_Fall_19.mp4", "Subject_4_Fall_01.mp4"}
    videos = sorted({e.video for e in everything})
    windows = [w for v in videos for w in ones([(int(e.start_s), e.end_s) for e in falls if e.video == v], 60, v)]
    found = report(everything, windows, label="abnormal")
    assert (found["events"], found["missed"]) == (len(falls), 0)


def test_from_files_to_report_and_picture(tmp_path, capsys):
    def events(*words):
        code = main(["events", *map(str, words)])
        said = capsys.readouterr()
        return code, said.out + said.err

    (tmp_path / "truth.csv").write_text("video,start_s,end_s,label\na,5,10,fall\nb,2,6,fall\n")
    windows = [*ones([(6, 10), (15, 16)], high=0.45), *ones([(3, 6)], video="b", high=0.45)]
    write_windows(tmp_path / "w.jsonl", windows)
    common = ("--intervals", tmp_path / "truth.csv", "--windows", tmp_path / "w.jsonl", "--label", "fall")
    code, said = events(*common, "--out", tmp_path / "a")
    assert (code, "0 of 2 events found" in said) == (0, True)
    tuned = ("--tune-intervals", tmp_path / "truth.csv", "--tune-windows", tmp_path / "w.jsonl")
    for folder in ("b", "c"):
        _, said = events(*common, *tuned, "--out", tmp_path / folder)
    assert "2 of 2 events found, 1.0 s after their start" in said
    assert "0 false alarms in 0.01 camera-hours" in said
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["events.json", "events.png"]
    for name in ("events.json", "events.png"):
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()
    assert (tmp_path / "b/events.png").read_bytes().startswith(b"\x89PNG")
    code, said = events("--intervals", tmp_path / "truth.csv", "--out", tmp_path)
    assert (code, "choose where the scores come from" in said) == (2, True)


def test_a_checkpoint_scores_whole_videos(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    from skeletons import walk

    from posewatch.config import TrainConfig
    from posewatch.datasets import layouts
    from posewatch.datasets.clipset import ClipSet
    from posewatch.datasets.pyskl import write_pyskl
    from posewatch.recognition.recogniser import Recogniser, save

    torch.manual_seed(0)
    config = TrainConfig(width=0.1, model_options={"prototypes": 4}, clip_frames=12, people=2)
    made = Recogniser(config, layouts.get("coco17"), ("normal", "abnormal"), "abnormal", 10.0)
    save(tmp_path / "checkpoint.pt", made, made.state_dict())
    videos = (walk(1, False, 100, people=2), walk(2, True, 25))
    videos[0][:, 40:60] = 0
    clips = ClipSet(videos, np.array([0, 1]), ("normal", "abnormal"), ("a", "b"), ("a", "b"))
    write_pyskl(tmp_path / "videos.pkl", clips, {"test": range(2)})
    (tmp_path / "truth.csv").write_text("video,start_s,end_s,label\nb,0.5,2,abnormal\n")
    command = ["events", "--checkpoint", tmp_path / "checkpoint.pt", "--skeletons", tmp_path / "videos.pkl"]
    command += ["--intervals", tmp_path / "truth.csv", "--out", tmp_path / "out"]
    assert main([*map(str, command), "--window-s", "2", "--stride-s", "0.5"]) == 0
    assert "camera-hours" in capsys.readouterr().out
    windows = read_windows(tmp_path / "out/windows.jsonl")
    assert [w.start_s for w in windows if w.video == "a"] == [0.5 * i for i in range(17)]
    assert [w.start_s for w in windows if w.video == "b"] == [0, 0.5]
    assert {w.start_s for w in windows if w.p == 0} == {4.0}, "nobody is seen in this window"
    assert main([str(word) for word in command]) != 0
    assert "--window-s SECONDS" in capsys.readouterr().err
    empty = ClipSet((videos[0], 0 * videos[1]), clips.labels, clips.classes, clips.ids, clips.groups)
    write_pyskl(tmp_path / "videos.pkl", empty, {})
    assert main([*map(str, command), "--window-s", "2", "--stride-s", "0.5"]) == 0, "nobody is seen in video b"
    assert {w.p for w in read_windows(tmp_path / "out/windows.jsonl") if w.video == "b"} == {0}


def _windows_of(person: int | None, p: list[float]) -> list[Window]:
    return [Window("yard", float(i), float(i + 1), value, person) for i, value in enumerate(p)]


def test_each_person_has_alarms_of_their_own(tmp_path: Path) -> None:
    windows = [
        *_windows_of(1, [0, 0, 0.9, 0.9, 0, 0, 0, 0]), *_windows_of(2, [0, 0, 0, 0.8, 0.8, 0, 0.9, 0]),
        Window("yard", 8.0, 9.0, 0.0),  # nobody was there
    ]  # fmt: skip
    truth = [Event("yard", 2.0, 5.0), Event("yard", 6.0, 7.0)]
    result = report(truth, windows)
    assert (result["videos"], result["alarms"], result["found"], result["repeated_alarms"]) == (1, 3, 2, 1)
    assert result["camera_hours"] == pytest.approx(9 / 3600, abs=1e-6)
    alarms = result["timelines"][0]["alarms"]
    assert alarms == [[2.0, 4.0, 0.9, 1], [3.0, 5.0, 0.8, 2], [6.0, 7.0, 0.9, 2]]
    # where the annotations say whose an event is, somebody else's alarm does not find it
    whose = report([Event("yard", 2.0, 5.0, person=2), Event("yard", 6.0, 7.0, person=1)], windows)
    assert (whose["found"], whose["missed"], whose["false_alarms"]) == (1, 1, 2)
    # rows keep the person, there and back
    path = write_windows(tmp_path / "w.jsonl", windows)
    assert read_windows(path) == windows
    (tmp_path / "t.csv").write_text("video,start_s,end_s,label,person\nyard,2,5,,2\nyard,6,7,,\n")
    assert [event.person for event in read_intervals(tmp_path / "t.csv")] == [2, None]
    (tmp_path / "t.csv").write_text("video,start_s,end_s,person\nyard,2,5,bob\n")
    with pytest.raises(LabelError, match="row 2: person must be a whole number from 1"):
        read_intervals(tmp_path / "t.csv")


def test_a_model_of_single_persons_scores_each_by_themselves() -> None:
    from posewatch.config import TrainConfig
    from posewatch.datasets import layouts
    from posewatch.events.timeline import sliding
    from posewatch.recognition.recogniser import Recogniser

    config = TrainConfig(people=1, clip_frames=12, width=0.1)
    recogniser = Recogniser(
        config, layouts.get("coco17"), ("normal", "abnormal"), "abnormal", 10.0, unit="person"
    ).eval()
    keypoints = np.concatenate([walk(1, False, 40), walk(2, False, 40)])
    keypoints[1, 20:] = 0
    windows = sliding(recogniser, keypoints, 10.0, 2.0, 1.0, video="yard")
    seen = [(w.start_s, w.person) for w in windows]
    assert seen == [(0.0, 1), (0.0, 2), (1.0, 1), (1.0, 2), (2.0, 1)]
    alone = sliding(recogniser, keypoints[:1], 10.0, 2.0, 1.0, video="yard")
    assert [w.p for w in windows if w.person == 1] == pytest.approx([w.p for w in alone], abs=1e-6)


def test_false_alarms_are_told_by_act(tmp_path):
    path = tmp_path / "truth.csv"
    path.write_text(
        "video,start_s,end_s,label,act\na,0,4,normal,sit\na,4,10,normal,lie_down\na,10,12,fall,\na,14,16,normal,\n",
        encoding="utf-8",
    )
    with path.open("a", encoding="utf-8") as file:
        file.write("b,0,inf,normal,sit\n")  # until the video ends
    windows = [*ones([(3, 6), (8, 9), (10, 12), (14, 15), (18, 19)]), *ones([(3, 6)], video="b")]
    result = report(read_intervals(path), windows, label="fall")
    assert result["false_alarms"] == 5
    found = result["false_alarms_by_act"]
    assert {act: row["alarms"] for act, row in found.items()} == {
        "sit": 1, "lie_down": 2, "normal": 1, "nothing annotated": 1,
    }  # fmt: skip
    assert found["sit"]["hours"] == pytest.approx((4 + 20) / 3600, abs=1e-6)
    assert found["lie_down"]["per_hour"] == pytest.approx(1200)
    assert report(truth((1, 3)), windows, label="fall")["false_alarms_by_act"] == {}
