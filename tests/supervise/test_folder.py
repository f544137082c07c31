"""Who has the data folder, and what is said to whoever comes second."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.supervise.conftest import environment, until_now
from tidemark.errors import TidemarkError
from tidemark.supervise.folder import DataFolder
from tidemark.telemetry import running


def test_the_second_is_told_who_has_it(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "new" / "data")
    with pytest.raises(TidemarkError, match=rf"runs on the data folder .* as process {os.getpid()}: stop it"):
        DataFolder(tmp_path / "new" / "data")
    folder.release()
    folder.release()
    DataFolder(tmp_path / "new" / "data").release()


HOLDER = """
import os, subprocess, sys
from pathlib import Path
from tidemark.supervise.folder import DataFolder
folder = DataFolder(Path(sys.argv[1]))
child = subprocess.Popen(["sleep", "1000"], stdout=subprocess.DEVNULL, pass_fds=[folder.lock])
print(os.getpid(), child.pid, flush=True)
"""


def test_what_a_dead_supervisor_started_keeps_the_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment()).stdout
    holder, child = map(int, said.split())
    try:
        with pytest.raises(TidemarkError, match=f"what process {holder} started .* is still stopping"):
            DataFolder(tmp_path)
    finally:
        os.kill(child, 9)

    def free() -> bool:
        try:
            DataFolder(tmp_path).release()
        except TidemarkError:
            return False
        return True

    until_now(free, "the end of the child")


def test_a_path_that_can_be_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "data"):
        with pytest.raises(
            TidemarkError, match=r"cannot use the data folder .* file; mend that or choose another --data"
        ):
            DataFolder(path)


def test_notes_of_those_who_write_none(folder: DataFolder) -> None:
    folder.note("nats", os.getpid())
    assert [(note["role"], note["pid"]) for note in running(folder.path)] == [("nats", os.getpid())]
    assert set(json.loads(folder.note_of("nats", os.getpid()).read_text())) == {"role", "pid", "since"}
    folder.forget("nats", os.getpid())
    folder.forget("nats", os.getpid())
    assert running(folder.path) == []


def test_notes_of_the_dead_are_removed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    with subprocess.Popen(["true"]) as dead:
        pass
    for name in (f"poll-{dead.pid}.json", f"poll-{os.getpid()}.json", f"poll-{10**30}.json", "other.txt"):
        (run / name).write_text("{}")
    DataFolder(tmp_path).release()
    assert {path.name for path in run.iterdir()} == {f"poll-{os.getpid()}.json", "other.txt"}
