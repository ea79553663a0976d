"""Pickles from elsewhere, read without running what is in them: plain data and numpy arrays of numbers and text.

Arrays, scalars and dtypes are rebuilt by functions of this module that check every size against the bytes that are
really there. The unpickler is the standard library's Python one: the C one takes the size of its memo from the file,
and nine bytes make it fill tens of gigabytes.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from posewatch.errors import InputError

_DTYPE = re.compile(r"[<>|=]?[biufSU]\d{1,6}")


def read_pickle(path: Path | str) -> Any:
    """Plain data and numpy arrays from a pickle. Raises InputError for anything else, without running it."""
    try:
        return _Unpickler(io.BytesIO(Path(path).read_bytes()), encoding="latin1").load()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except _Forbidden as error:
        raise InputError(
            f"{path} is not a safe pickle: it wants to load {error} (only numpy arrays and plain data are allowed)"
        ) from None
    except Exception as error:
        if isinstance(error, EOFError) or "exhausted" in str(error):
            raise InputError(f"{path} is not a whole pickle: it is empty or cut short (copy it again)") from None
        spoken = isinstance(error, ValueError | pickle.UnpicklingError)
        why = " ".join(str(error).split())[:120] if spoken else f"it does not read like one ({type(error).__name__})"
        raise InputError(f"{path} is not a pickle of skeletons: {why}") from None


class _Forbidden(Exception):
    """The name of what a pickle must not load."""


class _Array(np.ndarray[Any, Any]):
    """An array whose pickled state is only taken when it fits."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        whole: Any = (1, _shape(shape, dtype, raw), dtype, bool(fortran), raw)
        super().__setstate__(whole)


def _shape(shape: Any, dtype: Any, raw: Any) -> tuple[int, ...]:
    """``shape`` if bytes ``raw`` fill an array of it, of plain ``dtype``."""
    if not isinstance(dtype, np.dtype) or dtype.kind not in "biufSU":
        raise ValueError("an array of something other than numbers or text")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError("an array with an impossible shape")
    if not isinstance(raw, bytes | bytearray) or len(raw) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"an array claims shape {shape}, and its bytes do not fill it")
    return shape


def _reconstruct(*_: Any) -> _Array:
    """An empty array, to be filled by its state."""
    return _Array((0,), np.int8)


def _dtype(text: Any, *_: Any) -> np.dtype[Any]:
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        raise ValueError(f"an array of dtype {str(text)[:20]!r}")
    # A copy: the byte order that follows is set in place.
    return np.dtype(text, copy=True)


def _scalar(dtype: Any, raw: Any) -> Any:
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    return np.frombuffer(raw, dtype).reshape(_shape((), dtype, raw))[()]


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> Any:
    return np.frombuffer(raw, dtype).reshape(_shape(shape, dtype, raw), order="F" if order == "F" else "C")


def _encode(text: Any, encoding: Any) -> bytes:
    """How pickles of protocol 2 and older write bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in an unknown encoding")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How they write none."""
    return b""


def _ndarray(*_: Any) -> Any:
    """Stands for the class where ``_reconstruct`` is told it; made by itself it could claim any size."""
    raise _Forbidden("numpy.ndarray")


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")  # numpy 1 and 2
        for module, name, function in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
}


class _Unpickler(pickle._Unpickler):
    """Knows no names but those above."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        found = _KNOWN.get((module, name))
        if found is None:
            raise _Forbidden(f"{module}.{name}"[:80])
        return found

    def load_build(self) -> None:
        """Give a state to arrays and dtypes only: functions and modules have states, too."""
        state, inst = self.stack[-1], self.stack[-2]  # type: ignore[attr-defined]
        if isinstance(inst, np.dtype):
            plain = isinstance(state, tuple) and len(state) == 8 and state[2:5] == (None, None, None)
            if not plain or state[1] not in ("<", ">", "|", "=") or state[5] not in (-1, inst.itemsize):
                raise ValueError("an array of something other than numbers or text")
        elif not isinstance(inst, _Array):
            raise ValueError(f"it changes a {type(inst).__name__}")
        super().load_build()  # type: ignore[misc]

    def load_bytearray8(self) -> None:
        """As in the standard library, but never larger than the file."""
        size = int.from_bytes(self.read(8), "little")  # type: ignore[attr-defined]
        self.append(bytearray(self.read(size)))  # type: ignore[attr-defined]

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
