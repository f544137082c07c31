"""The command, from a store to a file and back."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tidemark.errors import CallerError
from tidemark.export.table import SCHEMA, observations
from tidemark.export.writing import opened, write
from tidemark.store.clickhouse import Store

NOW_S = int(time.time()) - 10_000
PK = np.repeat(np.array([1_000_001, 1_000_002], np.uint32), 3)
AT = np.tile(np.arange(NOW_S, NOW_S + 180, 60), 2).astype(np.uint32)
FOLLOWERS = np.array([0, 2**32 - 1, 57_166, 10, 11, 12], np.uint32)
FOLLOWINGS = np.array([0, 3, 1_328, 5, 0, 7], np.uint32)


def told(at_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(f"chdb://{tmp_path}/data/store")
    store.insert_observations(PK, AT, FOLLOWERS, FOLLOWINGS)
    yield store
    store.close()


def export(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "tidemark", "export", "--data", str(folder / "data"), *arguments],
        capture_output=True,
        check=False,
        timeout=100,
    )


def test_csv_and_parquet_hold_what_was_stored(store: Store, tmp_path: Path) -> None:
    busy = export(tmp_path, "--pk", "1000001", "--from", "5")
    assert busy.returncode == 1
    assert b"in use by process" in busy.stderr
    assert (
        b"curl 'http://127.0.0.1:8000/v1/influencers/1000001/series?step=raw&format=csv&from=5&to="
        in busy.stderr
    )
    notes = tmp_path / "data" / "run"
    notes.mkdir()
    (notes / "serve.json").write_text(json.dumps({"pid": os.getpid(), "url": "http://127.0.0.1:8290"}))
    assert b"curl 'http://127.0.0.1:8290/v1/influencers/1000001" in export(tmp_path, "--pk", "1000001").stderr
    store.close()
    done = export(tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    rows = list(csv.reader(io.StringIO(done.stdout.decode())))
    assert rows[0] == ["pk", "observed_at", "follower_count", "following_count", "follower_ratio"]
    expected = [
        [str(pk), told(at), str(followers), str(followings)]
        for pk, at, followers, followings in zip(
            PK.tolist(), AT.tolist(), FOLLOWERS.tolist(), FOLLOWINGS.tolist(), strict=True
        )
    ]
    assert [row[:4] for row in rows[1:]] == expected
    assert [row[4] for row in rows[1:]][::4] == ["", ""]
    assert float(rows[3][4]) == 57_166 / 1_328
    file = tmp_path / "one.parquet"
    done = export(
        tmp_path, "--pk", "1000002", "--from", told(NOW_S + 60), "--to", str(NOW_S + 180), "-o", str(file)
    )
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"2 observations in" in done.stderr
    table = pa.parquet.read_table(file)
    assert table.schema.names == SCHEMA.names
    assert [at.timestamp() for at in table["observed_at"].to_pylist()] == [NOW_S + 60, NOW_S + 120]
    assert table["follower_ratio"].to_pylist() == [None, 12 / 7]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ((), 1, "there is no store"),
        (("--from", "yesterday"), 2, "--from 'yesterday' is no time"),
        (("--from", "20", "--to", "10"), 2, "not before"),
        (("--pk", "x"), 2, "--pk"),
        (("--format", "xml"), 2, "xml"),
        (("-o", "x.xlsx"), 2, "-o x.xlsx: in which form? Say --format csv"),
    ],
)
def test_what_cannot_be_exported_is_told(
    tmp_path: Path, arguments: tuple[str, ...], status: int, says: str
) -> None:
    done = export(tmp_path, *arguments)
    assert done.returncode == status
    assert says in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""


def page(numbers: slice) -> pa.Table:
    names = ("pk", "observed_at", "follower_count", "following_count")
    columns = (PK, AT, FOLLOWERS, FOLLOWINGS)
    return pa.table({name: column[numbers] for name, column in zip(names, columns, strict=True)})


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("as it was")

    def pages() -> Iterator[pa.Table]:
        yield observations(page(slice(0, 3)))
        raise CallerError("enough")

    with pytest.raises(CallerError), opened(str(file), "csv") as target:
        write(pages(), "csv", target)
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]
    assert file.read_text() == "as it was"
    with pytest.raises(CallerError, match="cannot write"), opened(f"{tmp_path}/none/x.csv", "csv"):
        pass


def test_a_link_and_a_pipe_stay_what_they_are(tmp_path: Path) -> None:
    file, link, pipe = tmp_path / "x.csv", tmp_path / "link.csv", tmp_path / "pipe"
    file.write_text("as it was")
    link.symlink_to(file)
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    for output in (link, pipe):
        with opened(str(output), "csv") as target:
            assert write([observations(page(slice(0, 3)))], "csv", target) == 3
    reader.join(60)
    assert link.is_symlink()
    assert pipe.is_fifo()
    assert read == [file.read_bytes()]
    assert len(read[0].splitlines()) == 4


@pytest.mark.parametrize("output", ["", "/", "."])
def test_a_folder_is_no_file(output: str) -> None:
    with pytest.raises(CallerError, match="is a folder"), opened(output, "csv"):
        pass


def test_pages_follow_one_another_and_none_at_all_still_has_its_columns(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    with opened(str(file), "parquet") as target:
        assert write(map(observations, [page(slice(0, 4)), page(slice(4, 6))]), "parquet", target) == 6
    assert pa.parquet.read_table(file)["follower_count"].to_pylist() == FOLLOWERS.tolist()
    with opened(str(file), "csv") as target:
        assert write([], "csv", target) == 0
    assert file.read_text() == ",".join(SCHEMA.names) + "\n"
