"""An output destroys no input, and no file that posewatch did not write."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from posewatch import outputs
from posewatch.errors import InputError
from posewatch.files import atomic, write_atomically


def refused(output: Path, *inputs: Path, force: bool = False) -> str:
    with pytest.raises(InputError) as caught:
        outputs.check([output], inputs, force=force)
    return str(caught.value)


@pytest.fixture
def hall(tmp_path: Path) -> Path:
    path = tmp_path / "hall.mp4"
    path.write_bytes(b"a recording")
    return path


def test_what_posewatch_wrote_is_replaced_until_somebody_edits_it(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    outputs.check([path])
    write_atomically(path, "{}")
    outputs.check([path])
    path.write_text("mine")
    assert "--force" in refused(path)
    outputs.check([path], force=True)


def test_a_file_of_somebody_else_is_replaced_with_force_only(hall: Path) -> None:
    assert "--force" in refused(hall)
    outputs.check([hall], force=True)
    assert "folder that is an input" in refused(hall, hall.parent, force=True)


@pytest.mark.parametrize("spelling", ["same", "dots", "symlink", "hardlink", "linked folder", "link to the output"])
def test_an_input_is_never_replaced_under_any_spelling(spelling: str, hall: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    output, source = hall, hall
    match spelling:
        case "dots":
            output = tmp_path / "sub" / ".." / "hall.mp4"
        case "symlink":
            source = tmp_path / "link.mp4"
            source.symlink_to(hall)
        case "hardlink":
            source = tmp_path / "other.mp4"
            os.link(hall, source)
        case "linked folder":
            (tmp_path / "again").symlink_to(tmp_path)
            output = tmp_path / "again" / "hall.mp4"
        case "link to the output":
            output = tmp_path / "out.mp4"
            output.symlink_to(hall)
    assert "is an input" in refused(output, source, force=True)
    outputs.mark(hall)  # also when posewatch has rendered it
    assert "is an input" in refused(output, source)


def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "own.txt").touch()
    for path in (tmp_path / "pipe", tmp_path / "gone", Path("/dev/null"), Path("/dev/stdout")):
        assert "no file that can be replaced" in refused(path, force=True)
    with pytest.raises(NotADirectoryError):
        outputs.check([tmp_path / "file" / "sub" / "x.json"])
    assert "--force" in refused(tmp_path / "folder"), "a folder with files of somebody else"


def test_two_results_never_have_one_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two results would both be"):
        outputs.check([tmp_path / "a.mp4", tmp_path / "a.mp4"])
    outputs.check([tmp_path / "a.mp4", tmp_path / "A.mp4"])  # two names on this disk


def test_a_result_is_known_as_one(tmp_path: Path) -> None:
    with atomic(tmp_path / "a.mp4") as partial:
        partial.touch()
    assert not outputs.is_result(tmp_path / "a.mp4")
    outputs.mark(tmp_path / "a.mp4", outputs.RESULT)
    assert outputs.is_result(tmp_path / "a.mp4")
    (tmp_path / "a.mp4").write_bytes(b"a new recording")
    assert not outputs.is_result(tmp_path / "a.mp4")


def test_a_disk_without_attributes_is_marked_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> bytes:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", unsupported)
    monkeypatch.setattr(os, "getxattr", unsupported)
    monkeypatch.setenv("POSEWATCH_CACHE", str(tmp_path / "cache"))
    test_what_posewatch_wrote_is_replaced_until_somebody_edits_it(tmp_path)
