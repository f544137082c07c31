"""Is another process using this folder?

chDB allows one process for each folder, and tells a second one nothing useful. So the folder is locked
before chDB is asked, and whoever comes second is told who has it. The lock is the kernel's (flock): it
goes with the process, however that ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from pathlib import Path
from typing import Final

from tidemark.errors import StoreError, StoreInUseError

LOCK_FILE: Final = "tidemark.lock"
FREE_MIN_BYTES: Final = 64 * 2**20
"""With less free space than this a store is not opened: a merge could not even begin."""


def require_store(folder: Path) -> None:
    """Raise StoreError where nobody ever kept a store: to make one there would hide a folder that was mistyped."""
    if not (folder / LOCK_FILE).exists():
        raise StoreError(f"there is no store in {folder}: name its --data or --store")


class FolderLock:
    """The exclusive right to a store's folder, held from the constructor to `release`.

    Makes the folder when it is missing. Raises StoreError when it cannot be made or written to, when the
    disk is full, or when another process (or another store of this one) has it.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(_cannot_use(folder, error)) from error
        try:
            self._take(folder)
        except BaseException:
            os.close(self._descriptor)
            raise

    def _take(self, folder: Path) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise StoreError(_cannot_use(folder, error)) from error
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise StoreInUseError(
                f"the store in {folder} is in use by process {holder}, and one process at a time may open it:"
                " stop that process or choose another --data or --store"
            ) from error
        free_bytes = shutil.disk_usage(folder).free
        if free_bytes < FREE_MIN_BYTES:
            raise StoreError(
                f"only {free_bytes // 2**20} MiB are free for the store in {folder}:"
                " free some space or choose another --data or --store"
            )
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)
        except OSError as error:
            raise StoreError(_cannot_use(folder, error)) from error

    def release(self) -> None:
        """Give the folder back. May be called again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _cannot_use(folder: Path, error: OSError) -> str:
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        why = "it, or a folder above it, is a file"
    elif error.errno == errno.ENOSPC:
        why = "the disk is full"
    else:
        why = os.strerror(error.errno or 0)
    return f"cannot keep the store in {folder}: {why}; mend that or choose another --data or --store"
