from labels.conftest import make_clips, postgres, store, url  # noqa: F401 (fixtures)
