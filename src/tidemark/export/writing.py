"""How do tables become a CSV or Parquet file, as they come?"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tidemark.errors import CallerError, TidemarkError
from tidemark.export.table import SCHEMA, with_written_times

Form = Literal["csv", "parquet"]

STANDARD_OUTPUT: Final = "-"


def write(tables: Iterable[pa.Table], form: Form, target: IO[bytes] | io.RawIOBase) -> int:
    """Write tables of SCHEMA, each as it comes, and return how many rows they had."""
    with pa.PythonFile(target, mode="w") as file, _writer(form, file) as writer:
        rows = 0
        for table in tables:
            writer.write_table(with_written_times(table) if form == "csv" else table)
            rows += table.num_rows
        return rows


def _writer(form: Form, file: Any) -> Any:
    if form == "parquet":
        # The dictionary of a counter that wanders is as long as the column.
        return pa.parquet.ParquetWriter(file, SCHEMA, compression="zstd", use_dictionary=["pk"])
    number = SCHEMA.get_field_index("observed_at")
    # Numbers and times need no quotes; the header of Arrow has them whatever is asked for.
    file.write((",".join(SCHEMA.names) + "\n").encode())
    options = pa.csv.WriteOptions(include_header=False, quoting_style="none")
    return pa.csv.CSVWriter(
        file, SCHEMA.set(number, pa.field("observed_at", pa.string())), write_options=options
    )


@contextmanager
def opened(output: str, form: Form) -> Iterator[IO[bytes] | io.RawIOBase]:
    """Standard output, or a file that has its name only when it is whole; a pipe or device is written to as it is.

    Raises CallerError for what cannot be written to, TidemarkError when the disk is full.
    """
    if output == STANDARD_OUTPUT:
        if form == "parquet" and sys.stdout.isatty():
            raise CallerError("Parquet is nothing for a terminal: give --output FILE")
        yield _Counted(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    path = Path(output)
    if path.is_dir():  # also when no name was given
        raise CallerError(f"{path} is a folder: give the name of a file with --output")
    if path.exists() and not path.is_file():
        with _telling(path, "not all of it was written"), _created(path) as target:
            yield _Counted(target)
        return
    path = path.resolve()  # a link stays one
    part = path.with_name(f".{path.name}.part")
    try:
        with _telling(path, "nothing is left of it"):
            with _created(part) as target:
                yield target
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _telling(path: Path, left: str) -> Iterator[None]:
    """Errors of the disk in words. Raises TidemarkError."""
    try:
        yield
    except OSError as error:
        raise TidemarkError(f"cannot write {path}: {error.strerror or error}; {left}") from error


def _created(path: Path) -> IO[bytes]:
    try:
        return path.open("wb")
    except OSError as error:
        raise CallerError(
            f"cannot write {path}: {os.strerror(error.errno or 0)}; give another --output"
        ) from error


class _Counted(io.RawIOBase):
    """A pipe for writers that want to know where they are."""

    def __init__(self, target: IO[bytes]) -> None:
        super().__init__()
        self._target = target
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._target.write(data)
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        return self._at
