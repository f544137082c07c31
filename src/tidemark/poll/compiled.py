"""How is the way of the ordinary answer compiled? By Numba (docs/adr/0015), and kept on the disk for the next start."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numba

from tidemark import messages
from tidemark.poll.tables import Bytes

Function = TypeVar("Function", bound=Callable[..., Any])

_HERE: Final = Path(__file__).parent


def _place() -> Path | None:
    """A folder of its own for each state of the sources: Numba itself looks at the file of a function only, not at
    those of what it uses. It is beside them or, where that cannot be written, in the user's cache; None: nowhere. (Not
    where others may write, too: what lies there is run.)"""
    sources = [*sorted(_HERE.glob("*.py")), Path(messages.__file__)]
    state = zlib.crc32(b"".join(source.read_bytes() for source in sources))
    caches = [_HERE / "__pycache__"]
    with suppress(RuntimeError):  # a user without a home
        caches.append(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidemark")
    return next((cache / f"numba-{state:08x}" for cache in caches if _writable(cache)), None)


def _writable(folder: Path) -> bool:
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return os.access(folder, os.W_OK)


_PLACE: Final = _place()
if _PLACE is not None:
    numba.config.CACHE_DIR = str(_PLACE)  # type: ignore[attr-defined]


def compiled(function: Function) -> Function:
    """Compile at the first call, or take what was compiled before, where that could be kept.

    Every index is checked, so that no answer can make it read or write past a table. The interpreter's lock is free.
    """
    # Without Numba's counting of references (`_nrt`): nothing here makes an array, and to count those that a call is
    # given takes a microsecond an answer.
    options: dict[str, Any] = {"cache": _PLACE is not None, "nogil": True, "boundscheck": True, "_nrt": False}
    return cast(Function, numba.njit(**options)(function))


@compiled
def copy(target: Bytes, at: int, source: Bytes, begin: int, length: int) -> int:
    """Copy source[begin : begin + length] to target[at:]; returns where it ends there."""
    # Not as a slice, for which Numba may take memory for a copy of its own.
    for place in range(length):
        target[at + place] = source[begin + place]
    return at + length
