"""A camera's predictor during a rollout: it asks the canary in the camera's share of time, else the stable version."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posewatch.digests import share
from posewatch.errors import PosewatchError, ServingError
from posewatch.inference.predictor import Predictor
from posewatch.records import Prediction

SLOT_S = 600
"""A camera asks one version for so long before its share is decided again."""
REST_S = 60.0
"""How long a canary that did not answer is left alone."""
_LOG = logging.getLogger(__name__)


def takes_part(camera: str, version: str, percent: float, now_s: float) -> bool:
    """Whether a camera asks the canary ``version`` now: for ``percent`` of its ten-minute slots, in no fixed order.

    So every camera meets both versions, and the share is right for one camera as for a hundred, without anybody who
    keeps count. ``now_s`` is the time in seconds since 1970.
    """
    return share(camera, version, int(now_s // SLOT_S)) < percent / 100


class RoutedPredictor(Predictor):
    """``stable``, or the canary that ``route`` names while the slots of ``camera`` are the canary's.

    ``route`` is the file that ``posewatch deploy`` writes: {"percent", "canary": {"version", "endpoint"}}. It is read
    again before each window. Without the file, or with one that cannot be read, the stable version answers; so it does
    for a canary that gives no answer, also for the window that was sent. ``connect`` opens an endpoint.
    """

    def __init__(
        self, stable: Predictor, route: Path, camera: str, connect: Callable[[str], Predictor],
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._stable, self._route, self._camera, self._connect, self._clock = stable, route, camera, connect, clock
        self._canary: tuple[str, Predictor] | None = None
        self._rest_until = 0.0
        self._use(stable)

    def select(self, *, fresh: bool = False) -> bool:
        """See ``Predictor``."""
        before, now = dict(self.metadata), self._clock()
        percent, version, endpoint = self._read()
        wanted = percent > 0 and now >= self._rest_until and takes_part(self._camera, version, percent, now)
        if self._canary is not None and self._canary[0] != endpoint:
            self._canary[1].close()
            self._canary = None
        if wanted and self._canary is None:
            try:
                self._canary = (endpoint, self._connect(endpoint))
            except PosewatchError as error:
                self._leave(error)
        chosen = self._canary[1] if wanted and self._canary is not None else self._stable
        chosen.select(fresh=fresh)
        self._use(chosen)
        return dict(self.metadata) != before

    def predict(self, keypoints: NDArray[np.float32]) -> Prediction:
        """See ``Predictor``."""
        if self._chosen is self._stable:
            return self._stable.predict(keypoints)
        try:
            return self._chosen.predict(keypoints)
        except ServingError as error:
            self._leave(error)
            stable = self._stable
            if (stable.shape, stable.labels, stable.unit) != (self.shape, self.labels, self.unit):
                raise
            self._use(self._stable)
            return self._stable.predict(keypoints)

    def close(self) -> None:
        """See ``Predictor``."""
        if self._canary is not None:
            self._canary[1].close()
        self._stable.close()

    def _use(self, chosen: Predictor) -> None:
        self._chosen = chosen
        self.labels, self.shape, self.metadata = chosen.labels, chosen.shape, chosen.metadata

    def _leave(self, error: PosewatchError) -> None:
        self._rest_until = self._clock() + REST_S
        _LOG.warning("%s: the canary does not answer, the stable version does: %s", self._camera, error)

    def _read(self) -> tuple[float, str, str]:
        """Percent, version and endpoint of the canary; (0, "", "") without one."""
        try:
            route = json.loads(self._route.read_text(encoding="utf-8"))
            canary = route["canary"]
            return float(route["percent"]), str(canary["version"]), str(canary["endpoint"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0.0, "", ""
