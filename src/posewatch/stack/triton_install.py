"""Installs the real Triton server, once, from the ``nvidia-pytriton`` wheel into a virtual environment of its own.

The server runs models through Python stubs that need numpy < 2, which must not bind the rest of posewatch. An install
is complete or absent: it is built under a temporary name and renamed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from posewatch.boundary import terminable
from posewatch.errors import StackError
from posewatch.files import cache
from posewatch.progress import say
from posewatch.stack.process import exclusive

TRITON_VERSION = "2.51.0"
PYTRITON = "nvidia-pytriton==0.7.0"
RUNTIME = ("numpy==1.26.4", "onnxruntime==1.32.0")
"""With numpy 2 the stubs return empty outputs and misread inputs, without an error."""
OPENVINO = "openvino==2026.4.1"
"""Optional: runs models on a CPU in bf16 and int8."""
_PIP = ("install", "--quiet", "--disable-pip-version-check", "--no-input")
_PYTHON = (3, 11)
_GLIBC = (2, 35)
_CHECK = """
import ctypes, numpy, onnxruntime
assert int(numpy.__version__.split(".")[0]) < 2, "numpy " + numpy.__version__
ctypes.CDLL("libpython3.11.so.1.0")
"""


@dataclass(frozen=True)
class TritonInstall:
    """The installed server: its virtual environment and the folder of backends."""

    venv: Path
    backends: Path

    @property
    def _site(self) -> Path:
        return self.venv / "lib" / f"python{_PYTHON[0]}.{_PYTHON[1]}" / "site-packages"

    @property
    def binary(self) -> Path:
        return self._site / "pytriton" / "tritonserver" / "bin" / "tritonserver"

    @property
    def parts(self) -> Path:
        """The folder of the server inside the wheel."""
        return self._site / "pytriton" / "tritonserver"

    def environment(self) -> dict[str, str]:
        """The server's environment: the stubs find their Python through PATH, its libraries through LD_LIBRARY_PATH."""
        python = (self.venv / "bin" / "python").resolve()
        libraries = [str(python.parent.parent / "lib"), str(self._site / "nvidia_pytriton.libs")]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON") and k != "VIRTUAL_ENV"}
        return {
            **inherited,
            "PATH": f"{self.venv / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            "POSEWATCH_OPENVINO": str(openvino_folder()),
        }


def ensure_triton() -> TritonInstall:
    """The installed server; installs it when it is missing (about 300 MB, one line on stderr).

    Raises StackError when this machine cannot run it or the download fails; then no files are left.
    """
    root = cache()
    key = hashlib.sha256(" ".join((PYTRITON, *RUNTIME)).encode()).hexdigest()[:8]
    package = resources.files("posewatch")
    ours = [package / "stack" / "backend" / "model.py", package / "inference" / "openvino_model.py"]
    sources = {file.name: file.read_bytes() for file in ours}
    name = f"triton-{TRITON_VERSION}-{key}"
    install = TritonInstall(
        root / name, root / f"{name}-backends-{hashlib.sha256(b''.join(sources.values())).hexdigest()[:8]}"
    )
    if not (install.binary.is_file() and install.backends.is_dir()):
        python = _compatible_python()
        _install("Triton", install.venv, install.binary, lambda part: _make_venv(python, part))
        _install(
            "Triton", install.backends, install.backends, lambda part: _make_backends(install.parts, sources, part)
        )
    return install


def openvino_folder() -> Path:
    """The folder where OpenVINO is, or would be, installed."""
    return cache() / OPENVINO.replace("==", "-")


def ensure_openvino() -> Path:
    """The folder with OpenVINO, for models that use this accelerator; installs it when it is missing.

    It is apart from the server's environment, which does not change. Raises StackError when the download fails.
    """
    folder, python = openvino_folder(), _compatible_python()

    def make(part: Path) -> None:
        say(f"posewatch: installing {OPENVINO} (once, about 160 MB)")
        _run(sys.executable, "-m", "pip", "--python", python, *_PIP, "--no-deps", "--target", str(part), OPENVINO)

    if not folder.is_dir():
        _install("OpenVINO", folder, folder, make)
    return folder


def _compatible_python() -> str:
    """The path of a Python 3.11. Raises StackError when there is none, or this machine cannot run the server."""
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise StackError(
            f"the embedded Triton runs on Linux x86_64, not {system} {machine}: use the Triton container"
            " and set POSEWATCH_TRITON_GRPC"
        )
    name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "another libc").partition(" ")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if name != "glibc" or numbers < _GLIBC:
        raise StackError(
            f"the embedded Triton needs glibc {_GLIBC[0]}.{_GLIBC[1]} or newer, this system has {name} {version}"
        )
    if sys.version_info[:2] == _PYTHON:
        return sys.executable
    python = shutil.which("python3.11")
    if not python:
        raise StackError(
            f"the embedded Triton needs Python 3.11, this is {platform.python_version()} and PATH has no python3.11"
        )
    return python


def _install(what: str, folder: Path, needed: Path, make: Callable[[Path], None]) -> None:
    """Let ``make`` fill ``folder``, as a whole, unless ``needed`` is there; one process at a time."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with terminable(), exclusive(folder.parent / "triton.lock"):
            for stale in folder.parent.glob(".triton-*.part"):  # left by an install that was killed: we hold the lock
                shutil.rmtree(stale, ignore_errors=True)
            if needed.exists():
                return
            part = Path(tempfile.mkdtemp(prefix=".triton-", suffix=".part", dir=folder.parent))
            part.chmod(0o755)
            try:
                make(part)
                shutil.rmtree(folder, ignore_errors=True)
                part.rename(folder)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise StackError(
            f"cannot install {what} into {folder}: {error.strerror or error}"
            " (set POSEWATCH_CACHE to a folder with room)"
        ) from None


def _run(*command: str, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")]
        raise StackError(
            f"cannot install Triton: {(errors or lines or ['no reason given'])[-1][:300]}"
            " (is the package registry reachable?)"
        )


def _make_venv(python: str, folder: Path) -> None:
    say(f"posewatch: installing Triton {TRITON_VERSION} from {PYTRITON} (once, about 300 MB)")
    _run(python, "-m", "venv", "--without-pip", "--clear", str(folder))
    target = str(folder / "bin" / "python")
    pip = (sys.executable, "-m", "pip", "--python", target, *_PIP)
    _run(*pip, *RUNTIME)
    _run(*pip, "--no-deps", PYTRITON)
    install = TritonInstall(folder, folder)
    _run(target, "-c", _CHECK, env=install.environment())


def _make_backends(parts: Path, sources: dict[str, bytes], folder: Path) -> None:
    """Copy the Python backend and its stub (the server refuses links), and add our backend ``onnxruntime``."""
    python, ours = folder / "python", folder / "onnxruntime"
    for backend in (python, ours):
        backend.mkdir()
    for name in ("libtriton_python.so", "triton_python_backend_utils.py"):
        shutil.copy(parts / "backends" / "python" / name, python / name)
    stub = "triton_python_backend_stub"
    shutil.copy(parts / "python_backend_stubs" / f"{_PYTHON[0]}.{_PYTHON[1]}" / stub, python / stub)
    (python / stub).chmod(0o755)
    for name, source in sources.items():
        (ours / name).write_bytes(source)
