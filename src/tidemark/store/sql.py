"""Where is the SQL? In the .sql files beside this module: named statements and numbered migrations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

_FOLDER: Final = files("tidemark.store")


@dataclass(frozen=True, slots=True)
class Migration:
    """One schema change: the statements of `migrations/<number>_<name>.sql`."""

    number: int
    name: str
    statements: tuple[str, ...]


@cache
def named(file: str) -> Mapping[str, str]:
    """The statements of queries.sql or commands.sql by name, without their comments."""
    pieces = re.split(r"^-- name: (\w+)$", (_FOLDER / file).read_text(encoding="utf-8"), flags=re.MULTILINE)
    found: dict[str, str] = {}
    for name, text in zip(pieces[1::2], pieces[2::2], strict=True):
        (statement,) = _statements(text)
        if name in found:
            raise ValueError(f"{file} has two statements called {name}")
        found[name] = statement
    return MappingProxyType(found)


@cache
def migrations() -> tuple[Migration, ...]:
    """All schema changes in the order of their numbers, which run from 1 without a gap."""
    found = []
    for entry in sorted((_FOLDER / "migrations").iterdir(), key=lambda entry: entry.name):
        if match := re.fullmatch(r"(\d{4})_(\w+)\.sql", entry.name):
            text = entry.read_text(encoding="utf-8")
            found.append(Migration(int(match[1]), match[2], tuple(_statements(text))))
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError("the migrations are not numbered 1, 2, 3 and so on")
    return tuple(found)


def _statements(text: str) -> list[str]:
    """Cut at semicolons that end a line; lines of comment go."""
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return [statement.strip() for statement in re.split(r";$", code, flags=re.MULTILINE) if statement.strip()]
