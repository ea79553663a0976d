from recognition.conftest import clips  # noqa: F401 (a fixture)
from serving.conftest import server, tiny  # noqa: F401 (fixtures)
