from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tidemark.errors import StoreError
from tidemark.population import Population
from tidemark.store import dsn as addresses
from tidemark.store import sql
from tidemark.store.clickhouse import Store
from tidemark.store.handle import Handle
from tidemark.store.rollups import Rollups

from .conftest import DAY_S, MONDAY_S, History, Open

SCHEMA = pa.schema(
    [
        pa.field("pk", pa.uint32(), nullable=False),
        pa.field("username", pa.string(), nullable=False),
        pa.field("follower_count", pa.uint32(), nullable=False),
        pa.field("following_count", pa.uint32(), nullable=False),
        pa.field("follower_ratio", pa.float64()),
        pa.field("rank", pa.uint32(), nullable=False),
        pa.field("suspicious", pa.bool_()),
        pa.field("suspicious_checked_at", pa.uint32()),
        pa.field("observed_at", pa.uint32(), nullable=False),
    ]
)
"""The board's columns."""


def everybody(count: int, followers: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [
            {
                "pk": pk,
                "username": f"name-{pk}",
                "follower_count": followers,
                "following_count": pk % 2,
                "follower_ratio": float(followers) if pk % 2 else None,
                "rank": count - pk,
                "suspicious": [None, True, False][pk % 3],
                "suspicious_checked_at": MONDAY_S if pk % 3 else None,
                "observed_at": MONDAY_S + pk,
            }
            for pk in range(count)
        ],
        schema=SCHEMA,
    )


# ---------------------------------------------------------------- opening


def test_a_store_keeps_its_name_and_its_rows(open_store: Open, history: History) -> None:
    first = open_store()
    assert len(first.store_id) == 16
    assert (first.row_count(), first.max_observed_at(), first.sizes().get("observations")) == (0, None, None)
    first.insert_observations(*history.add([1, 2], MONDAY_S))
    again = open_store()
    assert again.store_id == first.store_id
    assert (again.row_count(), again.max_observed_at()) == (2, MONDAY_S)


def test_a_store_says_whether_it_was_there_before(open_store: Open, tmp_path: Path) -> None:
    assert open_store().new
    store = open_store()
    assert not store.new
    assert store.address == f"chdb://{tmp_path}/store"


def test_a_store_of_another_name_has_its_rows(open_store: Open, history: History) -> None:
    first = open_store()
    first.insert_observations(*history.add([1, 2], MONDAY_S))
    first.rename()
    again = open_store()
    assert again.store_id != first.store_id
    assert again.row_count() == 2


def test_files_that_a_disk_spoiled_are_told_of(open_store: Open, history: History, tmp_path: Path) -> None:
    store = open_store()
    for days in range(3):
        store.insert_observations(*history.add([1, 2], MONDAY_S + days * DAY_S))
    assert store.damaged_parts() == {}
    store.close()
    day = time.strftime("%Y%m%d", time.gmtime(MONDAY_S + DAY_S))
    spoiled = list((tmp_path / "store").rglob(f"{day}_*/data.bin"))
    for path in spoiled:  # with those it was merged from, which ClickHouse would take instead
        path.write_bytes(b"")
    store = open_store()
    assert store.damaged_parts() == {"observations": len(spoiled)}
    assert store.row_count() == 4, "the others can be read"
    assert open_store().damaged_parts() == {"observations": len(spoiled)}, "until somebody deletes them"


def test_a_migration_that_was_cut_off_is_repeated(open_store: Open) -> None:
    store = open_store()
    store._maintenance.command("TRUNCATE TABLE schema_migrations")
    store._maintenance.command("DROP TABLE rollup_marks SYNC")
    store = open_store()
    assert store.query("migrations").num_rows == len(sql.migrations())
    assert store.query("rollup_marks").num_rows == 0


def test_every_table_and_column_says_what_it_is(store: Store) -> None:
    store.replace_influencers([everybody(9, 7)])
    for kind in ("tables", "columns"):
        silent = f"SELECT * FROM system.{kind} WHERE database = currentDatabase() AND comment = ''"
        assert store._maintenance.ask(silent).to_pylist() == []


def test_a_store_of_a_newer_version_is_left_alone(open_store: Open) -> None:
    open_store().execute("record_migration", {"number": 999, "name": "from_the_future"})
    with pytest.raises(StoreError, match=r"newer version .* upgrade"):
        open_store()


def test_a_second_process_is_refused_with_words(store: Store, tmp_path: Path) -> None:
    code = f"from tidemark.store.clickhouse import Store; Store.open('chdb://{tmp_path}/store')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is in use by process" in done.stderr.splitlines()[-1]
    assert store.row_count() == 0


def test_a_second_store_in_this_process_is_refused_with_words(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="this process has another one open"):
        Store.open(f"chdb://{tmp_path}/other")
    assert store.row_count() == 0


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_server_that_does_not_answer() -> None:
    with pytest.raises(
        StoreError, match=r"clickhouse://who@127\.0\.0\.1:1/tidemark does not answer: .+; start it"
    ) as error:
        Store.open("clickhouse://who:secret@127.0.0.1:1")
    assert "secret" not in str(error.value)


