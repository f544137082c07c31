"""A process is started, heard, and does not outlive its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from tests.supervise.conftest import PATIENCE_S, alive, environment, until_now
from tidemark.supervise import child as children
from tidemark.supervise.child import LINE_MAX_BYTES, Child, Said
from tidemark.supervise.folder import DataFolder
from tidemark.supervise.orders import plain_environment, role_said


async def start(folder: DataFolder, code: str, heard: list[Said] | None = None) -> Child:
    hear = (heard if heard is not None else []).append
    return await children.start(
        (sys.executable, "-c", code), plain_environment(), role_said, hear, folder.lock
    )


async def test_what_it_says_and_how_it_ends(folder: DataFolder) -> None:
    heard: list[Said] = []
    code = (
        "import sys; print('ready http://h:1', flush=True); sys.stderr.write('one\\n\\ntwo\\n');"
        "sys.exit('tidemark: enough; stop')"
    )
    child = await start(folder, code, heard)
    assert await child.exited == 1
    assert child.address == "http://h:1"
    assert child.complaint == "enough; stop"
    assert [said.text for said in heard] == ["one", "two"]
    child.signal(signal.SIGTERM)  # to nobody


async def test_lines_without_end_are_passed_on_in_pieces(folder: DataFolder) -> None:
    heard: list[Said] = []
    child = await start(folder, f"import sys; sys.stderr.write('x' * {5 * LINE_MAX_BYTES})", heard)
    assert await child.exited == 0
    assert sum(len(said.text) for said in heard) == 5 * LINE_MAX_BYTES
    assert len(heard) > 1


async def test_a_grandchild_that_keeps_the_pipe_holds_up_nothing(folder: DataFolder) -> None:
    code = "import subprocess; print('tidemark:', subprocess.Popen(['sleep', '1000']).pid, flush=True)"
    child = await start(folder, code)
    assert await asyncio.wait_for(child.exited, PATIENCE_S) == 0
    assert child.complaint is not None
    os.kill(int(child.complaint), signal.SIGKILL)


async def test_a_ctrl_c_in_the_terminal_does_not_reach_it(folder: DataFolder) -> None:
    child = await start(folder, "import os; print(f'tidemark: {os.getsid(0)} {os.getpid()}')")
    await child.exited
    assert child.complaint == f"{child.pid} {child.pid}"


async def test_a_program_that_cannot_be_run_says_so(folder: DataFolder) -> None:
    child = await children.start(("/nowhere/at-all",), plain_environment(), role_said, print, folder.lock)
    assert await child.exited == 1
    assert child.complaint == "cannot run /nowhere/at-all: No such file or directory; install Tidemark anew"


PARENT = """
import asyncio, os, sys
from tidemark.supervise import child
from tidemark.supervise.orders import plain_environment, role_said

CHILD = '''
import os, signal, sys
def stop(*_):
    sys.stderr.write("x" * 10_000)
    sys.stderr.flush()
    open(sys.argv[1], "w").close()
    sys.exit()
signal.signal(signal.SIGTERM, stop)
print("ready http://h:1", flush=True)
while True:
    signal.pause()
'''

async def main():
    lock = os.open("/dev/null", os.O_RDONLY)
    started = await child.start([sys.executable, "-c", CHILD, sys.argv[1]], plain_environment(), role_said, print, lock)
    while started.address is None:
        await asyncio.sleep(0.01)
    print(started.pid, flush=True)
    await started.exited

asyncio.run(main())
"""


def test_a_child_of_a_killed_parent_is_stopped_in_order(tmp_path: pytest.TempPathFactory) -> None:
    done = f"{tmp_path}/done"
    command = [sys.executable, "-c", PARENT, done]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    until_now(lambda: not alive(pid), "the end of the child")
    # It could say on its way out what it had to, although nobody listened.
    assert os.path.exists(done)
