"""PyTorch's own rules for tensors on a GPU, where there is none: every operation is checked, nothing is computed.

PyTorch traces programs for a GPU with "fake" tensors: they have shapes, types and a device, and an operation on tensors
of two devices is refused as on a card. Its CPU build lacks the entry of CUDA in the table of devices that indexing
asks; two lines of C++ add one that does nothing. A process that has it can no longer be asked whether there is a GPU:
use it in one of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = torch.device("cuda", 0)
COMPILER = shutil.which("g++") or shutil.which("clang++")
GUARD = """#include <c10/core/impl/DeviceGuardImplInterface.h>
namespace { C10_REGISTER_GUARD_IMPL(CUDA, c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA>); }
"""


def prepare(folder: Path) -> None:
    """Add CUDA to this process's table of devices."""
    assert COMPILER is not None
    (folder / "guard.cpp").write_text(GUARD)
    home = Path(torch.__file__).parent
    command = [COMPILER, "-std=c++20", "-shared", "-fPIC", f"-I{home / 'include'}", str(folder / "guard.cpp")]
    subprocess.run([*command, "-o", str(folder / "guard.so"), f"-L{home / 'lib'}", "-lc10"], check=True)
    ctypes.CDLL(str(folder / "guard.so"))


@contextlib.contextmanager
def computing() -> Iterator[None]:
    """Inside, tensors are fake; reading a value of one is refused: on a GPU it would wait for it."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def moved(module: nn.Module) -> Any:
    """The module with its parameters and buffers on the GPU; whatever else it holds stays where it is."""
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                part._parameters[name] = nn.Parameter(value.detach().to(GPU), value.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = buffer.to(GPU)
    return module


class OnCpu(TorchDispatchMode):
    """The operations that take or give a tensor of the CPU, in ``found``: none of them goes into a CUDA graph."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
        if any(x.device.type == "cpu" for x in tensors):
            self.found.append(str(function))
        return out
