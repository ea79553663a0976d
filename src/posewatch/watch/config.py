"""How a source is watched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from posewatch.errors import ConfigError
from posewatch.events.alarms import Hysteresis
from posewatch.rules import UNITS, OneOf, Range
from posewatch.sections import Section
from posewatch.units import SCENE


@dataclass(frozen=True)
class WatchConfig(Section):
    """Frame rate, windows and alarm rule.

    ``fps`` frames per second are watched. A window lasts ``window_s`` seconds, the length of the training clips; one is
    scored every ``stride_s`` seconds. ``label`` is the class that raises alarms (empty: the model's positive class).
    The mean probability of ``smooth`` windows is compared with the thresholds of ``hysteresis``. An alarm that is
    raised again within ``repeat_s`` seconds of its end is the same one.

    With ``unit`` person each tracked person is asked about by themselves, at most ``max_persons`` of them in one
    window, and has alarms of their own; a person who is lost for at most ``hold_s`` seconds is the same one when found.
    Somebody who lies for ``long_lie_s`` seconds after an alarm about them is an alarm of its own (0: not).

    The pose network looks at one of ``pose_every`` frames, and at none for ``still_s`` seconds while nothing moves in
    the picture (0: it always looks). While all people are large in the picture it may look at less of it for
    ``large_s`` seconds (0: it never does).
    """

    SECTION: ClassVar[str] = "watch"

    fps: Annotated[float, Range(0, 240, above=True)] = 10.0
    window_s: Annotated[float, Range(0, 3600, above=True)] = 3.0
    stride_s: Annotated[float, Range(0, 3600, above=True)] = 0.5
    smooth: Annotated[int, Range(1, 10_000)] = 2
    label: str = ""
    hysteresis: Hysteresis = field(default_factory=Hysteresis)
    unit: Annotated[str, OneOf(UNITS)] = SCENE
    max_persons: Annotated[int, Range(1, 1000)] = 16
    hold_s: Annotated[float, Range(0, 3600)] = 5.0
    repeat_s: Annotated[float, Range(0, 86_400)] = 0.0
    long_lie_s: Annotated[float, Range(0, 86_400)] = 0.0
    still_s: Annotated[float, Range(0, 10)] = 0.0
    pose_every: Annotated[int, Range(1, 5)] = 1
    large_s: Annotated[float, Range(0, 10)] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride_s > self.window_s:
            raise ConfigError(
                f"watching needs a stride of at most a window, not a stride of {self.stride_s:g} s"
                f" and a window of {self.window_s:g} s"
            )

    @property
    def window_frames(self) -> int:
        """Length of a window in frames."""
        return max(2, round(self.window_s * self.fps))

    @property
    def stride_frames(self) -> int:
        """Frames from one window to the next."""
        return max(1, round(self.stride_s * self.fps))
