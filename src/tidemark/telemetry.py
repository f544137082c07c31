"""How does a process say how it is doing? Log lines (structlog) and metrics (Prometheus)."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

import structlog
from prometheus_client import Counter, Gauge, Histogram, start_http_server

from tidemark.config import Settings
from tidemark.errors import TidemarkError

RUN_FOLDER: Final = "run"
"""In the data folder: one small file for each running process, for `tidemark status`."""

_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
"""Without the proxy that a variable may name."""

# Poller
OBSERVATIONS = Counter("tidemark_observations_total", "Answers of the API that became observations")
REFUSED = Counter("tidemark_refused_total", "Answers refused and requests that failed, by reason", ["reason"])
ANSWERS = Counter("tidemark_answers_total", "Answers of the API, of whatever status", ["api"])
IN_FLIGHT_LIMIT = Gauge(
    "tidemark_in_flight_limit", "Requests that may be in flight to an API address", ["api"]
)
BREAKER_OPEN = Gauge("tidemark_breaker_open", "1 while an API address is given a rest", ["api"])
LATENCY = Gauge("tidemark_request_seconds", "Mean seconds from request to answer, lately", ["api"])
BATCHES = Counter("tidemark_batches_total", "Batches put on the log")
PUBLISH_RETRIES = Counter("tidemark_publish_retries_total", "Batches that the log did not take at once")
TICK_DELAY = Histogram(
    "tidemark_tick_delay_seconds",
    "From when a tick was due to its batch on the log",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120),
)
# Scheduler
TICKS = Counter("tidemark_ticks_total", "Ticks handed to the queue, which keeps one of each")
TICKS_KEPT = Counter(
    "tidemark_ticks_kept_total", "Ticks not issued, as the one before still waits for a poller"
)
TURNS = Counter(
    "tidemark_turns_total", "Turns handed to the queue of the classification, which keeps one of each"
)
# Classifier
CLASSIFYING = Gauge("tidemark_classifying", "Calls for a verdict that are in flight")
CLASSIFIED = Counter("tidemark_verdicts_total", "Verdicts put on the log", ["suspicious"])
CLASSIFY_SECONDS = Histogram(
    "tidemark_classify_seconds",
    "Seconds that a call for a verdict took",
    buckets=(0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 20, 30),
)
CLASSIFY_FAILURES = Counter(
    "tidemark_classify_failures_total", "Influencers that got no verdict for now, by reason", ["reason"]
)
CLASSIFY_BREAKER_OPEN = Gauge(
    "tidemark_classify_breaker_open", "1 while an API address is asked for no verdicts", ["api"]
)
TURNS_HANDED_BACK = Counter(
    "tidemark_turns_handed_back_total", "Turns of which something was left over, to be taken again later"
)
# Serve
STORED = Counter("tidemark_stored_total", "Observations written to the store")
DUPLICATES = Counter("tidemark_duplicates_total", "Observations that came again and were left out")
SET_ASIDE = Counter(
    "tidemark_set_aside_total", "Messages on the log that were not ours, or of a clock that is wrong"
)
INSERT_SECONDS = Histogram(
    "tidemark_insert_seconds",
    "Seconds of an insert into the store",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
INSERT_FAILURES = Counter(
    "tidemark_insert_failures_total", "Inserts that the store refused; each is tried again"
)
DAMAGED_PARTS = Gauge(
    "tidemark_damaged_parts", "Parts of a table that the store cannot read and has set aside", ["table"]
)
READABLE_SECONDS = Histogram(
    "tidemark_readable_seconds",
    "From the API's answer until the observation is readable",
    buckets=(0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300),
)
LAG_BATCHES = Gauge("tidemark_lag_batches", "Batches on the log that the store has not taken yet")
COVERAGE = Gauge(
    "tidemark_coverage_ratio", "Share of the watched influencers observed within the last interval"
)
FRESHNESS = Gauge(
    "tidemark_freshness_seconds", "Age of the latest observation over all influencers", ["quantile"]
)
OBSERVED = Gauge("tidemark_influencers_observed", "Influencers observed at least once")
CLASSIFIED_SHARE = Gauge(
    "tidemark_classified_ratio", "Share of the watched influencers with a verdict of the last interval"
)
OLDEST_VERDICT = Gauge("tidemark_oldest_verdict_seconds", "Age of the oldest of everybody's latest verdicts")
JUMPS = Counter("tidemark_jumps_total", "Sudden jumps of follower counts, by what came of them", ["outcome"])
LIVE_STREAMS = Gauge("tidemark_live_streams", "Live streams that are open")
LIVE_EVENTS = Counter("tidemark_live_events_total", "Events written to live streams", ["event"])
CONNECTIONS_REFUSED = Counter(
    "tidemark_connections_refused_total", "Connections of readers refused because there are too many"
)
LIVE_REFUSED = Counter("tidemark_live_refused_total", "Live streams refused because there are too many")
LIVE_STUCK = Counter("tidemark_live_stuck_total", "Live streams dropped because the reader took nothing")
VERDICT_ROWS = Counter("tidemark_verdicts_stored_total", "Verdicts written to the store")


def configure_logging(settings: Settings, role: str) -> None:
    """Log lines to standard error, for people or as JSON; `role` stands in each."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    renderer: Any
    if settings.log_format == "json":
        renderer = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        # Not structlog's own tracebacks, which show local variables: settings with passwords among them.
        traceback = structlog.dev.plain_traceback
        renderer = [
            structlog.dev.ConsoleRenderer(colors=coloured, pad_event_to=0, exception_formatter=traceback)
        ]
    before: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*before, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(role=role)
    # What libraries say looks the same.
    foreign = logging.StreamHandler(sys.stderr)
    last = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer]
    foreign.setFormatter(structlog.stdlib.ProcessorFormatter(processors=last, foreign_pre_chain=before))
    logging.basicConfig(level=logging.WARNING, handlers=[foreign], force=True)
    for name in ("nats", "clickhouse_connect", "urllib3"):  # told in our own words, once
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # It warns of each request that is none: whoever sends such would fill the log.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


