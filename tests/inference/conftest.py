from serving.conftest import clips, server, tiny  # noqa: F401 (fixtures)
