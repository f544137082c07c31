"""What does `tidemark export` do?"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

from tidemark import telemetry
from tidemark.config import Settings, http_url
from tidemark.errors import CallerError, StoreInUseError
from tidemark.export.table import observations
from tidemark.export.writing import STANDARD_OUTPUT, Form, opened, write
from tidemark.store.pages import Pages
from tidemark.times import TIME_MAX_S, seconds

DAY_S: Final = 86_400


def run(settings: Settings, pk: int | None, from_: str, to: str, form: str, output: str) -> None:
    """Write the history that is asked for. Raises TidemarkError."""
    chosen = _form(form, output)
    from_s = _seconds("from", from_) if from_ else 0
    to_s = _seconds("to", to) if to else TIME_MAX_S
    if from_s >= to_s:
        raise CallerError(f"--from {from_ or 0} is not before --to {to or 'now'}")
    began = time.monotonic()
    try:
        pages = Pages(settings.store_dsn, pk, from_s, to_s, memory_bytes=settings.store_megabytes * 1_000_000)
    except StoreInUseError as error:
        raise StoreInUseError(
            f"{error}; {_instead(settings, pk, from_s if from_ else None, to_s)}"
        ) from error
    try:
        with opened(output, chosen) as target:
            rows = write(map(observations, pages), chosen, target)
    finally:
        pages.close()
    if output != STANDARD_OUTPUT or sys.stderr.isatty():
        print(f"{rows:,} observations in {time.monotonic() - began:,.1f} s", file=sys.stderr)


def _form(form: str, output: str) -> Form:
    """The form that is asked for, or that the file's ending tells; CSV where it has none. Raises CallerError."""
    ending = "" if output == STANDARD_OUTPUT else Path(output).suffix.lower()
    if form == "parquet" or (not form and ending == ".parquet"):
        return "parquet"
    if not form and ending not in ("", ".csv"):
        raise CallerError(f"-o {output}: in which form? Say --format csv or --format parquet")
    return "csv"


def _instead(settings: Settings, pk: int | None, from_s: int | None, to_s: int) -> str:
    """What to do while `serve` has the store."""
    if pk is None:
        return "or ask `serve` for one influencer at a time, with --pk: this then says how"
    now_s = int(time.time())
    to_s = min(to_s, now_s + 1)
    begin_s = max(0, to_s - DAY_S) if from_s is None else from_s
    query = f"step=raw&format=csv&from={begin_s}&to={to_s}"
    known = http_url(settings.host, settings.port)
    url = next((note["url"] for note in telemetry.running(settings.data) if "url" in note), known)
    part = "this is the last day" if from_s is None else "50,000 points at most"
    return f"or ask `serve` ({part}): curl '{url}/v1/influencers/{pk}/series?{query}'"


def _seconds(name: str, text: str) -> int:
    try:
        return seconds(text)
    except CallerError as error:
        raise CallerError(f"--{name} {error}") from error
