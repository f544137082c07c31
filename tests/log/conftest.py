"""A NATS server for each test that asks for one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.log.server import NatsServer, nats_running


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_running(tmp_path / "nats") as server:
        yield server
