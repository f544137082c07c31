"""Where is the store?"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from tidemark.config import without_secrets
from tidemark.errors import CallerError

DATABASE: Final = "tidemark"
"""The database that holds the tables; a server's DSN may name another."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """chDB in this process, its files in a folder."""

    path: Path
    database: str = DATABASE

    def __str__(self) -> str:
        return f"chdb://{self.path}"


@dataclass(frozen=True, slots=True)
class Server:
    """A ClickHouse server, spoken to over HTTP."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    secure: bool
    database: str

    def __str__(self) -> str:
        """The address without the password, fit for messages."""
        return f"clickhouse{'s' if self.secure else ''}://{self.user}@{self.host}:{self.port}/{self.database}"


def parse(dsn: str) -> Embedded | Server:
    """Read `chdb:///path` or `clickhouse[s]://user:password@host:port/[database]`. Raises CallerError.

    The path is taken as it stands, a server's user and password are percent-decoded.
    """
    scheme, separator, rest = dsn.partition("://")
    if separator and scheme == "chdb":
        return _embedded(dsn, rest)
    if separator and scheme in ("clickhouse", "clickhouses"):
        return _server(dsn, secure=scheme == "clickhouses")
    raise CallerError(
        f"the store address {without_secrets(dsn)!r} begins with neither chdb:// nor clickhouse://:"
        " write chdb:///path or clickhouse://user:password@host:8123"
    )


def _embedded(dsn: str, path: str) -> Embedded:
    if not path.startswith("/") or path.strip("/") == "":
        raise CallerError(
            f"the store address {dsn!r} has no absolute path: write chdb:///path, with three slashes"
        )
    if "?" in path or "\0" in path:
        raise CallerError(
            f"the store address {dsn!r} has a character that no store's folder may have: rename it"
        )
    return Embedded(Path(path))


def _server(dsn: str, *, secure: bool) -> Server:
    try:
        parts = urlsplit(dsn)
        port = parts.port
    except ValueError as error:
        # Not in its words: what it takes for a port may be a part of the password.
        raise CallerError(
            f"the store address {without_secrets(dsn)!r} cannot be read: is the port a number?"
            " Write %2F for a / in the password, %40 for an @"
        ) from error
    if not parts.hostname or parts.query or parts.fragment:
        raise CallerError(
            f"the store address {without_secrets(dsn)!r} has no host, or more after it than a database:"
            " write clickhouse://user:password@host:8123"
        )
    database = parts.path.strip("/") or DATABASE
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", database):
        raise CallerError(f"{database!r} is no name for a database: use letters, digits and _")
    return Server(
        host=parts.hostname,
        port=port or (8443 if secure else 8123),
        user=unquote(parts.username or "default"),
        password=unquote(parts.password or ""),
        secure=secure,
        database=database,
    )