def test_the_engine_is_capped(store: Store) -> None:
    found = store._maintenance.ask(
        "SELECT name, toUInt64(value) AS value FROM system.server_settings"
        " WHERE name IN ('mark_cache_size', 'index_mark_cache_size', 'primary_index_cache_size',"
        " 'max_server_memory_usage')"
    )
    caps = dict(zip(found["name"].to_pylist(), found["value"].to_pylist(), strict=True))
    assert caps["max_server_memory_usage"] == 900 * 2**20
    assert max(size for name, size in caps.items() if name.endswith("cache_size")) <= 64 * 2**20
    asked = "SELECT value FROM system.settings WHERE name = {name:String}"
    for handle in (store._writer, store._maintenance):
        assert handle.ask(asked, {"name": "async_insert"})["value"].to_pylist() == ["0"]


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.row_count()


# ---------------------------------------------------------------- observations


def test_one_insert_is_one_part_for_each_day(store: Store) -> None:
    count = 1_000_000
    at = np.full(count, MONDAY_S + DAY_S, np.uint32)
    at[: count // 2] -= 1
    numbers = np.arange(count, dtype=np.uint32)
    store._maintenance.command("SYSTEM STOP MERGES observations")
    store.insert_observations(numbers, at, numbers, numbers)
    assert store.sizes()["observations"].parts == 2
    store.insert_observations(numbers, at + np.uint32(DAY_S), numbers, numbers)
    assert store.sizes()["observations"].parts == 4
    assert store.row_count() == 2 * count


def test_nothing_to_insert(store: Store, history: History) -> None:
    store.insert_observations(*history.add([], []))
    store.insert_usernames(np.empty(0, np.uint32), pa.array([], pa.string()), np.empty(0, np.uint32))
    assert store.row_count() == 0


def test_the_rows_that_are_there_already(store: Store, history: History) -> None:
    store.insert_observations(*history.add(np.arange(10)[:, None], MONDAY_S + np.array([0, 60, 120])))
    pk, at = store.existing_rows(3, 5, MONDAY_S + 1, MONDAY_S + 120)
    assert [column.dtype for column in (pk, at)] == [np.dtype(np.uint32)] * 2
    found = set(zip(pk.tolist(), at.tolist(), strict=True))
    assert found == {(number, MONDAY_S + second) for number in (3, 4, 5) for second in (60, 120)}
    assert len(store.existing_rows(11, 99, 0, 2**32 - 1)[0]) == 0


def test_the_latest_since_a_moment(store: Store, history: History) -> None:
    store.insert_observations(*history.add(np.arange(5)[:, None], MONDAY_S + np.array([60, 0])))
    store.insert_observations(*history.add([1, 7], MONDAY_S + DAY_S))
    found = store.load_newer_than(MONDAY_S + 60)
    assert found["pk"].to_pylist() == [0, 1, 2, 3, 4, 7]
    for row in found.to_pylist():
        last = history.buckets(row["pk"], 0, 2**32, 2**31)[-1]
        assert (row["follower_count"], row["following_count"]) == (last[2], last[6])
    assert store.load_newer_than(MONDAY_S + DAY_S + 1).num_rows == 0


def test_counts_and_extremes_are_read_from_metadata(store: Store, history: History) -> None:
    store.insert_observations(*history.add(np.arange(100)[:, None], MONDAY_S + np.arange(500)))
    assert store.max_observed_at() == MONDAY_S + 499
    assert "_minmax_count_projection" in store.explain("extent")


# ---------------------------------------------------------------- what holds now


def test_names_and_their_history(store: Store) -> None:
    pk, at = np.array([1, 2], np.uint32), np.array([MONDAY_S, MONDAY_S], np.uint32)
    store.insert_usernames(pk, pa.array(["anna", "böb"]), at)
    store.insert_usernames(pk[:1], pa.array(["anna 2"]), at[:1] + np.uint32(60))
    assert store.load_usernames(0).to_pydict() == {"pk": [1, 2], "username": ["anna 2", "böb"]}
    assert store.load_usernames(MONDAY_S + 1).to_pydict() == {"pk": [1], "username": ["anna 2"]}
    assert store.query("names_by_pk", {"pk": 1})["username"].to_pylist() == ["anna", "anna 2"]


def test_everybody_is_replaced_at_one_moment(store: Store) -> None:
    assert store.load_influencers().num_rows == 0
    store.replace_influencers([everybody(10, 5), everybody(10, 5).slice(0, 0)])
    assert store.load_influencers().cast(SCHEMA).equals(pa.Table.from_batches([everybody(10, 5)]))
    store.replace_influencers(everybody(20, 6).slice(start, 10) for start in (0, 10))
    assert store.load_influencers().num_rows == 20
    store.replace_influencers([])
    assert store.load_influencers().num_rows == 0


def test_readers_see_one_moment_while_everybody_is_replaced(store: Store) -> None:
    store.replace_influencers([everybody(1_000, 1)])
    enough = threading.Event()

    def replace() -> None:
        followers = 1
        while not enough.is_set():
            followers = followers % 7 + 1
            store.replace_influencers([everybody(1_000, followers)])

    seen: set[float] = set()
    with ThreadPoolExecutor(1) as pool:
        replacing = pool.submit(replace)
        try:
            while len(seen) < 3 and not replacing.done():
                found = store.query("average")
                assert found["influencers"].to_pylist() == [1_000]
                seen.update(found["average_follower_count"].to_pylist())
        finally:
            enough.set()
        replacing.result()
    assert len(seen) == 3
    assert seen < set(range(1, 8))


def test_what_a_crash_left_of_a_replacement_is_swept_up(open_store: Open) -> None:
    store = open_store()
    store.replace_influencers([everybody(10, 5)])
    store.execute("prepare_influencers")
    store = open_store()
    store.replace_influencers([everybody(11, 5)])
    assert store.load_influencers().num_rows == 11
    store.execute("prepare_influencers")
    store.replace_influencers([everybody(12, 5)])
    assert store.load_influencers().num_rows == 12


def test_the_leaderboard_and_one_influencer_are_read_by_an_index(store: Store) -> None:
    store.replace_influencers([everybody(30_000, 5)])
    assert "Granules: 1/" in store.explain("latest_by_pk", {"pk": 20_000})
    assert "Granules: 1/" in store.explain("rank_by_pk", {"pk": 20_000})
    explained = store.explain("leaderboard", {"limit": 100, "offset": 50})
    assert "(by_rank)" in explained
    assert "Read type: InOrder" in explained
    page = store.query("leaderboard", {"limit": 3, "offset": 2}).to_pylist()
    assert [row["rank"] for row in page] == [3, 4, 5]


# ---------------------------------------------------------------- errors, crashes


def test_clickhouses_words_in_one_line(store: Store) -> None:
    with pytest.raises(StoreError) as error:
        store._maintenance.command("SELECT nothing FROM nowhere")
    assert "\n" not in str(error.value)
    assert "nowhere" in str(error.value)


def test_who_stores_waits_for_no_reader(store: Store, history: History) -> None:
    store.insert_observations(*history.add([1, 2], MONDAY_S))
    with store._reader(), store._reader():
        assert store.row_count() == 2
        assert store.existing_rows(1, 1, MONDAY_S, MONDAY_S)[0].tolist() == [1]


def test_a_question_that_takes_too_much_memory(store: Store, tmp_path: Path) -> None:
    small = Handle(addresses.parse(f"chdb://{tmp_path}/store"), 2**26)
    with pytest.raises(StoreError, match="--store-megabytes"):
        small.ask("SELECT groupArray(number) FROM numbers(20000000)")
    small.close()
    assert store.row_count() == 0


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    """A process that inserts, rolls up and replaces is killed; a new one finds every acknowledged row once."""
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, f"chdb://{tmp_path}/store", str(MONDAY_S)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    acknowledged = [int(next(child.stdout)) for _ in range(25)]
    child.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in child.stdout]
    child.wait()
    child.stdout.close()
    store = Store.open(f"chdb://{tmp_path}/store")
    try:
        pk, at = store.existing_rows(0, 2**32 - 1, 0, 2**32 - 1)
        rows = list(zip(at.tolist(), pk.tolist(), strict=True))
        assert len(set(rows)) == len(rows)
        complete = len(acknowledged)
        assert {row for row in rows if row[0] < MONDAY_S + complete * 600} == {
            (MONDAY_S + block * 600, pk) for block in range(complete) for pk in range(500)
        }
        work = Rollups(store, Population(0, 499))
        while work.run().hours_closed:
            pass
        for step, step_s in (("1h", 3_600), ("1d", DAY_S)):
            series = store.series(7, MONDAY_S, MONDAY_S + 20 * DAY_S, step)
            assert series.rolled is not None
            seconds = at[pk == 7]
            starts, counts = np.unique(seconds // step_s * step_s, return_counts=True)
            assert series.time.tolist() == starts.tolist()
            assert series.rolled.observations.tolist() == counts.tolist()
        assert store.load_influencers().num_rows in (0, 500)
    finally:
        store.close()


_CHILD = """
import sys, threading
import numpy as np, pyarrow as pa
from tidemark.population import Population
from tidemark.store.clickhouse import Store
from tidemark.store.rollups import Rollups

store, start = Store.open(sys.argv[1]), int(sys.argv[2])
pk = np.arange(500, dtype=np.uint32)
rows = pa.record_batch({"pk": pk, "username": pk.astype(str), "follower_count": pk, "following_count": pk,
                        "rank": pk, "observed_at": pk})

def rest():
    work = Rollups(store, Population(0, 499))
    while True:
        work.run()
        store.replace_influencers([rows])

threading.Thread(target=rest, daemon=True).start()
for block in range(10_000):
    store.insert_observations(pk, np.full(500, start + block * 600, np.uint32), pk, pk)
    print(block, flush=True)
"""


def test_handles_of_one_folder_work_side_by_side(store: Store, tmp_path: Path) -> None:
    other = Handle(addresses.parse(f"chdb://{tmp_path}/store"), 2**28)
    other.use_database("tidemark")
    assert other.command("SELECT count() FROM meta") == 1
    other.close()
    other.close()
    assert store.row_count() == 0
