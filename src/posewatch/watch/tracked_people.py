"""The people of the last seconds, tracked, and the model input made from them."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from posewatch.config import PoseConfig
from posewatch.perception.flow import Meter
from posewatch.perception.pictures import Grey
from posewatch.perception.ports import GlancingEstimator, Image, PoseEstimator
from posewatch.perception.steady import steadied
from posewatch.perception.tracking.identities import follow_one, track
from posewatch.perception.tracking.tracker import Tracker
from posewatch.recognition.sampling import chosen_people
from posewatch.records import Detections
from posewatch.watch.persons import Persons

MAX_PEOPLE = 12
"""People of one window of a scene that are considered."""
MIN_PRESENCE = 1 / 3
"""Somebody beyond the first M people gets a group of their own when seen in at least this share of the window; a
model of single persons is asked about whoever is."""
_MIN_FRAMES = 3
"""The same in frames, for short windows."""
MOST_BETWEEN = 5
"""Frames of which the network looks at one, at most."""
_STEADY = 3
"""Looks in a row that must show somebody before they are taken to stay where nothing moves."""


@dataclass(frozen=True)
class Observation:
    """The people in one frame: ``detections`` with keypoints, the track id of each in ``ids``, and the number of each
    in ``persons``, which holds longer."""

    detections: Detections
    ids: tuple[int, ...]
    persons: tuple[int, ...] = ()

    @classmethod
    def nobody(cls) -> Observation:
        """A frame without people."""
        return cls(Detections.none(17), ())

    def of_persons(self) -> Observation:
        """The same with the numbers for the ids."""
        return Observation(self.detections, self.persons, self.persons)


@dataclass(frozen=True)
class Window:
    """Model input for one moment: ``keypoints`` float32 (G, M, T, V, 3), a group of at most M people each, and the
    track ids of each group in ``ids``. G is 0 when nobody was seen."""

    keypoints: NDArray[np.float32]
    ids: tuple[tuple[int, ...], ...]


class TrackedPeople:
    """Finds and tracks the people of one camera, frame by frame; remembers the last ``span`` frames.

    ``people`` is M, the number of people that the model takes. The first group is chosen as in training. Everybody
    beyond them forms a group with whoever is closest, so that a crowd hides nobody. A person who
    is lost keeps their number for ``hold`` frames. ``fps`` frames come in a second.
    """

    def __init__(
        self, estimator: PoseEstimator, config: PoseConfig, span: int, people: int, hold: int = 0, fps: float = 10.0
    ) -> None:
        self.flow = False
        """Whether windows have columns of flow: the model wants them (``Predictor.flow``)."""
        self._meter = Meter(fps)
        self._estimator, self._config, self._span, self._people = estimator, config, span, people
        self._tracker, self._numbers = Tracker(config.min_score, config.hold), Persons(max(hold, config.hold))
        self._recent: deque[tuple[int, Observation]] = deque(maxlen=span + MOST_BETWEEN)
        self._pictures: deque[tuple[int, Grey]] = deque(maxlen=span + MOST_BETWEEN)
        self._in_a_row: dict[int, int] = {}
        self._first = 0

    def begin(self, index: int) -> None:
        """Forget the frames before a gap that ends with frame ``index``."""
        self._recent.clear()
        self._pictures.clear()
        self._in_a_row.clear()
        self._numbers.clear()
        self._first = index

    def update(self, index: int, image: Image, just_seen: Detections | None = None) -> Observation:
        """Find and track the people in frame ``index``; a moment after ``just_seen`` with less work, if the estimator
        knows how to."""
        if just_seen is not None and isinstance(self._estimator, GlancingEstimator):
            detections = self._estimator.glance(image, just_seen)
        else:
            detections = self._estimator.estimate([image])[0]
        tracks = self._tracker.update(detections)
        numbers = self._numbers.update(index, [t for t, _ in tracks])
        observation = Observation(detections.pick([i for _, i in tracks]), tuple(t.id for t, _ in tracks), numbers)
        self._remember(index, observation, image)
        self._in_a_row = {number: self._in_a_row.get(number, 0) + 1 for number in observation.ids}
        return observation

    def repeat(self, index: int, image: Image, people: Observation) -> Observation:
        """These people were in frame ``index``, at which the network did not look."""
        self._remember(index, people, image)
        self._numbers.stay(index, people.persons)
        return people

    @property
    def settled(self) -> bool:
        """Whether a look at the same picture would show the same people: nobody is new, or lost a short time ago."""
        steady = all(looks >= _STEADY for looks in self._in_a_row.values())
        return steady and not self._tracker.lost() and not self._numbers.anybody_lost

    def window(self, end: int, people_by: str = "presence") -> Window:
        """The ``span`` frames up to frame ``end`` (fewer at the start of the source and after a gap). A missing frame
        counts as one without people. ``people_by`` is how the model's people are chosen (``train.people_by``)."""
        frames = self._frames(end)
        # tracked anew within the window, exactly as a training clip is
        untracked = [Detections(d.boxes, d.scores, d.keypoints) for d in (o.detections for o in frames)]
        joints = next((d.keypoints.shape[1] for d in untracked if d.keypoints is not None and len(d)), 17)
        detected = track(untracked, MAX_PEOPLE, self._config.hold, joints)
        people = self._steadied(detected, end)
        present = np.asarray((people[..., 2] > 0).any(axis=2))
        count = int(present.any(1).sum())
        if not count:
            return Window(np.zeros((0, self._people, len(frames), joints, 3), np.float32), ())
        groups = [tuple(map(int, chosen_people(people[:count], self._people, people_by)))]
        beyond = [i for i in range(count) if i not in groups[0] and present[i].mean() >= MIN_PRESENCE]
        groups += [tuple(sorted([i, *_nearest(people[:count], i, self._people - 1)])) for i in beyond]
        groups = list(dict.fromkeys(groups))
        people = self._measured(people[:count], end)
        keypoints = np.zeros((len(groups), self._people, *people.shape[1:]), np.float32)
        for g, group in enumerate(groups):
            keypoints[g, : len(group)] = people[list(group)]
        ids = [_track_id(person, frames) for person in detected[:count]]
        return Window(keypoints, tuple(tuple(n for n in (ids[i] for i in group) if n is not None) for group in groups))

    def persons(self, end: int) -> dict[int, NDArray[np.float32]]:
        """Keypoints (1, T, V, 3) of each person by themselves in the same frames, by number. Whoever is seen in less
        than ``MIN_PRESENCE`` of them is left out."""
        frames = self._frames(end)
        found: dict[int, dict[int, NDArray[np.float32]]] = {}
        for t, observation in enumerate(frames):
            keypoints = observation.detections.keypoints
            for i, person in enumerate(observation.persons):
                if keypoints is not None and (keypoints[i, :, 2] > 0).any():
                    found.setdefault(person, {})[t] = keypoints[i]
        least = max(min(_MIN_FRAMES, len(frames)), MIN_PRESENCE * len(frames))
        present = sorted(person for person, seen in found.items() if len(seen) >= least)
        if not present:
            return {}
        joints = len(next(iter(found[present[0]].values())))
        hold = self._config.hold
        followed = np.stack([follow_one(found[person], len(frames), hold, joints) for person in present])
        whole = self._measured(self._steadied(followed, end), end, alone=True)
        return {person: own[None] for person, own in zip(present, whole, strict=True)}

    def remember(self, persons: Collection[int], hold: int) -> None:
        """Keep the numbers of these persons for ``hold`` frames when they are lost, and those of others as before."""
        self._numbers.longer = dict.fromkeys(persons, hold)

    def number_of(self, track: int) -> int | None:
        """The number of the person of a track id; None: they are forgotten."""
        return self._numbers.number_of(track)

    def _frames(self, end: int) -> list[Observation]:
        by_index = {index: o for index, o in self._recent if end - self._span < index <= end}
        nobody = Observation.nobody()
        return [by_index.get(i, nobody) for i in self._window(end)]

    def _window(self, end: int) -> range:
        return range(max(self._first, end - self._span + 1), end + 1)

    def _remember(self, index: int, people: Observation, image: Image) -> None:
        self._recent.append((index, people))
        if self._config.steady or self.flow:
            self._pictures.append((index, Grey.of(image)))

    def _steadied(self, people: NDArray[np.float32], end: int) -> NDArray[np.float32]:
        """Keypoints (M, T, V, 3) of the frames up to frame ``end``, as ``pose.steady`` wants them."""
        return steadied(people, self._pictures_to(end)) if self._config.steady else people

    def _measured(self, people: NDArray[np.float32], end: int, alone: bool = False) -> NDArray[np.float32]:
        """The same with the columns of flow, where the model wants them; ``alone``: see ``Meter.measure``."""
        if not self.flow:
            return people
        found = self._meter.measure(self._window(end).start, people, self._pictures_to(end), alone)
        return np.concatenate([people, found], 2)

    def _pictures_to(self, end: int) -> list[Grey | None]:
        kept = dict(self._pictures)
        return [kept.get(i) for i in self._window(end)]


