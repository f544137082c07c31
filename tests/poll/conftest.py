"""The event loop of the pollers, a NATS server and scripted APIs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import numba
import pytest
import uvloop

from tests.log.conftest import nats_server
from tests.poll.scripted import ScriptedApi
from tidemark.poll.exchange import compile_ahead

__all__ = ["nats_server"]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What the roles run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session", autouse=True)
def _compiled() -> None:
    """Before any deadline of a test runs: where nothing was compiled yet, it takes a quarter of a minute."""
    if not numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        compile_ahead()


@pytest.fixture
async def api() -> AsyncIterator[ScriptedApi]:
    async with ScriptedApi() as api:
        yield api


@pytest.fixture
async def another_api() -> AsyncIterator[ScriptedApi]:
    async with ScriptedApi() as api:
        yield api
