"""How is one connection to ClickHouse made, capped, and its errors told?

The seam to clickhouse-connect: `Handle` is the same over chDB and over a server. Answers come as Arrow,
blocks go in as they are. A `Handle` serves one call at a time.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from clickhouse_connect.driver.exceptions import Error as ClickHouseError

from tidemark.errors import StoreError
from tidemark.store.dsn import Embedded, Server

Parameters = Mapping[str, Any]

STATEMENT_S: Final = 300
"""No statement of ours takes this long; one that does is ended, so that its handle is not lost."""
CONNECT_S: Final = 10
MESSAGE_CHARACTERS: Final = 300
"""As much of ClickHouse's own words as fits a line."""

_MIB: Final = 2**20
ENGINE_OPTIONS: Final = {
    # By default the caches may grow to 5 GiB each. Marks of 30 days of a million influencers take 50 MB.
    "mark_cache_size": 64 * _MIB,
    "index_mark_cache_size": 8 * _MIB,
    "primary_index_cache_size": 64 * _MIB,
    "uncompressed_cache_size": 0,
    "query_condition_cache_size": 16 * _MIB,
    "compiled_expression_cache_size": 16 * _MIB,
    "vector_similarity_index_cache_size": 0,
    # Merges keep up with one insert a second on a part of one core; the poller needs the other cores.
    "background_pool_size": 2,
    "background_schedule_pool_size": 2,
    "background_common_pool_size": 1,
    "background_move_pool_size": 1,
    "background_fetches_pool_size": 1,
}
"""Options of the embedded engine, as `clickhouse-local` takes them."""

_ADVICE: Final = {
    159: "the store has too much to do: ask for less, or give it more of the machine",
    241: "give the store more memory (--store-megabytes) or ask for less",
    243: "the disk of the store is full: free some space",
    252: "the store cannot merge as fast as it is written to: give it a faster disk",
    516: "check the user and the password in --store",
}
"""What to do next, by ClickHouse's error code."""


class Handle:
    """One connection. Raises StoreError from every method."""

    def __init__(self, target: Embedded | Server, memory_bytes: int) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._client: Client | None = None
        settings = {
            "async_insert": 0,
            "max_memory_usage": memory_bytes,
            # Spill to the disk rather than fail.
            "max_bytes_before_external_group_by": memory_bytes // 4,
            "max_bytes_before_external_sort": memory_bytes // 4,
            "max_execution_time": STATEMENT_S,
            "output_format_arrow_compression_method": "none",
            "log_queries": 0,
        }
        with self._translated():
            if isinstance(target, Embedded):
                options = ENGINE_OPTIONS | {"max_server_memory_usage": memory_bytes}
                self._client = clickhouse_connect.get_client(
                    interface="chdb", path=str(target.path), chdb_options=options, settings=settings
                )
            else:
                self._client = clickhouse_connect.get_client(
                    host=target.host,
                    port=target.port,
                    username=target.user,
                    password=target.password,
                    secure=target.secure,
                    connect_timeout=CONNECT_S,
                    send_receive_timeout=STATEMENT_S,
                    settings=settings,
                )

    def use_database(self, database: str) -> None:
        """Make the database when it is missing, and stay in it."""
        with self._calling() as client:
            client.command(f"CREATE DATABASE IF NOT EXISTS {database} ENGINE = Atomic")
            client.database = database

    def enter_database(self, database: str) -> None:
        """Stay in a database that is there already; what is asked of one that is not fails."""
        with self._calling() as client:
            client.database = database

    def command(self, statement: str, parameters: Parameters | None = None) -> Any:
        """Run a statement; returns the single value of one that has a value."""
        with self._calling() as client:
            return client.command(statement, parameters=_bound(statement, parameters))

    def ask(self, statement: str, parameters: Parameters | None = None) -> pa.Table:
        """Run a SELECT and return all of its rows."""
        with self._calling() as client:
            answer = client.raw_query(statement, parameters=_bound(statement, parameters), fmt="ArrowStream")
        with self._translated():
            return pa.ipc.open_stream(answer).read_all()

    def insert(self, table: str, columns: Sequence[str], pieces: Iterable[bytes], form: str) -> None:
        """Insert what is written already in one of ClickHouse's formats, in one statement."""
        # A generator, because clickhouse-connect repeats a request whose body is bytes when a server closes
        # the connection; the rows may be stored by then, and would be stored twice.
        block = (piece for piece in pieces)
        with self._calling() as client:
            client.raw_insert(table, columns, block, fmt=form)

    def close(self) -> None:
        """Wait for the call under way and let go. May be called again."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            with self._translated():
                client.close()

    @contextmanager
    def _calling(self) -> Iterator[Client]:
        with self._lock, self._translated():
            if self._client is None:
                raise StoreError("the store is closed")
            yield self._client

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ClickHouseError as error:
            raise StoreError(self._told(error)) from error
        except (OSError, pa.ArrowException) as error:  # the temporary file of an insert, a broken answer
            raise StoreError(
                f"the store {self._target} failed: {_line(error)}; see to it and try again"
            ) from error

    def _told(self, error: ClickHouseError) -> str:
        code = error.code if isinstance(error, DatabaseError) else None
        if "EmbeddedServer already initialized" in str(error):
            return f"cannot open the store {self._target}: this process has another one open, and chDB allows one"
        if "Error initializing EmbeddedServer" in str(error):
            return f"chDB cannot open the store {self._target}; its own words are on standard error"
        if advice := _ADVICE.get(code or 0):
            return f"the store {self._target} refused: {_line(error)}; {advice}"
        if code is None and isinstance(self._target, Server):
            cause = re.search(r"\[Errno -?\d+\] ([^\"')]+)", str(error))
            told = cause[1] if cause else _line(error)
            return f"the store {self._target} does not answer: {told}; start it or change --store"
        return f"the store {self._target} refused: {_line(error)}"


def _bound(statement: str, parameters: Parameters | None) -> dict[str, Any]:
    """The parameters as clickhouse-connect wants them; times, Unix seconds until here, written out."""
    times = set(re.findall(r"\{(\w+):(?:Array\()?DateTime\(", statement))
    return {name: _written(value) if name in times else value for name, value in (parameters or {}).items()}


def _written(value: int | list[int]) -> str | list[str]:
    if isinstance(value, list):
        return [str(_written(second)) for second in value]
    return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M:%S}"


def _line(error: Exception) -> str:
    words = " ".join(re.sub(r"Stack trace.*", "", str(error), flags=re.DOTALL).split())
    return words[:MESSAGE_CHARACTERS] or type(error).__name__
