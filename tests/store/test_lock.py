from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tidemark.errors import StoreError
from tidemark.store.lock import FREE_MIN_BYTES, LOCK_FILE, FolderLock

NOBODY = 65_534


def test_a_second_one_is_told_who_has_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    first = FolderLock(folder)
    with pytest.raises(StoreError, match=f"in use by process {os.getpid()}, .* stop that process"):
        FolderLock(folder)
    first.release()
    first.release()
    FolderLock(folder).release()


def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text("99999999\n")
    FolderLock(tmp_path).release()


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(StoreError, match="is a file; mend that or choose another"):
            FolderLock(folder)


def test_a_folder_that_takes_no_files() -> None:
    with pytest.raises(StoreError, match=r"cannot keep the store in /proc/self/fd: .+; mend that"):
        FolderLock(Path("/proc/self/fd"))


def test_a_read_only_folder() -> None:
    with tempfile.TemporaryDirectory() as folder, nobody_special(Path(folder)):
        Path(folder).chmod(0o500)
        with pytest.raises(StoreError, match="Permission denied"):
            FolderLock(Path(folder))
        Path(folder).chmod(0o700)
        FolderLock(Path(folder)).release()


@contextmanager
def nobody_special(folder: Path) -> Iterator[None]:
    """Root may write everywhere: be somebody else, whose folder it is."""
    if os.geteuid() != 0:
        yield
        return
    os.chown(folder, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=FREE_MIN_BYTES - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StoreError, match="only 63 MiB are free"):
        FolderLock(tmp_path)
    monkeypatch.undo()
    FolderLock(tmp_path).release()
