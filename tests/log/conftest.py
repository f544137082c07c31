"""A NATS server for each test that asks for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.log.server import NatsServer


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    folder = tmp_path / "nats"
    folder.mkdir()
    server = NatsServer(folder)
    server.start()
    yield server
    server.kill()
