"""Who may use the data folder? One `tidemark up` at a time, and what it started.

The lock is the kernel's (flock), and every child inherits it: when the supervisor is killed, the folder is
free once the last of its children has ended. Two NATS servers on the same files would spoil them.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from tidemark.errors import TidemarkError
from tidemark.telemetry import RUN_FOLDER, alive

LOCK_FILE: Final = "lock"


class DataFolder:
    """The exclusive right to a data folder, held from the constructor to `release` and by the children.

    Makes the folder when it is missing. Raises TidemarkError when it cannot be made or written to, or when
    another `tidemark up` has it.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path.resolve()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._runs = self.path / RUN_FOLDER
            self._runs.mkdir(exist_ok=True)
            self.lock = os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise self.unusable(error) from error
        try:
            self._take()
        except BaseException:
            os.close(self.lock)
            raise
        self._forget_the_dead()

    def _take(self) -> None:
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self.lock, 0)
            os.pwrite(self.lock, b"%d\n" % os.getpid(), 0)
        except BlockingIOError as error:
            raise TidemarkError(self._in_use()) from error
        except OSError as error:
            raise self.unusable(error) from error

    def _in_use(self) -> str:
        holder = os.pread(self.lock, 32, 0).decode(errors="replace").strip()
        if holder.isdigit() and not alive(int(holder)):
            return (
                f"what process {holder} started on the data folder {self.path} is still stopping:"
                " try again in a moment"
            )
        return (
            f"`tidemark up` runs on the data folder {self.path} already, as process {holder or 'unknown'}:"
            " stop it or choose another --data"
        )

    def unusable(self, error: OSError) -> TidemarkError:
        """The error that says why this folder, or what is in it, cannot be written to."""
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            why = f"{error.filename or 'it'} is, or lies in, a file"
        elif error.errno == errno.ENOSPC:
            why = "the disk is full"
        else:
            why = f"{error.strerror or error}{f' ({error.filename})' if error.filename else ''}"
        return TidemarkError(
            f"cannot use the data folder {self.path}: {why}; mend that or choose another --data"
        )

    def note_of(self, role: str, pid: int) -> Path:
        """Where a running process leaves its note for `tidemark status`."""
        return self._runs / f"{role}-{pid}.json"

    def note(self, role: str, pid: int) -> None:
        """Leave a note for a program that knows nothing of notes."""
        with suppress(OSError):  # only `status` misses it
            note = {"role": role, "pid": pid, "since": int(time.time())}
            self.note_of(role, pid).write_text(json.dumps(note))

    def forget(self, role: str, pid: int) -> None:
        """Remove the note of a process that ended, however it did."""
        with suppress(OSError):
            self.note_of(role, pid).unlink()

    def _forget_the_dead(self) -> None:
        """Remove the notes of those who could not, because they were killed or the machine went down."""
        for note in self._runs.glob("*-*.json"):
            pid = note.stem.rpartition("-")[2]
            if pid.isdigit() and not alive(int(pid)):
                with suppress(OSError):
                    note.unlink()

    def release(self) -> None:
        """Give the folder back. May be called again."""
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1
