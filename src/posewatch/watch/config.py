"""How a source is watched."""

from __future__ import annotations

from dataclasses import dataclass, field

from posewatch.errors import ConfigError
from posewatch.events.alarms import Hysteresis


@dataclass(frozen=True)
class WatchConfig:
    """Frame rate, windows and alarm rule.

    ``fps`` frames per second are watched. A window lasts ``window_s`` seconds, the length of the training clips; one is
    scored every ``stride_s`` seconds. ``label`` is the class that raises alarms (empty: the model's positive class).
    The mean probability of ``smooth`` windows is compared with the thresholds of ``hysteresis``.
    """

    fps: float = 10.0
    window_s: float = 3.0
    stride_s: float = 0.5
    smooth: int = 2
    label: str = ""
    hysteresis: Hysteresis = field(default_factory=Hysteresis)

    def __post_init__(self) -> None:
        if self.fps <= 0 or self.window_s <= 0 or not 0 < self.stride_s <= self.window_s:
            raise ConfigError(
                f"watching needs fps > 0 and 0 < stride <= window, not {self.fps:g} frames per second, a stride of"
                f" {self.stride_s:g} s and a window of {self.window_s:g} s"
            )

    @property
    def window_frames(self) -> int:
        """Length of a window in frames."""
        return max(2, round(self.window_s * self.fps))

    @property
    def stride_frames(self) -> int:
        """Frames from one window to the next."""
        return max(1, round(self.stride_s * self.fps))
