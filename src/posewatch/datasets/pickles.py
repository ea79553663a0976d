"""Reads untrusted pickles of plain data and numpy arrays of numbers and text, without running code from them.

Arrays, scalars and dtypes are rebuilt by functions of this module that check every size against the bytes of the file.
The unpickler is the standard library's Python one: the C one takes the size of its memo from the file, and nine bytes
make it allocate tens of gigabytes.
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
        return _Unpickler(_File(Path(path).read_bytes()), encoding="latin1").load()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except _Forbidden as error:
        raise InputError(
            f"{path} is not a safe pickle: it loads {error} (only numpy arrays and plain data are allowed)"
        ) from None
    except EOFError:
        raise InputError(f"{path} is not a whole pickle: it is empty or truncated (copy it again)") from None
    except (ValueError, pickle.UnpicklingError) as error:
        raise InputError(f"{path} is not a pickle of skeletons: {' '.join(str(error).split())[:120]}") from None
    except Exception as error:  # a corrupt opcode can raise nearly anything
        raise InputError(f"{path} is not a pickle of skeletons: it is corrupt ({type(error).__name__})") from None


class _Forbidden(Exception):
    """The name of what a pickle must not load."""


class _File(io.BytesIO):
    """A file whose ``read`` raises EOFError where it ends too early."""

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if size is not None and len(data) < size:
            raise EOFError
        return data


class _Array(np.ndarray[Any, Any]):
    """An array that accepts a pickled state only if its sizes fit."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        whole: Any = (1, _shape(shape, dtype, raw), dtype, bool(fortran), raw)
        super().__setstate__(whole)


def _shape(shape: Any, dtype: Any, raw: Any) -> tuple[int, ...]:
    """``shape``, if ``raw`` has the bytes of such an array and ``dtype`` is of numbers or text; else ValueError."""
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
    """``_codecs.encode``, by which pickles of protocol 2 and older write bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in an unknown encoding")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """``bytes()``, by which they write empty ones."""
    return b""


def _ndarray(*_: Any) -> Any:
    """``numpy.ndarray`` as the argument of ``_reconstruct``; called by itself it could allocate any size."""
    raise _Forbidden("numpy.ndarray")


def _list(*_: Any) -> Any:
    """``list`` as the argument of ``defaultdict``; nothing calls it."""
    raise _Forbidden("list")


def _mapping(*_: Any) -> dict[Any, Any]:
    """``OrderedDict()`` and ``defaultdict(list)``, whose items follow; older ones come as a list of pairs."""
    pairs = _[0] if _ and isinstance(_[0], list) else []
    return {key: value for key, value in pairs}


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): _mapping,
    ("collections", "defaultdict"): _mapping,
    **{(builtins, "list"): _list for builtins in ("builtins", "__builtin__")},
    **{(builtins, "set"): set for builtins in ("builtins", "__builtin__")},
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
    """Finds no names but those in ``_KNOWN``."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        found = _KNOWN.get((module, name))
        if found is None:
            raise _Forbidden(f"{module}.{name}"[:80])
        return found

    def load_build(self) -> None:
        """Set the state of arrays and dtypes only; the standard one sets that of functions and modules, too."""
        state, inst = self.stack[-1], self.stack[-2]  # type: ignore[attr-defined]
        if isinstance(inst, np.dtype):
            plain = isinstance(state, tuple) and len(state) == 8 and state[2:5] == (None, None, None)
            if not plain or state[1] not in ("<", ">", "|", "=") or state[5] not in (-1, inst.itemsize):
                raise ValueError("an array of something other than numbers or text")
        elif not isinstance(inst, _Array):
            raise ValueError(f"it changes a {type(inst).__name__}")
        super().load_build()  # type: ignore[misc]

    def load_bytearray8(self) -> None:
        """As in the standard library, but without allocating more than the file holds."""
        size = int.from_bytes(self.read(8), "little")  # type: ignore[attr-defined]
        self.append(bytearray(self.read(size)))  # type: ignore[attr-defined]

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
