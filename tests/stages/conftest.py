from labels.conftest import make_clips, postgres, sqlite_store, store, url  # noqa: F401 (fixtures)
