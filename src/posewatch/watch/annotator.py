"""Annotated frames: people with skeletons and track ids, the probabilities of the last seconds, and the alarm."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posewatch.errors import ConfigError
from posewatch.perception.draw import COLOURS, overlay
from posewatch.perception.ports import Image
from posewatch.watch.tracked_people import Observation

PRIVACY = ("none", "blur", "skeleton")
WIDTH = 960
"""Of the annotated frame, in pixels; smaller frames are enlarged, so that text is sharp."""
STRIP = 112
"""Height in pixels of the strip of probabilities below the frame."""
SPAN_S = 20.0
"""Seconds of probabilities that the strip shows."""
FONTS = ("NanumGothic.ttf", "NotoSansCJK-Regular.ttc", "NotoSansKR-Regular.otf", "malgun.ttf", "AppleSDGothicNeo.ttc")
"""Files of fonts with Korean letters, which Pillow's own font lacks: the first that is installed is taken for them."""
_NAMED = 4
"""Persons that the heading names; the others are counted."""
_RED, _GREEN, _WHITE, _GREY, _BACKGROUND = (226, 48, 48), (46, 160, 110), (238, 240, 243), (150, 156, 166), (20, 23, 28)


@dataclass(frozen=True)
class PersonState:
    """A person's smoothed probability, and when the alarm about them was raised (None: there is none)."""

    probability: float
    since_s: float | None


@dataclass(frozen=True)
class AlarmState:
    """The state of the alarms at ``time_s`` seconds of the source.

    ``probability`` is smoothed; ``since_s`` is when the earliest of the current alarms was raised (None: there is
    none), ``ids`` are the people that they are about: the track ids of the group with the highest probability, or the
    numbers of persons, ``clock`` is the time to show. With a model of single persons ``persons`` has each of them.
    ``lying`` says since when whoever did not get up again lies. ``only`` is the person that a video is about.
    """

    time_s: float
    probability: float
    since_s: float | None
    ids: tuple[int, ...]
    clock: str
    persons: Mapping[int, PersonState] = field(default_factory=dict)
    lying: Mapping[int, float] = field(default_factory=dict)
    only: int | None = None

    @property
    def alarm(self) -> bool:
        """Whether there is an alarm to show."""
        return self.since_s is not None or bool(self.lying)

    def of(self, person: int) -> AlarmState:
        """The same for a video about one person."""
        own = self.persons.get(person, PersonState(0.0, None))
        lying = {n: at for n, at in self.lying.items() if n == person}
        return replace(self, probability=own.probability, since_s=own.since_s, lying=lying, only=person)


