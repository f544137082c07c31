"""How is a benchmark told? As a table for people, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def show(title: str, report: Mapping[str, Any], as_json: bool) -> None:
    """Print the report on standard output."""
    if as_json:
        print(json.dumps(report))
        return
    table = Table("figure", "value", title=title, title_justify="left")
    for name, value in _flat(report):
        table.add_row(name, _text(value))
    Console().print(table)


def _flat(report: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in report.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name} ")
        elif isinstance(value, list):
            for number, item in enumerate(value, 1):
                yield from _flat(item, f"{prefix}{name} {number} ")
        else:
            yield f"{prefix}{name}", value


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
