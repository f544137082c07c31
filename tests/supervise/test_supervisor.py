"""`tidemark up` as it is run: what it starts, in which order it stops, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.supervise.conftest import PATIENCE_S, alive, children_of, environment, until_now
from tidemark.store.lock import FolderLock

pytestmark = pytest.mark.timeout(600)
"""For what takes a minute on an idle machine."""

NOWHERE = ("--api", "http://127.0.0.1:9")
"""An API that is down: nothing is observed."""


class Up:
    """A `tidemark up` with a hundred influencers, its lines as JSON."""

    def __init__(self, data: Path, *flags: str) -> None:
        command = [sys.executable, "-m", "tidemark", "up", "--data", str(data), "--log-format", "json"]
        self._log = data.parent / "log"
        with self._log.open("w") as stderr:
            self.process = subprocess.Popen(
                [*command, "--influencers", "1000000-1000099", "--interval", "1", "--port", "0", *flags],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment(),
            )

    def ready(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready http://127.0.0.1:"), self.said()
        return line.removeprefix("ready ").strip()

    def said(self) -> str:
        return self._log.read_text()

    def events(self) -> list[dict[str, Any]]:
        """Each line but those without JSON, which come before the log is set up or after it."""
        whole = self.said().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def happened(self, event: str) -> list[str]:
        """Which children it happened to, in order."""
        return [found["child"] for found in self.events() if found["event"] == event and "child" in found]

    def until(self, reached: Callable[[], object], what: str) -> None:
        until_now(lambda: reached() or self.process.poll() is not None, what)
        assert reached(), self.said()

    def ended(self) -> int:
        return self.process.wait(PATIENCE_S)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.ended()


def status(data: Path) -> Any:
    """What `tidemark status --json` says."""
    command = [sys.executable, "-m", "tidemark", "status", "--data", str(data), "--json"]
    said = subprocess.run(
        command, stdout=subprocess.PIPE, env=environment(), timeout=PATIENCE_S, check=True
    ).stdout
    return json.loads(said)


Start = Callable[..., Up]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Up] = []

    def begin(*flags: str, data: str = "data") -> Up:
        started.append(Up(tmp_path / data, *flags))
        return started[-1]

    yield begin
    for up in started:
        if up.process.poll() is None:
            up.process.terminate()
            up.process.wait(PATIENCE_S)
        assert up.process.stdout is not None
        up.process.stdout.close()


def test_everything_is_started_and_stopped_in_order(start: Start, tmp_path: Path) -> None:
    up = start("--pollers", "2")
    up.ready()
    up.until(lambda: len(up.happened("ready")) == 7, "all of it")
    began = up.happened("ready")
    assert set(began[:2]) == {"nats", "stand-in"}
    assert began[2] == "serve"
    assert set(began[3:]) == {"poll 1", "poll 2", "classify", "schedule"}

    children = children_of(up.process.pid)
    assert len(children) == 7
    for child in children:
        assert os.getsid(child.pid) == child.pid
        assert "nats://" not in " ".join(child.cmdline())
    told = status(tmp_path / "data")
    roles = sorted(process["role"] for process in told["processes"])
    assert roles == ["classify", "nats", "poll", "poll", "schedule", "serve", "simulate", "up"]
    assert {process["pid"] for process in told["processes"]} == {
        up.process.pid,
        *(child.pid for child in children),
    }
    up.until(lambda: status(tmp_path / "data")["coverage"] is not None, "the HTTP API to be found")
    up.process.send_signal(signal.SIGINT)
    assert up.ended() == 0, up.said()
    order = up.happened("stopped")
    assert order[0] == "schedule"
    assert order[1] == "classify"
    assert set(order[2:4]) == {"poll 1", "poll 2"}
    assert order[4:] == ["serve", "nats", "stand-in"]
    assert not any(alive(child.pid) for child in children)
    assert list((tmp_path / "data" / "run").iterdir()) == []
    assert not any(event["event"].startswith("did not stop") for event in up.events())


def test_serve_comes_back_where_it_was(start: Start) -> None:
    up = start(*NOWHERE)
    url = up.ready()
    [serve] = [child for child in children_of(up.process.pid) if "serve" in child.cmdline()]
    serve.kill()
    up.until(lambda: up.happened("ready").count("serve") == 2, "a new serve")
    port = int(url.rpartition(":")[2])
    [serve] = [child for child in children_of(up.process.pid) if "serve" in child.cmdline()]
    assert port in {connection.laddr.port for connection in serve.net_connections("tcp")}
    [ended] = [event for event in up.events() if event["event"] == "ended and is started again"]
    assert (ended["child"], ended["status"], ended["in_seconds"]) == ("serve", "SIGKILL", 0.5)
    assert up.stop() == 0, up.said()


def test_nobody_outlives_a_supervisor_that_is_killed(start: Start, tmp_path: Path) -> None:
    up = start(*NOWHERE)
    up.ready()
    up.until(lambda: len(up.happened("ready")) == 5, "all of it")
    children = children_of(up.process.pid)
    up.process.kill()
    up.ended()
    until_now(lambda: not any(alive(child.pid) for child in children), "the end of the children")
    again = start(*NOWHERE)
    again.ready()
    assert again.stop() == 0, again.said()


def test_a_second_up_on_the_same_folder(start: Start, tmp_path: Path) -> None:
    up = start(*NOWHERE)
    up.ready()
    command = [sys.executable, "-m", "tidemark", "up", "--data", str(tmp_path / "data"), "--port", "0"]
    second = subprocess.run(
        command, capture_output=True, text=True, env=environment(), timeout=PATIENCE_S, check=False
    )
    assert second.returncode == 1
    assert second.stdout == ""
    [line] = second.stderr.splitlines()
    assert line.startswith("tidemark: `tidemark up` runs on the data folder")
    assert f"as process {up.process.pid}: stop it or choose another --data" in line
    assert up.process.poll() is None


def test_a_setting_that_only_a_child_finds_wrong(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tidemark", "up", "--data", str(tmp_path / "data"), "--port", "0"]
    refused = subprocess.run(
        [*command, "--raw-days", "100", "--hourly-days", "50"],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=PATIENCE_S,
        check=False,
    )
    assert refused.returncode == 2, refused.stderr
    assert "finer rows cannot be kept for longer than coarser ones" in refused.stderr.splitlines()[-1]


def test_a_stop_while_it_starts(start: Start) -> None:
    up = start(*NOWHERE)
    up.until(lambda: "nats" in up.happened("ready"), "the first child")
    children = children_of(up.process.pid)
    assert up.stop() == 0, up.said()
    assert not any(alive(child.pid) for child in children)
    assert len(up.happened("stopped")) >= len(children), "by the supervisor, not by what ends with it"


def test_whoever_asks_twice_is_in_a_hurry(start: Start) -> None:
    up = start(*NOWHERE)
    up.ready()
    up.until(lambda: len(up.happened("ready")) == 5, "all of it")
    [serve] = [child for child in children_of(up.process.pid) if "serve" in child.cmdline()]
    serve.suspend()  # it will not stop by itself
    up.process.send_signal(signal.SIGINT)
    up.until(lambda: "poll" in up.happened("stopped"), "serve's turn")
    up.process.send_signal(signal.SIGINT)
    assert up.ended() == 0
    assert up.happened("did not stop in time and is killed") == ["serve"]
    assert not alive(serve.pid)


TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
fcntl.ioctl(0, termios.TIOCSWINSZ, (40).to_bytes(2, sys.byteorder) + (120).to_bytes(2, sys.byteorder) + bytes(4))
os.execv(sys.executable, [sys.executable, "-m", "tidemark", *sys.argv[1:]])
"""


