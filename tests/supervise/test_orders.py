"""What each program is told, and how."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tidemark.config import Settings, load
from tidemark.supervise import orders
from tidemark.supervise.child import Said
from tidemark.supervise.folder import DataFolder
from tidemark.supervise.orders import Order, role_said

GIVEN: dict[str, Any] = {
    "api": ("http://one:1", "http://two:2"),
    "nats": ("nats://secret@127.0.0.1:4222",),
    "influencers": "5-2004",
    "interval": 2.5,
    "pollers": 3,
    "max_rps": 100,
    "pipeline": 4,
    "host": "0.0.0.0",
    "port": 8123,
    "metrics_port": 9000,
    "store": "clickhouse://me:secret@host:8123",
    "log_format": "json",
    "log_level": "debug",
}


def settings_in(variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What a child with these variables works with."""
    with monkeypatch.context() as patch:
        for name, value in variables.items():
            if name.startswith("TIDEMARK_"):
                patch.setenv(name, value)
        return load()


def all_orders(settings: Settings, folder: DataFolder) -> list[Order]:
    return [
        orders.serve(settings, folder),
        *orders.pollers(settings, folder),
        *orders.classifiers(settings, folder),
        orders.schedule(settings, folder),
        orders.stand_in(settings, 3000),
    ]


def test_a_child_has_the_settings_of_the_supervisor(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(**GIVEN, data=Path(os.path.relpath(folder.path)))
    told = settings_in(orders.serve(settings, folder).variables, monkeypatch)
    assert told == settings.model_copy(update={"data": folder.path, "metrics_port": 0})


def test_defaults_are_told_too(folder: DataFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Or a file that changes while everything runs would change those that start again."""
    settings = load(data=folder.path)
    variables = orders.schedule(settings, folder).variables
    file = tmp_path / "changed.toml"
    file.write_text("interval = 1\nlog_hours = 1\nport = 1\n")
    told = settings_in({**variables, "TIDEMARK_CONFIG": str(file)}, monkeypatch)
    assert (told.interval, told.log_hours, told.port) == (60, 48, 8000)
    assert told.store_dsn == settings.store_dsn == f"chdb://{folder.path}/store"


def test_pollers_share_what_the_api_may_be_asked_for(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pollers = orders.pollers(load(**GIVEN, data=folder.path), folder)
    assert [order.name for order in pollers] == ["poll 1", "poll 2", "poll 3"]
    told = [settings_in(order.variables, monkeypatch) for order in pollers]
    assert [one.max_rps for one in told] == [pytest.approx(100 / 3)] * 3
    assert {one.host for one in told} == {"127.0.0.1"}
    [only] = orders.pollers(load(data=folder.path), folder)
    assert only.name == "poll"
    assert settings_in(only.variables, monkeypatch).max_rps == 0


def test_without_calls_for_verdicts_there_is_no_classifier(folder: DataFolder) -> None:
    [only] = orders.classifiers(load(data=folder.path), folder)
    assert (only.name, only.role, only.command[-1]) == ("classify", "classify", "classify")
    assert orders.classifiers(load(data=folder.path, classify_concurrency=0), folder) == []


def test_no_secret_stands_where_others_can_read(folder: DataFolder) -> None:
    for order in all_orders(load(**GIVEN, data=folder.path), folder):
        assert "secret" not in " ".join(order.command)
        assert "secret" not in repr(order)


def test_variables_from_outside_do_not_get_past_the_settings(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(data=folder.path)
    monkeypatch.setenv("TIDEMARK_API", "http://elsewhere:1")
    for order in all_orders(settings, folder):
        assert "TIDEMARK_API" not in order.variables
        assert order.variables["PATH"] == os.environ["PATH"]


def test_told_changes_one_setting(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    order = orders.serve(load(**{**GIVEN, "port": 0}, data=folder.path), folder)
    assert settings_in(order.told(port=4321).variables, monkeypatch).port == 4321
    assert settings_in(order.variables, monkeypatch).port == 0


def test_a_role_is_ready_when_it_left_its_note(folder: DataFolder) -> None:
    ready = orders.schedule(load(data=folder.path), folder).ready
    assert ready is not None
    assert ready(77) is None
    folder.note("schedule", 77)
    assert ready(77) == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ready http://127.0.0.1:8000", Said("ready", "http://127.0.0.1:8000")),
        ("tidemark: no; do that", Said("complaint", "no; do that")),
        ("2026-01-01 [info] ready", Said("line", "2026-01-01 [info] ready")),
    ],
)
def test_what_roles_say(line: str, said: Said) -> None:
    assert role_said(line) == said
