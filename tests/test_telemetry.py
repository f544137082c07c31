"""Processes of one machine ask each other how they are."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tidemark import telemetry

DEADLINE_S = 30.0


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that says this once and hangs up; its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(DEADLINE_S)


def test_an_answer() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as url:
        assert telemetry.ask(url, DEADLINE_S) == "ok"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhalf of it", id="killed as it answered"),
        pytest.param(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", id="an error"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\xff", id="no text"),
        pytest.param(b"what?\r\n\r\n", id="no HTTP"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_no_answer(answer: bytes) -> None:
    with answering(answer) as url:
        assert telemetry.ask(url, DEADLINE_S) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_process_of_another_user_is_alive() -> None:
    code = f"import os; from tidemark.telemetry import alive; os.setuid(65534); assert alive({os.getpid()})"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert telemetry.ask(f"http://127.0.0.1:{port}", DEADLINE_S) is None


LOGGING = """
import logging, sys
import structlog
from tidemark import telemetry
from tidemark.config import load

telemetry.configure_logging(load(log_format=sys.argv[1]), "serve")
secret = "pass" + "word"
structlog.get_logger("tidemark").info("ours", a=1)
logging.getLogger("library").warning("theirs %s", 5)
logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
try:
    raise ValueError("a mistake")
except ValueError:
    structlog.get_logger("tidemark").error("ours failed", exc_info=True)
    logging.getLogger("uvicorn.error").exception("theirs failed")
"""


def logged(form: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", LOGGING, form], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == ""
    return done.stderr


def test_every_line_is_json_if_wanted() -> None:
    lines = [json.loads(line) for line in logged("json").splitlines()]
    assert [line["event"] for line in lines] == ["ours", "theirs 5", "ours failed", "theirs failed"]
    assert all({"level", "timestamp", "role"} <= line.keys() for line in lines)
    assert all("a mistake" in line["exception"] for line in lines[2:])


def test_lines_for_people_show_no_local_variables() -> None:
    text = logged("console")
    assert [text.count(part) for part in ("ours a=1", "theirs 5", "ValueError: a mistake", "Invalid")] == [
        1,
        1,
        2,
        0,
    ]
    assert "password" not in text
