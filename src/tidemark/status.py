"""How is what runs on this data folder doing? `tidemark status`.

Each process leaves a note in the data folder and answers /metrics; the history answers /v1/stats. They are
looked at twice, a second apart, and rates are what happened in between; that of the observations is the history's own,
over the last minute, because most seconds of a small population see none. What one process has done is told since it
began.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import psutil
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table

from tidemark import telemetry
from tidemark.config import Settings
from tidemark.errors import CallerError
from tidemark.process import FAILURE, OK, complain

APART_S: Final = 1.0
ASK_S: Final = 3.0
AT_ONCE_MAX: Final = 16
ROLES: Final = ("up", "nats", "simulate", "schedule", "poll", "classify", "serve")
"""In the order in which they are told."""
OF_EVERY_UP: Final = ("schedule", "poll", "serve")
"""What `up` runs whatever it was told."""
MINUTE_S: Final = 60.0
MIB: Final = 2**20
BAR_COLUMNS: Final = 30

Values = Mapping[tuple[str, str], float]
"""(name of the sample, value of its label or "") -> value."""


@dataclass(frozen=True, slots=True)
class Look:
    """One process at one moment."""

    role: str
    pid: int
    at: float
    """Monotonic seconds."""
    uptime_s: float
    cpu_s: float
    rss_bytes: int
    values: Values | None
    """None when it has no metrics or does not answer."""
    stats: dict[str, Any] | None = None
    """Of `serve`: what /v1/stats answers."""


def show(settings: Settings, as_json: bool) -> int:
    """Print how it goes, as tables or as JSON. Returns the exit status: 1 when nothing runs."""
    notes = telemetry.running(settings.data)
    with ThreadPoolExecutor(AT_ONCE_MAX) as threads:
        before = [look for look in threads.map(_look, notes) if look]
        if not before:
            complain(
                CallerError(
                    f"nothing runs on the data folder {settings.data}: start it with `tidemark up`,"
                    " or name the folder of what runs with --data"
                )
            )
            return FAILURE
        time.sleep(APART_S)
        after = [look for look in threads.map(_look, notes) if look]
    found = report(before, after)
    if as_json:
        print(json.dumps(found))
    else:
        for table in tables(found):
            Console().print(table)
    return OK


def _look(note: Mapping[str, Any]) -> Look | None:
    """None when the process has ended, or is another one."""
    try:
        process = psutil.Process(note["pid"])
        with process.oneshot():
            if not _is(note["role"], process.cmdline()):
                return None
            began, times = process.create_time(), process.cpu_times()
            rss = int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return None
    return Look(
        role=note["role"],
        pid=process.pid,
        at=time.monotonic(),
        uptime_s=time.time() - began,
        cpu_s=times.user + times.system,
        rss_bytes=rss,
        values=_values(note["metrics"]) if "metrics" in note else None,
        stats=_stats(note["url"]) if "url" in note else None,
    )


def _is(role: str, command: Sequence[str]) -> bool:
    """Whether this is the process of the note, and not one that got its pid; the dead have no command."""
    return ("nats-server" if role == "nats" else role) in (part.rpartition("/")[2] for part in command)


def _values(url: str) -> Values | None:
    with suppress(ValueError):
        return None if (text := telemetry.ask(url, ASK_S)) is None else parse(text)
    return None


def parse(text: str) -> Values:
    """The samples of a /metrics page, those of the same name and label added up."""
    values: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, next(iter(sample.labels.values()), ""))
            values[key] = values.get(key, 0.0) + sample.value
    return values


def _stats(url: str) -> dict[str, Any] | None:
    """Ask the HTTP API."""
    with suppress(ValueError):
        if text := telemetry.ask(f"{url}/v1/stats", ASK_S):
            found: dict[str, Any] = json.loads(text)
            return found
    return None


def report(before: Sequence[Look], after: Sequence[Look]) -> dict[str, Any]:
    """What to tell, from two looks. A figure that nobody has is None; one of no process at all is left out."""
    earlier = {look.pid: look for look in before}
    pairs = [(earlier[look.pid], look) for look in after if look.pid in earlier]
    pairs.sort(
        key=lambda pair: (ROLES.index(pair[1].role) if pair[1].role in ROLES else len(ROLES), pair[1].pid)
    )
    of_serve = next((look.stats for look in after if look.stats), None) or {}
    return {
        "processes": [_process(first, second) for first, second in pairs],
        "missing": _missing({look.role for look in after}),
        "coverage": of_serve.get("coverage"),
        "freshnessSeconds": of_serve.get("freshnessSeconds"),
        "averageFollowerCount": of_serve.get("averageFollowerCount"),
        "observationsTotal": of_serve.get("observationsTotal"),
        "lagBatches": of_serve.get("lagBatches"),
        "ticksPerSecond": _rate(pairs, "schedule", "tidemark_ticks_total"),
        "observationsPerSecond": of_serve.get(
            "observationsPerSecond", _rate(pairs, "poll", "tidemark_observations_total")
        ),
        "verdictsPerSecond": _rate(pairs, "classify", "tidemark_verdicts_total"),
        "refused": _refused(after),
        "damagedParts": _damaged(after),
        "suspicious": of_serve.get("suspicious"),
        "classification": of_serve.get("classification"),
    }


def _missing(roles: Set[str]) -> list[str]:
    """Who ought to run and does not: known only of what an `up` has started."""
    return [role for role in OF_EVERY_UP if role not in roles] if "up" in roles else []


def _process(before: Look, after: Look) -> dict[str, Any]:
    seconds = max(after.at - before.at, 1e-9)
    told: dict[str, Any] = {
        "role": after.role,
        "pid": after.pid,
        "uptimeSeconds": round(after.uptime_s, 1),
        "cpuPercent": round((after.cpu_s - before.cpu_s) / seconds * 100, 1),
        "memoryBytes": after.rss_bytes,
    }
    values = after.values
    if values is None:
        return told
    pair = [(before, after)]
    match after.role:
        case "schedule":
            told["ticksPerSecond"] = _rate(pair, "schedule", "tidemark_ticks_total")
            told["ticks"] = _count(values, "tidemark_ticks_total")
        case "poll":
            told["ticksPerSecond"] = _rate(pair, "poll", "tidemark_tick_delay_seconds_count")
            told["ticks"] = _count(values, "tidemark_tick_delay_seconds_count")
            told["observationsPerSecond"] = _rate(pair, "poll", "tidemark_observations_total")
            told["observations"] = _count(values, "tidemark_observations_total")
            told["refused"] = _refused([after])
            told["api"] = [
                {
                    "url": url,
                    "inFlightLimit": int(limit),
                    "breaker": "open" if values.get(("tidemark_breaker_open", url)) else "closed",
                    "requestSeconds": values.get(("tidemark_request_seconds", url)),
                }
                for url, limit in _labelled(values, "tidemark_in_flight_limit")
            ]
        case "classify":
            told["verdictsPerSecond"] = _rate(pair, "classify", "tidemark_verdicts_total")
            told["callsInFlight"] = int(values.get(("tidemark_classifying", ""), 0.0))
            told["restingApis"] = [
                url for url, resting in _labelled(values, "tidemark_classify_breaker_open") if resting
            ]
        case "serve":
            told["storedPerSecond"] = _rate(pair, "serve", "tidemark_stored_total")
            told["stored"] = _count(values, "tidemark_stored_total")
            told["insertSeconds"] = _insert_seconds(before.values or {}, values)
            told["lagBatches"] = (after.stats or {}).get("lagBatches")
    return told


def _rate(pairs: Iterable[tuple[Look, Look]], role: str, name: str) -> float | None:
    """How fast a counter grew a second, all its labels together, over all processes of a role.

    None when none of them answered twice.
    """
    rates = [
        (_sum(second.values, name) - _sum(first.values, name)) / (second.at - first.at)
        for first, second in pairs
        if second.role == role and first.values is not None and second.values is not None
    ]
    return round(sum(rates), 3) if rates else None


def _sum(values: Values, name: str) -> float:
    return sum(value for _, value in _labelled(values, name))


def _count(values: Values, name: str) -> int:
    """A counter, since the process began."""
    return int(_sum(values, name))


def _refused(looks: Iterable[Look]) -> dict[str, int]:
    """Reason -> how many, since the pollers began."""
    counts: dict[str, int] = {}
    for look in looks:
        for reason, count in _labelled(look.values or {}, "tidemark_refused_total"):
            counts[reason] = counts.get(reason, 0) + int(count)
    return counts


def _damaged(looks: Iterable[Look]) -> dict[str, int]:
    """Table -> how many of its parts a store cannot read; of replicas, the worst."""
    counts: dict[str, int] = {}
    for look in looks:
        for table, parts in _labelled(look.values or {}, "tidemark_damaged_parts"):
            if parts:
                counts[table] = max(counts.get(table, 0), int(parts))
    return counts


def _labelled(values: Values, name: str) -> Iterator[tuple[str, float]]:
    return ((label, value) for (sample, label), value in values.items() if sample == name)


def _insert_seconds(before: Values, after: Values) -> float | None:
    """The mean of the inserts between the looks or, where there was none, of all."""
    totals = [after.get((f"tidemark_insert_seconds_{part}", ""), 0.0) for part in ("sum", "count")]
    earlier = [before.get((f"tidemark_insert_seconds_{part}", ""), 0.0) for part in ("sum", "count")]
    seconds, count = (total - was for total, was in zip(totals, earlier, strict=True))
    if not count:
        seconds, count = totals
    return seconds / count if count else None


def tables(report: Mapping[str, Any]) -> Iterator[Table]:
    """The report for people."""
    processes = Table("role", box=None, pad_edge=False, header_style="dim")
    for title in ("pid", "up", "CPU %", "MiB"):
        processes.add_column(title, justify="right")
    processes.add_column("")
    for process in report["processes"]:
        processes.add_row(
            process["role"],
            str(process["pid"]),
            str(timedelta(seconds=int(process["uptimeSeconds"]))),
            f"{process['cpuPercent']:.0f}",
            f"{process['memoryBytes'] / MIB:,.0f}",
            "\n".join(_details(process)),
        )
    yield processes
    serves = [process["uptimeSeconds"] for process in report["processes"] if process["role"] == "serve"]
    answers = report["observationsTotal"] is not None
    freshness = report["freshnessSeconds"] or {}
    figures = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    figures.add_row("")
    if missing := report["missing"]:
        figures.add_row("[red]not running[/]", f"{', '.join(missing)}: the lines of `up` say why")
    figures.add_row("coverage", _text(report["coverage"], ".2%"))
    figures.add_row(
        "freshness",
        ", ".join(f"{name} {_text(freshness.get(name), '.1f')} s" for name in ("p50", "p99", "max")),
    )
    figures.add_row(
        "a second",
        f"{_text(report['observationsPerSecond'], ',.0f')} observations"
        + _over(min(serves) if serves and answers else None),
    )
    figures.add_row("in the store", f"{_text(report['observationsTotal'], ',')} observations")
    if damaged := report["damagedParts"]:
        figures.add_row("[red]damaged[/]", f"parts of the store that cannot be read: {_counts(damaged)}")
    if answers and report["lagBatches"] is None:
        figures.add_row("[red]the log is away[/]", "nothing new arrives: is NATS up?")
    else:
        figures.add_row("lag", f"{_text(report['lagBatches'], ',')} batches")
    figures.add_row("refused", _counts(report["refused"]))
    figures.add_row("average followers", _text(report["averageFollowerCount"], ",.1f"))
    yield figures
    if verdicts := report["suspicious"]:
        yield _verdicts(verdicts)


def _over(uptime_s: float | None) -> str:
    """Over which time the rate is that `serve` tells."""
    if uptime_s is None:
        return ""
    return ", over the last minute" if uptime_s > MINUTE_S else ", since the start"


def _verdicts(verdicts: Mapping[str, int]) -> Table:
    """How many are what, with a bar for as long as somebody was never classified."""
    known, unknown = verdicts["suspicious"] + verdicts["notSuspicious"], verdicts["unknown"]
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    told = f"{verdicts['suspicious']:,} suspicious, {verdicts['notSuspicious']:,} not"
    if unknown:
        bar = ProgressBar(total=known + unknown, completed=known, width=BAR_COLUMNS)
        table.add_row("classified", bar, f"{known / (known + unknown):.1%}: {told}, {unknown:,} to go")
    else:
        table.add_row("classified", told)
    return table


def _details(process: Mapping[str, Any]) -> Iterator[str]:
    """What only this role has."""
    if "observationsPerSecond" in process:
        yield (
            f"{process['observations']:,} observations of {process['ticks']:,} ticks,"
            f" refused: {_counts(process['refused'])}"
        )
    elif "ticksPerSecond" in process:
        yield f"{process['ticks']:,} ticks"
    for api in process.get("api", ()):
        yield (
            f"{api['url']}: {api['inFlightLimit']} in flight at most, breaker {api['breaker']},"
            f" {_milliseconds(api['requestSeconds'])} a request"
        )
    if "verdictsPerSecond" in process:
        resting = process["restingApis"]
        yield (
            f"{_text(process['verdictsPerSecond'], ',.1f')} verdicts/s, {process['callsInFlight']} calls in flight"
            + (f", given a rest: {', '.join(resting)}" if resting else "")
        )
    if "insertSeconds" in process:
        yield (
            f"{process['stored']:,} stored,"
            f" {_milliseconds(process['insertSeconds'])} an insert,"
            f" lag {_text(process['lagBatches'], ',')} batches"
        )


def _text(value: float | None, form: str) -> str:
    return "?" if value is None else format(value, form)


def _milliseconds(seconds: float | None) -> str:
    return "?" if seconds is None else f"{seconds * 1_000:.1f} ms"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) or "none"