def test_in_a_terminal_there_is_a_table_and_ctrl_c(tmp_path: Path) -> None:
    keyboard, terminal = os.openpty()
    shown = bytearray()

    def read() -> None:
        with suppress(OSError):  # the last one has closed the terminal
            while data := os.read(keyboard, 65_536):
                shown.extend(data)

    flags = ["--influencers", "1000000-1000099", "--interval", "1", "--port", "0", "--data", str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-c", TERMINAL, "up", *flags],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
        start_new_session=True,
        env={**environment(), "TERM": "xterm"},
    ) as process:
        os.close(terminal)
        reading = threading.Thread(target=read)
        reading.start()
        until_now(lambda: b"100.00%" in shown or process.poll() is not None, "full coverage")
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready http://")
        os.write(keyboard, b"\x03")
        assert process.wait(PATIENCE_S) == 0, shown.decode()
    reading.join()
    os.close(keyboard)
    text = shown.decode()
    assert "observations/s" in text
    assert "everything is stopped" in text
    assert "did not stop" not in text


def fails(start: Start, *flags: str, data: str = "data") -> tuple[str, list[str]]:
    """The line that it ends with, and which children were ready."""
    up = start(*flags, data=data)
    assert up.ended() == 1, up.said()
    assert up.process.stdout is not None
    assert up.process.stdout.read() == ""
    return up.said().splitlines()[-1], up.happened("ready")


def test_a_port_in_use(start: Start) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        line, began = fails(start, *NOWHERE, "--port", str(port))
    assert line == (
        f"tidemark: cannot listen on 127.0.0.1:{port}: address already in use; choose another --port or --host"
    )
    assert began == []


def test_a_data_folder_that_can_be_none(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line, began = fails(start, *NOWHERE, "--data", str(tmp_path / "file" / "data"))
    assert line.startswith(f"tidemark: cannot use the data folder {tmp_path}/file/data: ")
    assert line.endswith("mend that or choose another --data")
    assert began == []


def test_a_child_that_cannot_start_stops_everything(start: Start, tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "data" / "store")
    try:
        line, began = fails(start, *NOWHERE)
    finally:
        lock.release()
    assert line.startswith(
        f"tidemark: serve: the store in {tmp_path}/data/store is in use by process {os.getpid()}"
    )
    assert began == ["nats"]
