"""A real NATS server of our own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import psutil
import pytest

from tests.supervise.conftest import PATIENCE_S, Keep, until
from tidemark.errors import LogError, TidemarkError
from tidemark.supervise import nats_server
from tidemark.supervise.child import Said
from tidemark.supervise.folder import DataFolder
from tidemark.supervise.keeper import State
from tidemark.supervise.nats_server import NatsServer, find_program, nats_said


async def answer(port: int, token: str) -> str:
    """What the server answers to a client with this token."""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        information = json.loads((await reader.readline()).removeprefix(b"INFO "))
        assert information["auth_required"]
        assert information["jetstream"]
        connect = json.dumps({"auth_token": token, "verbose": False})
        writer.write(f"CONNECT {connect}\r\nPING\r\n".encode())
        said = (await reader.readline()).decode()
        writer.close()
        return said.strip()


async def test_it_comes_back_on_its_port_after_a_kill(keep: Keep, folder: DataFolder) -> None:
    server = NatsServer(folder)
    keeper = keep(server.order())
    url = await keeper.start()
    server.stay(url)
    where = urlsplit(url)
    assert where.hostname == "127.0.0.1"
    assert where.port
    assert where.username
    assert await answer(where.port, where.username) == "PONG"
    assert "Authorization" in await answer(where.port, "guess")

    first = keeper.pid
    assert first
    os.kill(first, signal.SIGKILL)
    await until(lambda: keeper.restarts == 1 and keeper.state == State.RUNNING, "a new server")
    assert await answer(where.port, where.username) == "PONG"


async def test_one_that_met_a_full_disk_is_started_anew_when_there_is_room(
    keep: Keep, folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 0
    monkeypatch.setattr(nats_server, "ROOM_LOOK_S", 0.02)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    server = NatsServer(folder)
    keeper = keep(server.order())
    server.stay(await keeper.start())
    healing = asyncio.create_task(server.heal(keeper))
    said = server._said(
        "[1] 2026/11/27 14:40:00.0 [ERR] Filestore [OBSERVATIONS] Critical write error: no space left on device"
    )
    assert said.kind == "error"
    await asyncio.sleep(0.2)
    assert keeper.restarts == 0, "it would meet the same again"
    free = nats_server.ROOM_BYTES
    await until(lambda: keeper.restarts == 1 and keeper.state == State.RUNNING, "a new server")
    await until(lambda: not server.out_of_room, "the end of it")
    healing.cancel()


async def test_nobody_can_read_the_token_in_the_arguments(keep: Keep, folder: DataFolder) -> None:
    keeper = keep(NatsServer(folder).order())
    token = urlsplit(await keeper.start()).username
    assert token
    assert keeper.pid
    arguments = " ".join(psutil.Process(keeper.pid).cmdline())
    assert "nats-server" in arguments
    assert token not in arguments


def test_nobody_can_read_the_token_in_the_file(folder: DataFolder) -> None:
    tokens = []
    for _ in range(2):
        config = Path(NatsServer(folder).order().command[2])
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
        tokens.append(json.loads(config.read_text())["authorization"]["token"])
    assert tokens[0] != tokens[1]


async def test_an_odd_path(tmp_path: Path, keep: Keep) -> None:
    folder = DataFolder(tmp_path / 'a "b" $HOME ü')
    assert (await keep(NatsServer(folder).order()).start()).startswith("nats://")
    assert (folder.path / "nats" / "jetstream").is_dir()
    folder.release()


def test_acknowledged_is_on_the_disk(folder: DataFolder) -> None:
    assert NatsServer(folder).configuration()["jetstream"]["sync_interval"] == "always"


def test_a_folder_that_cannot_be_written_to(folder: DataFolder) -> None:
    (folder.path / "nats").write_text("in the way")
    with pytest.raises(TidemarkError, match=r"cannot use the data folder .* file; mend that"):
        NatsServer(folder).order()


def test_the_program_is_found_without_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert os.access(find_program(), os.X_OK)
    monkeypatch.setattr(nats_server, "WHEEL", "no-such-wheel")
    with pytest.raises(LogError, match="pip install no-such-wheel"):
        find_program()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[7] 2026/01/01 00:00:00.000000 [INF] Server is ready", Said("debug", "Server is ready")),
        ("[7] 2026/01/01 00:00:00.000000 [INF]", Said("debug", "")),
        ("[7] 2026/01/01 00:00:00.000000 [WRN] slow", Said("warning", "slow")),
        ("[7] 2026/01/01 00:00:00.000000 [ERR] bad", Said("error", "bad")),
        ("[7] 2026/01/01 00:00:00.000000 [FTL] in use", Said("complaint", "in use")),
        ("nats-server: config is invalid", Said("complaint", "nats-server: config is invalid")),
        ("goroutine 1 [running]:", Said("line", "goroutine 1 [running]:")),
    ],
)
def test_what_it_says(line: str, said: Said) -> None:
    assert nats_said(line) == said
