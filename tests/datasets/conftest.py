from recognition.conftest import clips  # noqa: F401 (a fixture)