class Annotator:
    """Draws annotations on frames of (width, height) pixels; the results have ``size`` (width, height).

    ``title`` names the source, ``label`` the class that raises alarms; ``on`` and ``off`` are the thresholds.
    ``privacy`` is one of ``PRIVACY``: the frame as it is, blurred, or skeletons on black; ConfigError for another one.
    """

    def __init__(
        self, width: int, height: int, title: str, label: str, on: float, off: float, privacy: str = "none"
    ) -> None:
        if privacy not in PRIVACY:
            raise ConfigError(f"privacy is one of {', '.join(PRIVACY)}, not {privacy!r}")
        self._title = " ".join(title.split())  # a file's name may have several lines, which Pillow does not measure
        self._label, self._on, self._off, self._privacy = label, on, off, privacy
        self._scale = WIDTH / width
        self._frame = (WIDTH, round(height * self._scale) // 2 * 2)
        self.size = (WIDTH, self._frame[1] + STRIP)
        self._history: deque[tuple[float, float, bool]] = deque()

    def annotate(self, image: Image, people: Observation, state: AlarmState) -> Image:
        """The annotated frame, uint8 (size[1], size[0], 3) RGB."""
        import cv2
        from PIL import Image as Pil
        from PIL import ImageDraw

        self._history.append((state.time_s, state.probability, state.alarm))
        while self._history[0][0] < state.time_s - SPAN_S:
            self._history.popleft()
        enlarged = cv2.resize(anonymised(image, self._privacy), self._frame, interpolation=cv2.INTER_CUBIC)
        keypoints = people.detections.keypoints
        if len(people.ids) and keypoints is not None and keypoints.shape[1] == 17:
            for rows in self._coloured(people, keypoints):
                enlarged = overlay(np.asarray(enlarged, np.uint8), rows, 0.15)
        canvas = np.empty((self.size[1], self.size[0], 3), np.uint8)
        canvas[: self._frame[1]] = enlarged
        canvas[self._frame[1] :] = _BACKGROUND
        result = Pil.fromarray(canvas)
        draw = ImageDraw.Draw(result, "RGBA")
        self._draw_boxes(draw, people, state)
        self._draw_strip(draw, state)
        self._draw_heading(draw, people, state)
        return np.asarray(result)

    def _coloured(self, people: Observation, keypoints: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """Keypoints with one row per colour, so that a person keeps the colour of their track id; in a crowd several
        times, until everybody has had a row."""
        left = list(enumerate(people.ids))
        while left:
            rows, later = np.zeros((len(COLOURS), 17, 3), np.float32), []
            for i, number in left:
                row = number % len(COLOURS)
                if rows[row].any():
                    later.append((i, number))
                else:
                    rows[row] = keypoints[i] * (self._scale, self._scale, 1)
            yield rows
            left = later if len(later) < len(left) else []

    def _draw_boxes(self, draw: Any, people: Observation, state: AlarmState) -> None:
        about = _about(state)
        outlined = about & set(state.persons) if state.only is None else {state.only}
        # whom the alarm is about comes last, over the others
        for i, number in sorted(enumerate(people.ids), key=lambda at: (at[1] in about, at[1] in outlined)):
            colour = _RED if number in about else COLOURS[number % len(COLOURS)]
            x1, y1, x2, y2 = (people.detections.boxes[i] * self._scale).tolist()
            if number in outlined:
                draw.rectangle([x1 - 3, y1 - 3, x2 + 3, y2 + 3], outline=(*_WHITE, 255), width=2)
                draw.rectangle([x1 - 1, y1 - 1, x2 + 1, y2 + 1], outline=(*colour, 255), width=4)
            arm = max(6.0, min(x2 - x1, y2 - y1) / 5)
            for x, dx in ((x1, arm), (x2, -arm)):
                for y, dy in ((y1, arm), (y2, -arm)):
                    draw.line([(x + dx, y), (x, y), (x, y + dy)], fill=(*colour, 255), width=3)
            tag, font = f"#{number}", _font(15)
            width = draw.textlength(tag, font=font) + 10
            top = max(0.0, y1 - 22)
            draw.rounded_rectangle([x1, top, x1 + width, top + 20], 4, fill=(*colour, 210))
            draw.text((x1 + 5, top + 1), tag, fill=(10, 12, 16, 255), font=font)

    def _draw_heading(self, draw: Any, people: Observation, state: AlarmState) -> None:
        font = _font(17, _korean(self._title))
        text = f"{self._title}   {state.clock}"
        draw.rounded_rectangle([12, 12, 24 + draw.textlength(text, font=font), 38], 6, fill=(10, 12, 16, 170))
        draw.text((18, 14), text, fill=(*_WHITE, 255), font=font)
        if not state.alarm:
            return
        width, height = self._frame
        draw.rectangle([2, 2, width - 3, height - 3], outline=(*_RED, 255), width=5)
        font, big = _font(17), _font(30, _korean(self._label))
        text = f"ALARM: {self._label}{_named(state)}"
        small = "   ".join(_durations(state))
        long = max(draw.textlength(text, font=big), draw.textlength(small, font=font)) + 36
        left = (width - long) / 2
        top = self._free(people, _about(state), left, left + long, 68)
        draw.rounded_rectangle([left, top, left + long, top + 68], 10, fill=(*_RED, 235))
        draw.text((width / 2, top + 3), text, fill=(255, 255, 255, 255), font=big, anchor="ma")
        draw.text((width / 2, top + 42), small, fill=(255, 226, 226, 255), font=font, anchor="ma")

    def _free(self, people: Observation, about: set[int], left: float, right: float, height: float) -> float:
        """Where a heading from ``left`` to ``right`` covers nobody whom the alarm is about: above, else below."""
        boxes = [
            box
            for number, box in zip(people.ids, people.detections.boxes * self._scale, strict=True)
            if number in about
        ]
        above, below = 16.0, self._frame[1] - height - 16

        def covered(top: float) -> float:
            return sum(
                max(0.0, min(right, x2) - max(left, x1)) * max(0.0, min(top + height, y2) - max(top, y1))
                for x1, y1, x2, y2 in (box.tolist() for box in boxes)
            )

        return above if covered(above) <= covered(below) else below

    def _draw_strip(self, draw: Any, state: AlarmState) -> None:
        top, bottom = self._frame[1] + 12, self.size[1] - 24
        left, right = 150.0, WIDTH - 18.0
        alarm = state.alarm
        colour = _RED if alarm else _WHITE
        draw.text((20, top - 4), f"{state.probability:.0%}", fill=(*colour, 255), font=_font(44))
        draw.text((22, top + 50), self._label[:16], fill=(*_GREY, 255), font=_font(15, _korean(self._label)))

        def x(at: float) -> float:
            return right - (state.time_s - at) / SPAN_S * (right - left)

        def y(p: float) -> float:
            return bottom - p * (bottom - top)

        draw.rectangle([left, top, right, bottom], fill=(30, 34, 41, 255))
        for on, run in groupby(self._history, key=lambda past: past[2]):
            times = [at for at, _, _ in run]
            if on:
                draw.rectangle([x(times[0]), top, x(times[-1]), bottom], fill=(*_RED, 60))
        for p, strength in ((self._on, 220), (self._off, 110)):
            for at in range(int(left), int(right), 10):
                draw.line([(at, y(p)), (at + 5, y(p))], fill=(*_GREY, strength), width=1)
        curve = [(x(at), y(p)) for at, p, _ in self._history]
        if len(curve) > 1:
            colour = _RED if alarm else _GREEN
            draw.polygon([(curve[0][0], bottom), *curve, (curve[-1][0], bottom)], fill=(*colour, 70))
            draw.line(curve, fill=(*colour, 255), width=3, joint="curve")
        for back in range(0, int(SPAN_S) + 1, 5):
            draw.text(
                (x(state.time_s - back), bottom + 4), "now" if not back else f"-{back} s", fill=(*_GREY, 255),
                font=_font(13), anchor="ra" if not back else "ma",
            )  # fmt: skip


def anonymised(image: Image, privacy: str) -> Image:
    """An image uint8 (H, W, 3) as it may be shown: as it is, blurred, or nearly black, for skeletons."""
    import cv2

    if privacy == "skeleton":
        return np.full_like(image, 12)
    if privacy == "blur":
        small = cv2.resize(image, (24, max(2, 24 * image.shape[0] // image.shape[1])), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
    return image


def _about(state: AlarmState) -> set[int]:
    """Whom the alarms are about."""
    return {*(state.ids if state.since_s is not None or state.only is not None else ()), *state.lying}


def _named(state: AlarmState) -> str:
    """Whom an alarm of a model of single persons is about."""
    about = [state.only] if state.only is not None else [n for n in state.ids if n in state.persons]
    more = f" +{len(about) - _NAMED}" if len(about) > _NAMED else ""
    return "".join(f" #{n}" for n in about[:_NAMED]) + more


def _durations(state: AlarmState) -> Iterator[str]:
    if state.since_s is not None:
        yield f"for {max(0.0, state.time_s - state.since_s):.0f} s"
    for number, since_s in list(state.lying.items())[:_NAMED]:
        yield f"#{number} has been lying for {max(0.0, state.time_s - since_s):.0f} s"


def _korean(text: str) -> bool:
    return any(letter >= "\u1100" for letter in text)


@lru_cache
def _font(size: int, korean: bool = False) -> Any:
    from PIL import ImageFont

    for name in FONTS if korean else ():
        with suppress(OSError):
            return ImageFont.truetype(name, size)
    return ImageFont.load_default(size)


def clock(seconds: float) -> str:
    """Seconds as ``mm:ss.s`` or ``h:mm:ss.s``."""
    minutes, rest = divmod(max(0.0, seconds), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes:02d}:{rest:04.1f}"
