"""How a role ends: by a signal, by itself, by an error of ours, by one that is not."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import structlog
import structlog.testing

from tidemark.process import FAILURE, OK, USAGE, spawn, wait, within_files

PATIENCE_S = 60
ROLE = """
import asyncio, sys
from pathlib import Path
from tidemark import errors
from tidemark.config import load
from tidemark.process import run

async def main(stop):
{body}

sys.exit(run(load(data=Path(sys.argv[1])), "poll", main))
"""


def started(data: Path, body: str) -> subprocess.Popen[str]:
    """A process that runs this body as a role."""
    program = ROLE.format(body=textwrap.indent(textwrap.dedent(body), "    "))
    return subprocess.Popen(
        [sys.executable, "-c", program, str(data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_role_in_order(number: signal.Signals, tmp_path: Path) -> None:
    body = """
        print("running", len(list(Path(sys.argv[1]).glob("run/poll-*.json"))), flush=True)
        await stop.wait()
        print("tidied up", flush=True)
    """
    with started(tmp_path, body) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running 1\n"
        process.send_signal(number)
        said, complaints = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, said, complaints) == (OK, "tidied up\n", "")
    assert list(tmp_path.glob("run/*")) == []


@pytest.mark.parametrize(
    "body",
    [
        'raise errors.StoreError("the disk is full; free some")',
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
            async def fail():
                raise errors.StoreError("the disk is full; free some")
            group.create_task(fail())
        """,
    ],
)
def test_an_error_of_ours_is_one_line(body: str, tmp_path: Path) -> None:
    with started(tmp_path, body) as process:
        said, complaints = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == FAILURE
    assert (said, complaints) == ("", "tidemark: the disk is full; free some\n")


def test_a_wrong_setting_that_only_the_role_notices_has_the_status_of_a_wrong_flag(tmp_path: Path) -> None:
    with started(tmp_path, 'raise errors.CallerError("give another")') as process:
        _, complaints = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, complaints) == (USAGE, "tidemark: give another\n")


def test_a_data_folder_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with started(tmp_path / "file", "pass") as process:
        _, complaints = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == FAILURE
    assert complaints.startswith("tidemark: ")
    assert complaints.count("\n") == 1


def test_an_error_of_ours_does_not_hide_another(tmp_path: Path) -> None:
    body = 'raise BaseExceptionGroup("", [errors.StoreError("the disk is full"), ValueError("a bug")])'
    with started(tmp_path, body) as process:
        _, complaints = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == FAILURE
    assert "ValueError: a bug" in complaints


def test_any_other_error_shows_where_it_came_from(tmp_path: Path) -> None:
    with started(tmp_path, "assert 1 == 2") as process:
        _, complaints = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == FAILURE
    assert complaints.rstrip().endswith("AssertionError")


async def test_wait_ends_when_it_is_to_stop() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().call_soon(stop.set)
    assert await wait(stop, PATIENCE_S)
    assert await wait(stop, 0)


@pytest.mark.parametrize("seconds", [0.01, 0, -1])
async def test_wait_ends_when_the_time_is_up(seconds: float) -> None:
    assert not await wait(asyncio.Event(), seconds)


async def test_a_spawned_task_that_fails_is_logged_and_forgotten() -> None:
    tasks: set[asyncio.Task[None]] = set()

    async def fail() -> None:
        raise ValueError("no")

    with structlog.testing.capture_logs() as logged:
        spawn(tasks, fail(), "a tick")
        (task,) = tasks
        await task
    await asyncio.sleep(0)
    assert not tasks
    assert [(line["log_level"], line["event"], line["error"]) for line in logged] == [
        ("error", "a tick failed", "no")
    ]


async def test_a_spawned_task_can_be_cancelled() -> None:
    tasks: set[asyncio.Task[None]] = set()
    spawn(tasks, asyncio.Event().wait(), "a tick")  # type: ignore[arg-type]
    (task,) = tasks
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert not tasks


def test_there_are_no_more_connections_than_open_files_allow() -> None:
    with structlog.testing.capture_logs() as said:
        assert within_files(500, 2_500, "--live-max", 2_000) == 500
        assert not said
        assert within_files(500, 2_400, "--live-max", 2_000) == 400
        assert within_files(500, 1_999, "--live-max", 2_000) == 0
    assert ["--live-max" in event["event"] and event["needed"] == 2_500 for event in said] == [True, True]


def test_ctrl_c_while_the_command_is_loaded_ends_it_without_a_word() -> None:
    program = """
        import os, signal, sys
        from tidemark.__main__ import entry

        class Interrupting:
            def find_spec(self, name, path, target=None):
                if name == "tidemark.cli":
                    os.kill(os.getpid(), signal.SIGINT)

        sys.meta_path.insert(0, Interrupting())
        entry()
    """
    done = _run(program)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_ctrl_c_afterwards_is_pythons_own() -> None:
    program = """
        import signal, sys
        from tidemark.__main__ import entry

        sys.argv[1:] = ["--version"]
        try:
            entry()
        finally:
            print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
    """
    done = _run(program)
    assert (done.returncode, done.stdout.split()[-1], done.stderr) == (OK, "True", "")


def _run(program: str) -> subprocess.CompletedProcess[str]:
    """As from a terminal: a shell has what it starts in the background ignore Ctrl-C, and the tests with it."""
    terminal = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    return subprocess.run(
        [sys.executable, "-c", terminal + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
