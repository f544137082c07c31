"""Hosts as network namespaces: they reach each other, a cable can be pulled, and nothing is left over."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tidemark.bench.hosts import HOSTS_MAX, Host, _namespaces, hosts, impossible
from tidemark.errors import CallerError

PATIENCE_S = 60
LISTEN = """
import socket
listener = socket.create_server(("0.0.0.0", 7000))
print("listening", flush=True)
while True:
    listener.accept()[0].sendall(b"x")
"""
LEAVE_OVER = """
import sys, time
from tidemark.bench.hosts import hosts
with hosts("a") as made:
    print(made["a"].namespace, flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _possible() -> None:
    if reason := impossible():
        pytest.skip(reason)


def reaches(host: Host) -> bool:
    try:
        with socket.create_connection((host.address, 7_000), 0.5) as connection:
            return connection.recv(1) == b"x"
    except OSError:
        return False


def test_a_host_is_reached_unless_its_cable_is_pulled(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as output, hosts("a", "b") as made:
        process = made["a"].start([sys.executable, "-c", LISTEN], {}, output)
        give_up_at = time.monotonic() + PATIENCE_S
        while not reaches(made["a"]):
            assert time.monotonic() < give_up_at
        from_b = f"import socket; print(socket.create_connection(('a', 7000), {PATIENCE_S}).recv(1))"
        made["b"].start([sys.executable, "-c", from_b], {}, output).wait(PATIENCE_S)
        assert "b'x'" in (tmp_path / "log").read_text(), "by its name"
        made["a"].unplug()
        assert not reaches(made["a"])
        made["a"].plug()
        while not reaches(made["a"]):
            assert time.monotonic() < give_up_at
        namespaces = {host.namespace for host in made.values()}
        assert namespaces <= set(_namespaces())
    assert process.wait(PATIENCE_S) != 0
    assert not namespaces & set(_namespaces())


def test_what_a_killed_run_left_over_is_cleaned_up() -> None:
    process = subprocess.Popen([sys.executable, "-c", LEAVE_OVER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as said:
        namespace = said.readline().strip()
    process.kill()
    process.wait()
    assert namespace in _namespaces()
    with hosts("b"):
        assert namespace not in _namespaces()


@pytest.mark.parametrize("names", [("x" * 14,), tuple(str(number) for number in range(HOSTS_MAX + 1))])
def test_too_many_hosts_and_too_long_names(names: tuple[str, ...]) -> None:
    with pytest.raises(CallerError, match="at most"), hosts(*names):
        raise AssertionError("made")