def start_metrics(settings: Settings) -> int:
    """Serve /metrics of this process from a thread of its own; returns the port."""
    try:
        server, _ = start_http_server(settings.metrics_port, addr=settings.host)
    except OSError as error:
        raise TidemarkError(
            f"cannot serve metrics on {settings.host}:{settings.metrics_port}: {error.strerror};"
            " choose another --metrics-port"
        ) from error
    port: int = server.server_port
    return port


@contextmanager
def registered(settings: Settings, role: str, **facts: Any) -> Iterator[None]:
    """Leave a note in the data folder while this process runs, for `tidemark status`."""
    note = _note(settings, role)
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps({"role": role, "pid": os.getpid(), "since": int(time.time()), **facts}))
    except OSError as error:
        raise TidemarkError(
            f"cannot write to the data folder {settings.data}: {error.strerror};"
            " free some space, mend its rights or choose another --data"
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):
            note.unlink()


def add_to_note(settings: Settings, role: str, **facts: Any) -> None:
    """What this process knows only now, into the note that `registered` left."""
    note = _note(settings, role)
    with suppress(OSError, ValueError):  # only `status` misses it
        note.write_text(json.dumps(json.loads(note.read_text()) | facts))


def _note(settings: Settings, role: str) -> Path:
    return settings.data / RUN_FOLDER / f"{role}-{os.getpid()}.json"


def ask(url: str, deadline_s: float) -> str | None:
    """What a process on this machine answers to a GET; None when it does not, or not to the end."""
    with suppress(OSError, ValueError, HTTPException), _open(url, timeout=deadline_s) as answer:
        text: str = answer.read().decode()
        return text
    return None


def running(data: Path) -> list[dict[str, Any]]:
    """The notes of the processes that are alive, as `registered` left them."""
    notes = []
    for path in sorted((data / RUN_FOLDER).glob("*.json")):
        with suppress(OSError, ValueError, KeyError):
            note = json.loads(path.read_text())
            if alive(note["pid"]):
                notes.append(note)
    return notes


def alive(pid: int) -> bool:
    """Whether there is such a process, of whatever user."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
