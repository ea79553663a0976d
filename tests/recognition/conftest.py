from __future__ import annotations

import pytest
from skeletons import clip_set


@pytest.fixture(scope="session")
def clips():
    return clip_set
