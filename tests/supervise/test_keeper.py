"""A program is started again whenever it ends, and stopped when that is wanted."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.supervise.conftest import WAITS, Keep, Lines, alive, program, until
from tidemark.errors import TidemarkError
from tidemark.supervise.folder import DataFolder
from tidemark.supervise.keeper import HEALTHY_S, PAUSE_MAX_S, Pauses, State
from tidemark.telemetry import running


def test_pauses_double_up_to_a_bound_and_begin_anew_after_a_while_of_health() -> None:
    pauses = Pauses()
    assert [pauses.after(1.0) for _ in range(7)] == [0.5, 1, 2, 4, 8, PAUSE_MAX_S, PAUSE_MAX_S]
    assert pauses.after(HEALTHY_S) == 0.5
    assert pauses.after(HEALTHY_S - 1) == 1


async def test_it_is_started_again_after_a_kill(keep: Keep, folder: DataFolder) -> None:
    keeper = keep(program(WAITS))
    assert await keeper.start() == "http://127.0.0.1:1"
    for restarts in (1, 2):
        first = keeper.pid
        assert first
        assert [note["pid"] for note in running(folder.path)] == [first]
        os.kill(first, signal.SIGKILL)
        await until(lambda: keeper.restarts == restarts and keeper.state == State.RUNNING, "a new process")  # noqa: B023
        assert keeper.pid != first
    assert [note["pid"] for note in running(folder.path)] == [keeper.pid]


async def test_who_ends_by_itself_is_started_again_as_it_is_ordered_by_then(
    keep: Keep, screen: Lines
) -> None:
    keeper = keep(program("print('ready http://127.0.0.1:1'); print('the first')"))
    address = await keeper.start()
    keeper.order = program(WAITS.replace("127.0.0.1:1", "127.0.0.1:2"))
    await until(lambda: keeper.restarts and keeper.state == State.RUNNING, "a new process")
    assert address == keeper.address == "http://127.0.0.1:1"
    assert "the first" in screen.passed_on


async def test_restarts_that_fail_are_repeated(keep: Keep, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    keeper = keep(
        program(f"import os, sys; os.path.exists({str(broken)!r}) and sys.exit('tidemark: broken'); {WAITS}")
    )
    await keeper.start()
    broken.touch()
    assert keeper.pid
    os.kill(keeper.pid, signal.SIGTERM)
    await until(lambda: keeper.restarts >= 2, "two restarts")
    broken.unlink()
    await until(lambda: keeper.state == State.RUNNING, "a process that lasts")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (
            "import sys; sys.exit('tidemark: no such thing; choose another')",
            "^poll: no such thing; choose another$",
        ),
        ("raise ValueError('what?')", r"^poll: it ended \(1\) before it was ready"),
        ("pass", r"^poll: it ended \(0\) before it was ready"),
        ("import os; os.kill(os.getpid(), 9)", r"^poll: it ended \(SIGKILL\) before it was ready"),
    ],
)
async def test_the_first_start_has_to_succeed(keep: Keep, screen: Lines, code: str, reason: str) -> None:
    keeper = keep(program(code))
    with pytest.raises(TidemarkError, match=reason):
        await keeper.start()
    assert keeper.pid is None
    if "ValueError" in code:
        assert "ValueError: what?" in screen.passed_on


async def test_an_orderly_stop(keep: Keep, folder: DataFolder, tmp_path: Path) -> None:
    done = tmp_path / "done"
    code = f"""
import signal, sys
def stop(*_):
    open({str(done)!r}, "w").close()
    sys.exit()
signal.signal(signal.SIGTERM, stop)
print("ready http://127.0.0.1:1", flush=True)
while True:
    signal.pause()
"""
    keeper = keep(program(code))
    await keeper.start()
    pid = keeper.pid
    await keeper.stop(asyncio.Event())
    assert pid
    assert not alive(pid)
    assert done.exists()
    assert keeper.state == State.STOPPED
    assert running(folder.path) == []
    await keeper.kept()


async def test_who_does_not_stop_is_killed(keep: Keep) -> None:
    keeper = keep(program(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"))
    await keeper.start()
    pid, hurry = keeper.pid, asyncio.Event()
    stopping = asyncio.create_task(keeper.stop(hurry))
    await until(lambda: keeper.state == State.STOPPING, "the beginning of the stop")
    assert pid
    assert alive(pid)
    hurry.set()
    await stopping
    assert not alive(pid)


async def test_a_stop_before_it_is_ready(keep: Keep) -> None:
    keeper = keep(program("import time; time.sleep(1000)"))
    starting = asyncio.create_task(keeper.start())
    await until(lambda: keeper.pid, "a process")
    pid = keeper.pid
    await keeper.stop(asyncio.Event())
    await starting
    assert pid
    assert not alive(pid)


async def test_a_stop_while_it_waits_for_its_next_start(keep: Keep) -> None:
    keeper = keep(program("print('ready http://127.0.0.1:1')"))
    await keeper.start()
    await until(lambda: keeper.state == State.WAITING, "its end")
    await keeper.stop(asyncio.Event())
    assert keeper.state == State.STOPPED
    assert keeper.pid is None


async def test_a_stop_of_what_was_never_started(keep: Keep) -> None:
    await keep(program(WAITS)).stop(asyncio.Event())
