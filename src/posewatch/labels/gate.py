"""The gate between preparation and training: waits until enough clips of every class are labelled."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from posewatch.config import LabelConfig
from posewatch.errors import LabelError

if TYPE_CHECKING:
    from posewatch.labels.store import LabelStore
    from posewatch.progress import Progress


def wait_for_labels(
    store: LabelStore,
    config: LabelConfig,
    progress: Progress | None = None,
    clip_ids: Collection[str] | None = None,
    poll_s: float = 2.0,
) -> dict[str, int]:
    """Labelled clips per class (of ``clip_ids``, or of all) as soon as every class has ``config.min_per_class``.

    Polls the store every ``poll_s`` seconds for ``config.timeout_s`` seconds, at least once. A model's pre-label does
    not count. ``progress`` advances with the needed labels and gets a message whenever a count changes. Raises
    LabelError, naming the classes, on timeout.
    """
    deadline = time.monotonic() + config.timeout_s
    before: dict[str, int] | None = None
    while True:
        began = time.monotonic()
        labels = store.counts(clip_ids, exclude_sources=("model",))
        took = time.monotonic() - began
        counts = {name: labels.get(name, 0) for name in config.classes}
        if progress is not None:
            if counts != before:
                progress.say("labelled: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
                gone = {name: count for name, count in labels.items() if name not in config.classes}
                if gone:
                    told = ", ".join(f"{name} {count}" for name, count in gone.items())
                    progress.say(f"labelled, but no class of this experiment: {told}")
            have = sum(min(count, config.min_per_class) for count in counts.values())
            # an undone label does not move the bar back
            progress.advance(max(0, have - progress.done), before=before is None)
        before = counts
        short = {name: count for name, count in counts.items() if count < config.min_per_class}
        if not short:
            return counts
        left = deadline - time.monotonic()
        if left <= 0:
            raise LabelError(_message(short, config))
        # millions of clips take seconds to count: counting takes at most a tenth of the time
        time.sleep(min(max(poll_s, 9 * took), left))


def _message(short: dict[str, int], config: LabelConfig) -> str:
    needed = config.min_per_class
    parts = ", and ".join(
        f"class {name!r} has {count or 'no'} labelled clip{'' if count == 1 else 's'}" for name, count in short.items()
    )
    waited = f" after {config.timeout_s:g} s" if config.timeout_s > 0 else ""
    return (
        f"{parts}{waited}, {needed} {'is' if needed == 1 else 'are'} needed: label more with `posewatch label`, "
        "or lower labels.min_per_class"
    )
