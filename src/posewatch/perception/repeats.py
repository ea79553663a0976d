"""Pictures that repeat the one before, as of a camera slower than the frames that are wanted: networks look once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TypeVar

import numpy as np

from posewatch.perception.ports import Image

R = TypeVar("R")


def same(a: Image, b: Image) -> bool:
    """Whether two images (H, W, 3) are equal."""
    return a is b or (a.shape == b.shape and bool((a[0] == b[0]).all()) and np.array_equal(a, b))


def each_once(look: Callable[[Sequence[Image]], list[R]], images: Sequence[Image]) -> list[R]:
    """``look`` at those images (H, W, 3) that differ from the one before; the others get its result."""
    new = [i == 0 or not same(image, images[i - 1]) for i, image in enumerate(images)]
    found = look([image for image, differs in zip(images, new, strict=True) if differs])
    return [found[number - 1] for number in accumulate(new)]
