"""Which programs make up Tidemark on one machine, and what is each of them told?

Settings are handed over as TIDEMARK_* variables, for they may hold the token of NATS or the password of the
store: anybody may read the arguments of a process, its variables only its owner.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tidemark.config import Settings
from tidemark.supervise.child import Reader, Said
from tidemark.supervise.folder import DataFolder

TIDEMARK: Final = (sys.executable, "-P", "-m", "tidemark")
"""-P: a file in the operator's folder never takes the place of a module."""

LOOPBACK: Final = "127.0.0.1"

STOP_SECONDS: Final = {
    "schedule": 5.0,
    "classify": 15.0,
    "poll": 25.0,
    "serve": 60.0,
    "nats": 15.0,
    "simulate": 5.0,
}
"""How long an orderly stop may take, in the order in which the roles are stopped: first nobody orders more,
then what was ordered is observed, then what was observed is stored. A poller gives up by itself after 20 s."""


@dataclass(frozen=True, slots=True)
class Order:
    """A program to be kept running."""

    name: str
    """For people: `serve`, `poll 2`."""
    role: str
    command: tuple[str, ...]
    variables: Mapping[str, str] = field(repr=False)
    """The whole environment."""
    read: Reader
    """What is a line that it says?"""
    ready: Callable[[int], str | None] | None = None
    """Given its pid: where it listens, or "", once it is ready; None while it is not. Without this function
    it is ready when it says so."""
    noted: bool = True
    """Whether it leaves a note in the data folder itself."""

    def told(self, **settings: Any) -> Order:
        """The same with other settings."""
        return replace(self, variables={**self.variables, **_variables(settings)})


def serve(settings: Settings, folder: DataFolder) -> Order:
    """The history and the readers. Ready when it says where it listens."""
    return Order("serve", "serve", (*TIDEMARK, "serve"), _environment(settings, folder), role_said)


def pollers(settings: Settings, folder: DataFolder) -> list[Order]:
    """As many as wanted; together they ask the API for no more than `max_rps`."""
    told = {"max_rps": settings.max_rps / settings.pollers, "host": LOOPBACK}
    names = ["poll"] if settings.pollers == 1 else [f"poll {n}" for n in range(1, settings.pollers + 1)]
    return [_noted(name, "poll", settings, folder).told(**told) for name in names]


def classifiers(settings: Settings, folder: DataFolder) -> list[Order]:
    """Who asks for verdicts: one, or nobody where no calls for them are wanted."""
    if not settings.classify_concurrency:
        return []
    return [_noted("classify", "classify", settings, folder).told(host=LOOPBACK)]


def schedule(settings: Settings, folder: DataFolder) -> Order:
    """Who says what is to be observed now."""
    return _noted("schedule", "schedule", settings, folder).told(host=LOOPBACK)


def stand_in(settings: Settings, port: int = 0) -> Order:
    """The Mockstagram API, where there is no other."""
    command = (*TIDEMARK, "simulate", "--port", str(port), "--influencers", settings.influencers)
    return Order("stand-in", "simulate", command, plain_environment(), role_said, noted=False)


def _noted(name: str, role: str, settings: Settings, folder: DataFolder) -> Order:
    """A role without a listener for others: ready when it has left its note."""

    def ready(pid: int) -> str | None:
        return "" if folder.note_of(role, pid).exists() else None

    return Order(name, role, (*TIDEMARK, role), _environment(settings, folder), role_said, ready)


def role_said(line: str) -> Said:
    """What a role of Tidemark says: its address, why it gives up, or a line of its log."""
    if line.startswith("ready http://"):
        return Said("ready", line.removeprefix("ready "))
    if line.startswith("tidemark: "):
        return Said("complaint", line.removeprefix("tidemark: "))
    return Said("line", line)


def plain_environment() -> dict[str, str]:
    """Our own environment without the settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TIDEMARK_")}


def _environment(settings: Settings, folder: DataFolder) -> dict[str, str]:
    """Our own environment with all settings as they are in force here."""
    environment = plain_environment()
    if config := os.environ.get("TIDEMARK_CONFIG"):
        environment["TIDEMARK_CONFIG"] = config
    told = {name: getattr(settings, name) for name in Settings.model_fields}
    told |= {"store": settings.store_dsn, "data": folder.path, "metrics_port": 0}
    return environment | _variables(told)


def _variables(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as variables; what is empty has none."""
    texts = {f"TIDEMARK_{name.upper()}": _text(value) for name, value in settings.items()}
    return {name: text for name, text in texts.items() if text}


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value.resolve()) if isinstance(value, Path) else str(value)
