"""How is the store opened, written to and read?

`Store` holds a few handles on one ClickHouse: one that inserts, one for rollups and swaps, some for
readers. A handle serves one call at a time; ClickHouse releases the GIL meanwhile. All methods block, so
an event loop calls them in threads. Foreign exceptions become StoreError here and nowhere else.
"""

from __future__ import annotations

import io
import queue
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidemark.config import Settings
from tidemark.errors import CallerError, StoreError
from tidemark.store import dsn as addresses
from tidemark.store import sql
from tidemark.store.handle import Handle, Parameters
from tidemark.store.lock import FolderLock
from tidemark.store.native import Columns, encode_block
from tidemark.store.periods import Mark, Periods, RolledStep
from tidemark.store.retention import Retention
from tidemark.store.series import (
    LIMIT_POINTS,
    POINTS_MAX,
    STEP_S,
    AverageSeries,
    Kept,
    Range,
    Rolled,
    Series,
    plan,
    ratio,
)

UInt32s = npt.NDArray[np.uint32]
MEMORY_BYTES: Final = 900 * 2**20
READERS: Final = 2
READER_WAIT_S: Final = 30
"""A reader that gets no handle within this time gets an error: the store is far behind."""
SNAPSHOTS_MAX: Final = 100
"""Of one insert: each is a partition, and ClickHouse refuses more by default."""
DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a table takes on disk."""

    rows: int
    bytes: int
    parts: int

    @property
    def bytes_per_row(self) -> float:
        """0 for an empty table."""
        return self.bytes / self.rows if self.rows else 0.0


class Store:
    """The open store. `Store.open` makes one; `close` gives back its folder."""

    def __init__(
        self,
        target: addresses.Embedded | addresses.Server,
        memory_bytes: int,
        readers: int,
        retention: Retention,
    ) -> None:
        self._target = target
        self._retention = retention
        self._resources = ExitStack()
        self._closed = False
        try:
            if isinstance(target, addresses.Embedded):
                self._resources.callback(FolderLock(target.path).release)
            self._writer = self._handle(memory_bytes)
            self._maintenance = self._handle(memory_bytes)
            self._readers: queue.LifoQueue[Handle] = queue.LifoQueue()
            for _ in range(readers):
                self._readers.put(self._handle(memory_bytes))
        except BaseException:
            self._resources.close()
            raise

    @classmethod
    def open(
        cls,
        dsn: str,
        *,
        memory_bytes: int = MEMORY_BYTES,
        readers: int = READERS,
        retention: Retention | None = None,
        retain: bool = True,
    ) -> Store:
        """Open the store at `chdb:///path` or `clickhouse://user:password@host:port/`, made where it is missing.

        `memory_bytes` caps what the embedded store takes for queries and merges, and a single query on a
        server. Brings the schema up to date and, with `retain`, the retention. Raises CallerError for an address that
        cannot be meant, StoreError when the folder is in use, not writable or full, or the server does
        not answer.
        """
        store = cls(addresses.parse(dsn), memory_bytes, readers, retention or Retention())
        try:
            store._migrate()
            if retain:
                store.retain()
            store._remember()
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def configured(cls, settings: Settings, *, retain: bool = True) -> Store:
        """Open the store that the settings name. Raises as `open` does."""
        return cls.open(
            settings.store_dsn,
            memory_bytes=settings.store_megabytes * 1_000_000,
            retention=Retention(settings.raw_days, settings.hourly_days, settings.daily_days),
            retain=retain,
        )

    def _handle(self, memory_bytes: int) -> Handle:
        handle = Handle(self._target, memory_bytes)
        self._resources.callback(handle.close)
        handle.use_database(self._target.database)
        return handle

    def close(self) -> None:
        """End what is under way, close all handles, give back the folder. May be called again."""
        if not self._closed:
            self._closed = True
            self._resources.close()

    # ------------------------------------------------------------------------------------- opening

    def _migrate(self) -> None:
        applied: set[int] = set()
        if self._maintenance.command("EXISTS TABLE schema_migrations") == 1:
            applied = set(self.query("migrations")["number"].to_pylist())
        known = sql.migrations()
        if applied and max(applied) > known[-1].number:
            raise StoreError(
                f"the store {self._target} was made by a newer version (its schema is {max(applied)},"
                f" this program knows {known[-1].number}): upgrade, or choose another --store"
            )
        self.new = not applied
        """Whether there was nothing at the address before."""
        for migration in known:
            if migration.number not in applied:
                for statement in migration.statements:
                    self._maintenance.command(statement)
                self.execute("record_migration", {"number": migration.number, "name": migration.name})
        self.execute("drop_influencers_next")
        if isinstance(self._target, addresses.Server):
            self.execute("remember_inserts")

    def retain(self) -> None:
        """From now on keep rows for as long as this store was opened with, and forget those that are older."""
        found = self.query("table_definitions")
        present = dict(zip(found["name"].to_pylist(), found["definition"].to_pylist(), strict=True))
        for statement in self._retention.statements(present):
            self._maintenance.command(statement)

    def _remember(self) -> None:
        if self.query("store_id").num_rows == 0:
            self.rename()
        self.store_id: str = self.query("store_id")["value"][0].as_py()
        """16 random hexadecimal digits, made with the store: the consumer of the log is named after it."""
        progress = self.query("rollup_progress").to_pylist()
        marks = self.query("rollup_marks").to_pylist()
        self.periods = Periods(
            {row["step"]: row["closed_until_s"] for row in progress},
            [Mark(row["id"], row["hour_s"], row["first_pk"], row["last_pk"]) for row in marks],
        )
        """Which hours and days are closed, and what was written to them since."""
        self._version_ms = max((row["version_ms"] for row in progress), default=0)
        self._version_lock = threading.Lock()
        self._first_s = self.query("first_time")["first_s"][0].as_py()
        first_day_s = self._extent("first_s") // DAY_S * DAY_S
        self._raw_lost_until_s = first_day_s if self._first_s < first_day_s else 0
        """Of days before, only the rollups are there: less was kept once."""

    def rename(self) -> None:
        """Give the store another id from its next opening on: the log takes it for a new one and begins anew."""
        self.execute("set_store_id", {"value": secrets.token_hex(8)})

    # ------------------------------------------------------------------------------------- writing

    def insert_observations(
        self, pk: UInt32s, observed_at: UInt32s, follower_count: UInt32s, following_count: UInt32s
    ) -> None:
        """Insert observations, arrays (n,), times in Unix seconds. On the disk when this returns.

        One insert, which becomes one part for each day it touches, each of them whole or not at all. Rows
        of a closed hour reopen it (`periods`). Nothing is checked for being there already: see
        `existing_rows`. Raises StoreError; the rows may be stored all the same, so check before repeating. A server
        may even store them after that check, but then it takes the same rows only once.
        """
        if not len(pk):
            return
        rows: Columns = {
            "pk": ("UInt32", pk),
            "observed_at": ("DateTime('UTC')", observed_at),
            "follower_count": ("UInt32", follower_count),
            "following_count": ("UInt32", following_count),
        }
        block = [encode_block(rows)]
        with self.periods.inserting(pk, observed_at) as marks:
            self._write_marks(marks, cleared=False)
            self._writer.insert("observations", list(rows), block, "Native")
        self._first_s = min(self._first_s or int(observed_at.min()), int(observed_at.min()))

    def insert_usernames(self, pk: UInt32s, names: pa.StringArray, seen_at: UInt32s) -> None:
        """Insert names (n,) and when each was seen, in Unix seconds. On the disk when this returns."""
        if len(pk):
            table = pa.table({"pk": pk, "username": names, "seen_at": seen_at})
            self._writer.insert("usernames", table.column_names, _stream(table.to_batches()), "ArrowStream")

    def insert_average(self, at_s: int, influencers: int, average_follower_count: float) -> None:
        """Insert the average over all influencers at a moment (Unix seconds)."""
        self.insert_averages(np.array([at_s]), np.array([influencers]), np.array([average_follower_count]))

    def insert_averages(
        self,
        at: npt.NDArray[Any],
        influencers: npt.NDArray[Any],
        average_follower_count: npt.NDArray[np.float64],
    ) -> None:
        """Insert averages (n,) over all influencers, each of a moment in Unix seconds."""
        if not len(at):
            return
        rows = pa.table(
            {
                "at": at.astype(np.uint32),
                "influencers": influencers.astype(np.uint32),
                "average_follower_count": average_follower_count,
            }
        )
        self._writer.insert("averages", rows.column_names, _stream(rows.to_batches()), "ArrowStream")

    def insert_verdicts(self, pk: UInt32s, checked_at: UInt32s, suspicious: npt.NDArray[np.bool_]) -> None:
        """Insert verdicts (n,), times in Unix seconds. On the disk when this returns.

        Inserting the same again changes nothing.
        """
        if not len(pk):
            return
        rows: Columns = {
            "pk": ("UInt32", pk),
            "checked_at": ("DateTime('UTC')", checked_at),
            "suspicious": ("Bool", suspicious.astype(np.uint8)),
        }
        self._writer.insert("verdicts", list(rows), [encode_block(rows)], "Native")

    def insert_snapshot(self, taken_at: int, pk: UInt32s, follower_count: UInt32s) -> None:
        """Insert everybody's followers (n,) at a moment (Unix seconds). On the disk when this returns.

        Inserting the same again changes nothing. It does not keep the sink from inserting meanwhile.
        """
        self.insert_snapshots(np.full(len(pk), taken_at, np.uint32), pk, follower_count)

    def insert_snapshots(self, taken_at: UInt32s, pk: UInt32s, follower_count: UInt32s) -> None:
        """Insert rows (n,) of several snapshots, SNAPSHOTS_MAX at most, likewise."""
        if not len(pk):
            return
        rows: Columns = {
            "taken_at": ("DateTime('UTC')", taken_at),
            "pk": ("UInt32", pk),
            "follower_count": ("UInt32", follower_count),
        }
        self._maintenance.insert("follower_snapshots", list(rows), [encode_block(rows)], "Native")

    def replace_influencers(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Put these rows, with the columns of `influencers`, in the place of all that are there, at one moment.

        Times are uint32 Unix seconds. Readers see the old rows or the new ones, never both and never none.
        """
        self.execute("drop_influencers_next")
        self.execute("prepare_influencers")
        rows = iter(batches)
        first = next(rows, None)
        if first is not None:
            stream = _stream(chain([first], rows))
            self._maintenance.insert("influencers_next", first.schema.names, stream, "ArrowStream")
        self.execute("swap_influencers")
        self.execute("drop_influencers_next")

    def snapshot_ranks(self, day_s: int) -> None:
        """Keep everybody's rank at the end of a closed day (its beginning in Unix seconds). Repeatable."""
        self.execute("snapshot_ranks", {"day": day_s, "taken_at": self.next_version()})

    def set_closed(self, step: RolledStep, until_s: int) -> None:
        """Write down, and from now on answer by, that all periods of a step that begin before `until_s` are closed."""
        self.execute("set_progress", {"step": step, "closed_until": until_s, "at": self.next_version()})
        self.periods.set_closed(step, until_s)

    def clear_marks(self, marks: Sequence[Mark]) -> None:
        """Write down, and from now on answer by, that the rollups hold what these marks were about."""
        if not marks:
            return
        # Keeps the version: rows computed after a restart must be newer, even if the clock is set back.
        progress = {
            "step": "1h",
            "closed_until": self.periods.closed_until_s("1h"),
            "at": self.next_version(),
        }
        self.execute("set_progress", progress)
        self._write_marks(marks, cleared=True)
        self.periods.clear(marks)

    def _write_marks(self, marks: Sequence[Mark], *, cleared: bool) -> None:
        if not marks:
            return
        columns: Columns = {
            "id": ("UInt64", np.array([mark.id for mark in marks], np.uint64)),
            "hour": ("DateTime('UTC')", np.array([mark.hour_s for mark in marks], np.uint32)),
            "first_pk": ("UInt32", np.array([mark.first_pk for mark in marks], np.uint32)),
            "last_pk": ("UInt32", np.array([mark.last_pk for mark in marks], np.uint32)),
            "cleared": ("UInt8", np.full(len(marks), cleared, np.uint8)),
        }
        self._writer.insert("rollup_marks", list(columns), [encode_block(columns)], "Native")

    def next_version(self) -> str:
        """A moment for closed_at, as ClickHouse reads it: now, but later than any before, whatever the clock does."""
        with self._version_lock:
            self._version_ms = max(self._version_ms + 1, time.time_ns() // 1_000_000)
            seconds, milliseconds = divmod(self._version_ms, 1_000)
        return f"{seconds}.{milliseconds:03}"

    def execute(self, command: str, parameters: Parameters | None = None) -> None:
        """Run a statement of commands.sql by its name."""
        self._maintenance.command(sql.named("commands.sql")[command], parameters)

    # ------------------------------------------------------------------------------------- reading

    def query(self, name: str, parameters: Parameters | None = None) -> pa.Table:
        """Ask a question of queries.sql by its name. Times in parameters are Unix seconds."""
        with self._reader() as handle:
            return handle.ask(sql.named("queries.sql")[name], parameters)

    @property
    def address(self) -> str:
        """Where it is, without a password."""
        return str(self._target)

    def damaged_parts(self) -> dict[str, int]:
        """How many parts of which table cannot be read, and were set aside: their rows are in no answer any more."""
        found = self.query("damaged_parts")
        return dict(zip(found["table"].to_pylist(), found["parts"].to_pylist(), strict=True))

    def explain(self, name: str, parameters: Parameters | None = None) -> str:
        """What a question of queries.sql would read, in ClickHouse's words: tables, indexes, parts, granules."""
        with self._reader() as handle:
            plan_rows = handle.ask(f"EXPLAIN indexes = 1 {sql.named('queries.sql')[name]}", parameters)
        return "\n".join(plan_rows["explain"].to_pylist())

    @contextmanager
    def _reader(self) -> Iterator[Handle]:
        try:
            handle = self._readers.get(timeout=READER_WAIT_S)
        except queue.Empty:
            raise StoreError(
                f"the store has not got to a question within {READER_WAIT_S} s: it has too much to do, ask fewer"
            ) from None
        try:
            yield handle
        finally:
            self._readers.put(handle)

    def existing_rows(self, first_pk: int, last_pk: int, from_s: int, to_s: int) -> tuple[UInt32s, UInt32s]:
        """The (pk, observed_at) that are stored of these pks and times, both ends inclusive; arrays (n,).

        By the handle that inserts, as `row_count` and `max_observed_at`: who stores waits for no reader.
        """
        found = self._writer.ask(
            sql.named("queries.sql")["existing_rows"],
            {"first_pk": first_pk, "last_pk": last_pk, "from": from_s, "to": to_s},
        )
        return found["pk"].to_numpy(), found["observed_at_s"].to_numpy()

    def row_count(self) -> int:
        """How many observations are stored; from the parts' own counts."""
        count: int = self._extent("observations")
        return count

    def max_observed_at(self) -> int | None:
        """When the newest observation was, in Unix seconds; from the parts' own maxima."""
        newest: int = self._extent("last_s")
        return newest or None

    def _extent(self, what: str) -> Any:
        return self._writer.ask(sql.named("queries.sql")["extent"])[what][0].as_py()

    def written_down_at(self) -> int:
        """When `replace_influencers` was last done, in Unix seconds, by the average that followed it; 0: never."""
        at_s: int = self.query("written_down")["at_s"][0].as_py()
        return at_s

    def load_influencers(self) -> pa.Table:
        """Everybody as last written by `replace_influencers`, by pk; times are uint32 Unix seconds."""
        return self.query("influencers")

    def load_newer_than(self, since_s: int) -> pa.Table:
        """Everybody's latest observation since a moment, inclusive, by pk.

        Columns pk, observed_at (Unix seconds), follower_count, following_count; all uint32.
        """
        return self.query("newest_since", {"since": since_s})

    def load_verdicts(self, since_s: int) -> pa.Table:
        """The latest verdict on everybody of whom this store took one since a moment, inclusive, by pk.

        Columns pk, checked_at (uint32 Unix seconds) and suspicious.
        """
        return self.query("verdicts_since", {"since": since_s})

    def load_usernames(self, since_s: int) -> pa.Table:
        """The latest names that were first seen since a moment, inclusive, by pk; columns pk and username."""
        return self.query("usernames_since", {"since": since_s})

    def snapshot_times(self) -> list[int]:
        """When the snapshots of everybody's followers were taken, in Unix seconds, ascending."""
        times: list[int] = self.query("snapshot_times")["taken_at"].to_pylist()
        return times

    def load_snapshot(self, taken_at: int) -> tuple[UInt32s, UInt32s]:
        """One snapshot: pks and follower counts, arrays (n,) in any order; empty where there is none."""
        found = self.query("snapshot", {"taken_at": taken_at})
        return found["pk"].to_numpy(), found["follower_count"].to_numpy()

    def series(
        self, pk: int, from_s: int, to_s: int, step: str = "auto", limit: int = LIMIT_POINTS
    ) -> Series:
        """One influencer from (inclusive) to (exclusive) in Unix seconds; `step` is auto, raw, 1m, 1h or 1d.

        Exact at every step: closed periods come from the rollups, all others from the observations. Empty
        for a pk that is not known. Raises CallerError for a bad time or step, and when a named step has
        more than `limit` points.
        """
        for wanted, last in _attempts(plan(step, from_s, to_s, self.kept())):
            most = limit if last else min(limit, POINTS_MAX)
            found = self._series(pk, wanted, most + 1)
            if len(found) <= most:
                return found
        raise _too_many(step, limit)

    def _series(self, pk: int, wanted: Range, limit: int) -> Series:
        parameters: dict[str, Any] = {"pk": pk, "from": wanted.from_s, "to": wanted.to_s, "limit": limit}
        if wanted.step == "1h" or wanted.step == "1d":
            closed_until_s, reopened = self.periods.state_of(pk, wanted.step)
            parameters |= {"closed_until": closed_until_s, "reopened": reopened}
        found = _arrays(self.query(f"series_{wanted.step}", parameters))
        followers, followings = found["follower_count"], found["following_count"]
        rolled = None
        if wanted.step != "raw":
            rolled = Rolled(**{name: found[name] for name in Rolled.__dataclass_fields__})
        return Series(
            wanted.step,
            wanted.from_s,
            wanted.to_s,
            found["time"],
            followers,
            followings,
            ratio(followers, followings),
            rolled,
        )

    def average_series(
        self, from_s: int, to_s: int, step: str = "auto", limit: int = LIMIT_POINTS
    ) -> AverageSeries:
        """averageFollowerCount from (inclusive) to (exclusive) in Unix seconds. Raises CallerError as `series`."""
        kept = Kept(first_s=self._first_s, now_s=int(time.time()))
        for wanted, last in _attempts(plan(step, from_s, to_s, kept)):
            most = limit if last else min(limit, POINTS_MAX)
            step_s = STEP_S[wanted.step]
            parameters = {"from": wanted.from_s, "to": wanted.to_s, "step_s": step_s, "limit": most + 1}
            found = self.query("average_series", parameters)
            if found.num_rows <= most:
                return AverageSeries(wanted.step, wanted.from_s, wanted.to_s, **_arrays(found))
        raise _too_many(step, limit)

    def kept(self) -> Kept:
        """From when on there is anything, single observations, and hourly figures: by the clock and the retention, and
        by the observations that were there at the start.
        """
        now_s = int(time.time())
        raw_days, hourly_days = self._retention.raw_days, self._retention.hourly_days
        return Kept(
            first_s=self._first_s,
            raw_since_s=max(self._raw_lost_until_s, now_s - raw_days * DAY_S if raw_days else 0),
            hourly_since_s=now_s - hourly_days * DAY_S if hourly_days else 0,
            now_s=now_s,
        )

    def sizes(self) -> dict[str, Sizes]:
        """What each table that has rows takes on disk."""
        return {
            row["table"]: Sizes(row["rows"], row["bytes"], row["parts"])
            for row in self.query("table_sizes").to_pylist()
        }

    def merged_rows(self) -> int:
        """How many rows were merged since the engine started, in all tables."""
        return int(self.query("merged_rows")["rows"][0].as_py())

    def column_bytes(self, table: str) -> dict[str, int]:
        """Compressed bytes of each column of a table, as far as its parts are large enough for a file a column."""
        found = self.query("column_sizes", {"table": table})
        return dict(zip(found["column"].to_pylist(), found["bytes"].to_pylist(), strict=True))


def _attempts(ranges: list[Range]) -> Iterator[tuple[Range, bool]]:
    """Each range, and whether it is the last one."""
    for number, wanted in enumerate(ranges, 1):
        yield wanted, number == len(ranges)


def _too_many(step: str, limit: int) -> CallerError:
    return CallerError(
        f"step {step} has more than {limit} points there: ask for a shorter time or a coarser step"
    )


def _arrays(table: pa.Table) -> dict[str, npt.NDArray[Any]]:
    """The columns of a table of numbers without nulls, as arrays (n,)."""
    return {name: table[name].to_numpy() for name in table.column_names}


def _stream(batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """An Arrow IPC stream of at least one record batch, a piece for each; they are never all in memory."""
    buffer = io.BytesIO()
    writer = None
    for batch in batches:
        writer = writer or pa.ipc.new_stream(buffer, batch.schema)
        writer.write_batch(batch)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    if writer is not None:
        writer.close()
        yield buffer.getvalue()
