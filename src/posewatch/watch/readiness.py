"""Whether a watcher is ready: before the first model it stands by, and is; from then on only while it watches.

Before the first model nothing is wrong with a watcher, and an upgrade of everything else must not wait for it. So it
says "standby" and starts no camera, until a model answers at its address; a file beside the cameras' folders remembers
that one did. After that, a model that is silent makes the watcher unready until it answers again.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path

from posewatch.addresses import without_secrets
from posewatch.errors import PosewatchError

EVERY_S = 5.0
"""Between two questions to the model."""
SILENT_S = 30.0
"""After so long without an answer the model counts as silent: a server that is replaced takes no watcher away."""
WATCHED_S = 60.0
"""A camera whose last picture was watched so long ago is not watched."""
_MET = ".model-answered"


class Model:
    """Asks the model at ``address`` (as of ``open_predictor``) whether it answers; ``out`` outlives the process.

    ``answered`` is True from the first answer to this process on.
    """

    def __init__(self, address: str, out: Path) -> None:
        self.address, self._met = address, out / _MET
        self.answered = False
        self._last = 0.0

    @property
    def shown(self) -> str:
        """The address for people."""
        return without_secrets(self.address)

    @property
    def standby(self) -> bool:
        """Whether no model has ever answered here: the cameras wait for it."""
        return not self.answered and not self._met.exists()

    @property
    def silent(self) -> bool:
        """Whether the model has not answered for a while."""
        return not self.answered or time.monotonic() - self._last > SILENT_S

    def follow(self, stop: threading.Event) -> None:
        """Ask until ``stop`` is set."""
        while not stop.is_set():
            self.ask()
            stop.wait(EVERY_S)

    def ask(self) -> None:
        """Ask once. A model in a file always answers: a file that is none ends the camera's process with its error."""
        if "://" in self.address and not self._ready():
            return
        self._last, self.answered = time.monotonic(), True
        if not self._met.exists():
            self._met.parent.mkdir(parents=True, exist_ok=True)
            self._met.touch()

    def _ready(self) -> bool:
        from posewatch.inference.open import parse_endpoint
        from posewatch.inference.triton_client import connect

        try:
            protocol, url, name = parse_endpoint(self.address)
            with closing(connect(url, protocol, timeout_s=5.0, retries=0)) as connection:
                return bool(connection.ready(name))
        except PosewatchError:
            return False
