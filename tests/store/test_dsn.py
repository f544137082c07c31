from __future__ import annotations

from pathlib import Path

import pytest

from tidemark.errors import CallerError
from tidemark.store.dsn import Embedded, Server, parse


def test_a_folder() -> None:
    assert parse("chdb:///var/lib/tide mark/store") == Embedded(Path("/var/lib/tide mark/store"))


def test_a_server_with_all_parts() -> None:
    target = parse("clickhouses://who:p%40ss@db.example:9443/tides")
    assert target == Server("db.example", 9443, "who", "p@ss", secure=True, database="tides")
    assert "p@ss" not in f"{target} {target!r}"


def test_a_server_with_the_defaults() -> None:
    assert parse("clickhouse://db.example") == Server(
        "db.example", 8123, "default", "", secure=False, database="tidemark"
    )


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "/var/lib/store",
        "chdb://store",
        "chdb:///",
        "chdb:///store?mode=ro",
        "postgres://who:secret@db/x",
        "clickhouse://who:secret@:8123",
        "clickhouse://who:secret/secret@secret@:8123/?",
        "clickhouse://who:secret@db:port",
        "clickhouse://who:secret@db/x?y=1",
        "clickhouse://who:secret@db/drop-me",
    ],
)
def test_what_cannot_be_meant_is_the_callers_error_and_tells_no_password(dsn: str) -> None:
    with pytest.raises(CallerError) as error:
        parse(dsn)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)
