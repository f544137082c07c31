"""The event loop of `serve`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import uvloop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What the role runs on: what a transport keeps back, and when, is the loop's affair."""
    return {"uvloop": uvloop.new_event_loop}