def _nearest(people: NDArray[np.float32], person: int, count: int) -> list[int]:
    """The ``count`` people of (P, T, V, 3) whose mean distance to ``person``, while both are seen, is the smallest."""
    if count < 1:
        return []
    seen = people[..., 2] > 0
    weight = seen[..., None].astype(np.float32)
    centres = (people[..., :2] * weight).sum(2) / np.maximum(weight.sum(2), 1)
    both = seen.any(2) & seen[person].any(1)
    distance = np.linalg.norm(centres - centres[person], axis=-1)
    mean = np.where(both.any(1), (distance * both).sum(1) / np.maximum(both.sum(1), 1), np.inf)
    mean[person] = np.inf
    return [int(i) for i in np.argsort(mean, kind="stable")[:count] if np.isfinite(mean[i])]


def _track_id(person: NDArray[np.float32], frames: Sequence[Observation]) -> int | None:
    """The last track id of somebody of the window (T, V, 3), found by equal keypoints."""
    for t in range(len(frames) - 1, -1, -1):
        keypoints = frames[t].detections.keypoints
        if keypoints is None or not (person[t, :, 2] > 0).any():
            continue
        for i, number in enumerate(frames[t].ids):
            visible = (person[t, :, 2] > 0) & (keypoints[i, :, 2] > 0)
            if visible.any() and np.allclose(keypoints[i, visible, :2], person[t, visible, :2], atol=1e-3):
                return number
    return None
