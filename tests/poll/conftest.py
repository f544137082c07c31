"""The event loop of the pollers, a NATS server and scripted APIs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop

from tests.log.conftest import nats_server
from tests.poll.scripted import ScriptedApi

__all__ = ["nats_server"]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What the roles run on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def api() -> AsyncIterator[ScriptedApi]:
    async with ScriptedApi() as api:
        yield api


@pytest.fixture
async def another_api() -> AsyncIterator[ScriptedApi]:
    async with ScriptedApi() as api:
        yield api
