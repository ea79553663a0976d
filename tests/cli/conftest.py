from labels.conftest import make_clips, sqlite_store  # noqa: F401 (fixtures)
