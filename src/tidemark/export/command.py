"""What does `tidemark export` do?"""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tidemark import telemetry
from tidemark.config import Settings
from tidemark.errors import CallerError, StoreInUseError
from tidemark.export.table import observations
from tidemark.export.writing import STANDARD_OUTPUT, Form, opened, write
from tidemark.store.pages import Pages

TIME_MAX_S: Final = 2**32 - 1
"""Times are stored as 32 bits of Unix seconds."""


def run(settings: Settings, pk: int | None, from_: str, to: str, form: str, output: str) -> None:
    """Write the history that is asked for. Raises TidemarkError."""
    chosen = _form(form, output)
    from_s = _seconds("from", from_) if from_ else 0
    to_s = _seconds("to", to) if to else TIME_MAX_S
    if from_s >= to_s:
        raise CallerError(f"--from {from_} is not before --to {to or 'now'}")
    began = time.monotonic()
    try:
        pages = Pages(settings.store_dsn, pk, from_s, to_s, memory_bytes=settings.store_megabytes * 1_000_000)
    except StoreInUseError as error:
        raise StoreInUseError(f"{error}; {_instead(settings, pk, from_s, to_s)}") from error
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


def _instead(settings: Settings, pk: int | None, from_s: int, to_s: int) -> str:
    """What to do while `serve` has the store."""
    if pk is None:
        return "or ask `serve` for one influencer at a time, with --pk: this then says how"
    now_s = int(time.time())
    to_s = min(to_s, now_s + 1)
    query = f"step=raw&format=csv&from={from_s or to_s - 86_400}&to={to_s}"
    known = f"http://{settings.host}:{settings.port}"
    url = next((note["url"] for note in telemetry.running(settings.data) if "url" in note), known)
    part = "50,000 points at most" if from_s else "this is the last day"
    return f"or ask `serve` ({part}): curl '{url}/v1/influencers/{pk}/series?{query}'"


def _seconds(name: str, text: str) -> int:
    """Unix seconds or RFC 3339; a time without a zone is UTC. Raises CallerError."""
    try:
        at_s = int(text) if text.isdecimal() else None
        if at_s is None:
            at = datetime.fromisoformat(text)
            at_s = int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        at_s = -1
    if not 0 <= at_s <= TIME_MAX_S:
        raise CallerError(f"--{name} {text!r} is no time: write 2026-01-31T12:00:00Z or Unix seconds")
    return at_s
