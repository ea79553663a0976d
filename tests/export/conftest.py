from collections.abc import Iterator

import pytest
from recognition.conftest import clips  # noqa: F401 (a fixture)
from serving.conftest import server, tiny  # noqa: F401 (fixtures)

from posewatch.recognition.models.protogcn import network


@pytest.fixture(scope="module", autouse=True)
def _shallow() -> Iterator[None]:
    """ProtoGCN with four of its ten blocks, one of each kind: its export takes a third of the time. The whole network
    is exported on the whole way (``tests/pipeline/test_end_to_end.py``), and each export is verified there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "STAGES", (1, 1, 2, 4))
        yield
