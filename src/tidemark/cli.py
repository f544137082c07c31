"""The command `tidemark`: which flags does each role have, and what does it start?

The flags are made from the fields of `Settings`; only what belongs to one command stands here.
Roles are imported when they are started, so that `--help` is quick and a poller never loads a database.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from tidemark import __version__
from tidemark.config import Settings, load
from tidemark.errors import CallerError, TidemarkError
from tidemark.population import PK_MAX, Population
from tidemark.process import FAILURE, USAGE, complain, run, run_until_stopped

_WATCH: Final = ("influencers", "interval")
_LOG: Final = ("nats", "replicas", "log_hours", "log_gigabytes")
_ASK: Final = ("api", "pipeline", "max_in_flight", "max_rps", "request_deadline")
_CLASSIFY: Final = ("classify_concurrency", "classify_interval", "classify_deadline")
_KEEP: Final = ("store", "raw_days", "hourly_days", "daily_days", "store_megabytes")
_PROCESS: Final = ("data", "log_format", "log_level")
_METRICS: Final = ("host", "metrics_port")

Command = Callable[..., None]


def _type(field: FieldInfo) -> Any:
    """The click type of a setting."""
    annotation = field.annotation
    if get_origin(annotation) is tuple:
        return str
    if choices := [value for value in get_args(annotation) if isinstance(value, str)]:
        return click.Choice(choices)
    plain: dict[Any, Any] = {int: int, float: float, Path: click.Path(path_type=Path)}
    return plain.get(annotation, str)


def _settings(*names: str) -> Callable[[Command], Command]:
    """Give a command the flags of these settings; it is called with the loaded `Settings` and its own flags."""

    def decorate(command: Command) -> Command:
        def with_settings(**values: Any) -> None:
            flags = {name: values.pop(name) for name in names}
            given = {name: value for name, value in flags.items() if value not in (None, ())}
            try:
                settings = load(**given)
            except TidemarkError as error:
                complain(error)
                sys.exit(USAGE)
            command(settings, **values)

        with_settings.__doc__ = command.__doc__
        with_settings.__name__ = command.__name__
        with_settings.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
        decorated: Command = with_settings
        for name in reversed(names):
            field = Settings.model_fields[name]
            shown = "" if field.default in ((), "", Path()) else f"  [default: {field.default}]"
            decorated = click.option(
                f"--{name.replace('_', '-')}",
                name,
                type=_type(field),
                multiple=get_origin(field.annotation) is tuple,
                help=f"{field.description}{shown}",
            )(decorated)
        return decorated

    return decorate


def _require_api(settings: Settings) -> None:
    """End with the status of a wrong flag when no API is named."""
    if not settings.api:
        complain(CallerError("which API? Name it with --api http://host:port"))
        sys.exit(USAGE)


def _told(work: Callable[[], None]) -> None:
    """Do what has an end; an error is one line and the status that goes with it."""
    try:
        work()
    except TidemarkError as error:
        complain(error)
        sys.exit(USAGE if isinstance(error, CallerError) else FAILURE)
    except BrokenPipeError:  # whoever reads has had enough: `| head`
        sys.stderr.close()
        sys.exit(FAILURE)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="tidemark")
def main() -> None:
    """Watch the followers of a million influencers, every minute.

    `tidemark up --api http://host:port` starts the whole pipeline on this machine; without --api it starts
    a stand-in of the Mockstagram API too. What is a flag of `up` or of a role can also be given as TIDEMARK_<NAME>
    or in tidemark.toml.
    """


@main.command()
@_settings(*_WATCH, *_ASK, "pollers", *_CLASSIFY, "host", "port", "live_max", *_LOG, *_KEEP, *_PROCESS)
def up(settings: Settings) -> None:
    """Start everything on this machine; Ctrl-C stops it in order, losing nothing."""
    from tidemark.supervise import up as supervise_up

    sys.exit(supervise_up(settings))


@main.command()
@_settings(*_WATCH, "classify_interval", *_LOG, *_METRICS, *_PROCESS)
def schedule(settings: Settings) -> None:
    """Put the ticks on the log: which influencers are to be observed now, and which are to be classified.

    Any number of schedulers may run at once: they arrive at the same ticks, and the log keeps one of each.
    """
    from tidemark.schedule.scheduler import schedule as role

    sys.exit(run(settings, "schedule", lambda stop: role(settings, stop)))


@main.command()
@_settings(*_ASK, *_LOG, *_METRICS, *_PROCESS)
def poll(settings: Settings) -> None:
    """Take ticks from the log, ask the API, put the observations on the log.

    Start as many as you like, on as many machines: they share the work, and the others take over when one dies.
    """
    from tidemark.poll.poller import poll as role

    _require_api(settings)
    sys.exit(run(settings, "poll", lambda stop: role(settings, stop)))


@main.command()
@_settings("api", "request_deadline", *_CLASSIFY, *_LOG, *_METRICS, *_PROCESS)
def classify(settings: Settings) -> None:
    """Ask the API who is suspicious, put the verdicts on the log: everybody once a day, a few calls at a time.

    Several on several machines share the work, and the others take over when one dies.
    """
    from tidemark.classify.classifier import classify as role

    _require_api(settings)
    sys.exit(run(settings, "classify", lambda stop: role(settings, stop)))


@main.command()
@_settings(*_WATCH, "classify_interval", "host", "port", "live_max", *_LOG, *_KEEP, "metrics_port", *_PROCESS)
def serve(settings: Settings) -> None:
    """Keep the history and answer the readers: the store, the board, the HTTP API.

    One process for each chdb store. Several on several machines are replicas: each reads the whole log.
    """
    from tidemark.serve.role import serve as role

    sys.exit(run(settings, "serve", lambda stop: role(settings, stop)))


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=int, default=3000, show_default=True, help="The port; 0 picks a free one.")
@click.option("--influencers", default="1000000-1999999", show_default=True, help="The pks that exist, A-B.")
@click.option("--seed", type=int, help="The same counts for the same calls, in each run with this seed.")
@click.option("--max-rps", type=float, default=0.0, help="GETs answered in a second, at most; 0: no bound.")
@click.option(
    "--classify-seconds", type=float, default=10.0, show_default=True, help="A POST takes up to this."
)
@click.option("--classify-exact", is_flag=True, help="A POST takes all of --classify-seconds.")
@click.option("--error-share", type=float, default=0.0, help="Of the GETs, 0 to 1: answered with status 500.")
@click.option("--reset-share", type=float, default=0.0, help="Of the GETs: the connection is reset.")
@click.option("--garbage-share", type=float, default=0.0, help="Of the GETs: answered with what is wrong.")
@click.option("--chunked-share", type=float, default=0.0, help="Of the GETs: answered well, in chunks.")
@click.option("--delay-ms", type=float, default=0.0, help="Added to each GET.")
def simulate(influencers: str, seed: int | None, **options: Any) -> None:
    """A stand-in for the Mockstagram API, with faults on request."""
    from tidemark.simulate import Faults, SimulateOptions
    from tidemark.simulate import serve as role

    faults = {
        name: options.pop(name) for name in tuple(options) if name.endswith("_share") or name == "delay_ms"
    }
    try:
        watched = Population.parse(influencers)
        wanted = SimulateOptions(
            first=watched.first, last=watched.last, seed=seed, faults=Faults(**faults, seed=seed), **options
        )
    except TidemarkError as error:
        complain(error)
        sys.exit(USAGE)
    sys.exit(
        run_until_stopped(lambda stop: role(wanted, stop=stop, ready=lambda url: click.echo(f"ready {url}")))
    )


@main.command()
@_settings("data")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(settings: Settings, as_json: bool) -> None:
    """What is running, coverage, freshness, rates and lag."""
    from tidemark.status import show

    sys.exit(show(settings, as_json))


@main.command("backfill")
@_settings("influencers", "interval", *_KEEP, "data")
@click.option(
    "--days", type=float, default=30.0, show_default=True, help="How long the history is; it ends now."
)
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="The same seed, the same walk."
)
def backfill_command(settings: Settings, days: float, seed: int) -> None:
    """Make up a history, for demonstrations and benchmarks, in a store that has none.

    A random walk like the stand-in's: about 100,000 followers, give or take 10,000 a call, never below 5,000.
    Everything is there that the pipeline would have left: observations, names, closed hours and days, ranks,
    averages, what gains are counted from, verdicts. Then start `tidemark up` or `serve` on the same --data or --store.

    \b
    tidemark backfill --influencers 1000000-1000999 --interval 600      4 million observations, seconds
    tidemark backfill --influencers 1000000-1019999                     864 million, minutes, 2.7 GB

    Nobody else may have the store open. Ctrl-C stops it, and leaves a history that ends earlier.
    """
    from tidemark.backfill.command import run as make

    _told(lambda: make(settings, days, seed))


@main.command("export")
@_settings("store", "store_megabytes", "data")
@click.option("--pk", type=click.IntRange(0, PK_MAX), help="One influencer; without it, everybody.")
@click.option(
    "--from", "from_", default="", help="From when on, RFC 3339 or Unix seconds. Default: all that is kept."
)
@click.option("--to", default="", help="Until when, exclusive. Default: all that there is.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "parquet"]),
    help="Default: as the file's ending says; csv for standard output.",
)
@click.option(
    "--output",
    "-o",
    default="-",
    show_default=True,
    help="A file, or - for standard output; replaced when whole.",
)
def export_command(
    settings: Settings, pk: int | None, from_: str, to: str, form: str | None, output: str
) -> None:
    """Write observations to CSV or Parquet: one influencer's or everybody's, all that are kept or those of some time.

    The columns are pk, observed_at, follower_count, following_count and follower_ratio, the order is that of pk and
    time, and no amount of rows takes more memory. An embedded store must not be open elsewhere: stop `up` or `serve`,
    or ask `serve` itself for one: `/v1/influencers/{pk}/series?step=raw&format=csv&from=...`.
    A ClickHouse server's store may be in use.

    \b
    tidemark export --pk 1000001 > one.csv
    tidemark export --from 2026-01-01 --to 2026-01-02 -o day.parquet
    """
    from tidemark.export.command import run as write

    _told(lambda: write(settings, pk, from_, to, form or "", output))


@main.command("replay")
@_settings("store", "store_megabytes", "data")
def replay_command(settings: Settings) -> None:
    """Have a store take everything that is still on the log once more, after its files were restored from a backup.

    The log remembers how far each store has read, and would go on there: what came between the backup and the damage
    would be missing. From its next start on `serve` reads the log from its beginning (36 hours, unless told otherwise)
    and leaves out what the store has. Nobody else may have the store open.
    """
    from tidemark.store.replay import replay

    _told(
        lambda: click.echo(
            f"{replay(settings)} takes all that is on the log once more when serve starts; rows it has stay single"
        )
    )


@main.group()
def bench() -> None:
    """Measure this machine: each figure in the documents comes from one of these.

    Run them one at a time on an otherwise idle machine, and quote ratios: absolute figures are the machine's.
    """
    # As Ctrl-C does: what a benchmark started is stopped, and its folder removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


_target = click.option(
    "--target",
    "kind",
    type=click.Choice(["auto", "nginx", "stand-in"]),
    default="auto",
    show_default=True,
    help="What is asked: nginx where it is installed, else the stand-in.",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")


def _option(name: str, default: float, text: str) -> Callable[[Command], Command]:
    """A number with a default."""
    return click.option(f"--{name}", type=type(default), default=default, show_default=True, help=text)


def _measured(title: str, as_json: bool, measure: Callable[[], Mapping[str, Any]]) -> None:
    """Measure and report; an error is one line."""
    from tidemark.bench.report import show

    _told(lambda: show(title, measure(), as_json))


def _range(influencers: str) -> str:
    """The same, when it is a range of pks. Raises CallerError."""
    return str(Population.parse(influencers))


def _progress(text: str) -> None:
    click.echo(text, err=True)


@bench.command("machine")
@_target
@_as_json
def bench_machine(kind: str, as_json: bool) -> None:
    """What the machine can do at all: a core alone, all of them at once, and wrk. Begin with this one."""
    from tidemark.bench.machine import measure

    _measured("machine", as_json, lambda: measure(kind))


@bench.command("fetch")
@_option("seconds", 5.0, "Seconds of each run.")
@_option("rounds", 5, "Runs of each, in alternation.")
@_target
@_as_json
def bench_fetch(seconds: float, rounds: int, kind: str, as_json: bool) -> None:
    """The poller's client alone, beside wrk against the same server."""
    from tidemark.bench.fetch import measure

    _measured("fetch", as_json, lambda: measure(seconds, rounds, kind))


@bench.command("e2e")
@_option("seconds", 20.0, "Seconds of each run, after a warm-up.")
@_option("rounds", 3, "Runs of each, in alternation.")
@_option("pollers", 1, "Poller processes.")
@_target
@_as_json
def bench_e2e(seconds: float, rounds: int, pollers: int, kind: str, as_json: bool) -> None:
    """From the API to a row in the store and on the board, as fast as it goes, beside wrk."""
    from tidemark.bench.e2e import measure

    _measured("e2e", as_json, lambda: measure(seconds, rounds, kind, pollers))


@bench.command("steady")
@_option("minutes", 10, "Minutes, after a warm-up of one.")
@click.option("--influencers", default="1000000-1999999", show_default=True, help="The pks to watch.")
@_option("pipeline", 1, "Requests in flight on one connection.")
@_as_json
def bench_steady(minutes: int, influencers: str, pipeline: int, as_json: bool) -> None:
    """A million influencers every minute: coverage, freshness, CPU, memory."""
    from tidemark.bench.steady import measure

    _measured("steady", as_json, lambda: measure(minutes, _range(influencers), pipeline, _progress))


@bench.command("read")
@_option("seconds", 10.0, "Seconds of each run.")
@_option("rounds", 3, "Runs of each, in alternation.")
@_as_json
def bench_read(seconds: float, rounds: int, as_json: bool) -> None:
    """Latest values and a day's series over HTTP, while a million influencers are written every minute."""
    from tidemark.bench.read import measure

    _measured("read", as_json, lambda: measure(seconds, rounds, _progress))


@bench.command("live")
@_option("streams", 10_000, "Live streams, of an influencer each.")
@_option("stuck", 100, "Further ones that never read.")
@_option("seconds", 180.0, "Seconds of the run, after a warm-up of more than a minute.")
@click.option("--influencers", default="1000000-1999999", show_default=True, help="The pks to watch.")
@click.option("--stats", is_flag=True, help="Each stream has the statistics too, once a second.")
@_as_json
def bench_live(
    streams: int, stuck: int, seconds: float, influencers: str, stats: bool, as_json: bool
) -> None:
    """Live streams while a million influencers are written every minute: delay, what was missed, CPU, memory."""
    from tidemark.bench.live import measure

    _measured(
        "live", as_json, lambda: measure(streams, stuck, seconds, _range(influencers), stats, _progress)
    )


@bench.command("storage")
@_option("influencers", 10_000, "Influencers to write.")
@_option("minutes", 1_440, "Minutes of history of each.")
@_as_json
def bench_storage(influencers: int, minutes: int, as_json: bool) -> None:
    """Bytes an observation takes in the store, beside the entropy of what was written."""
    from tidemark.bench.storage import measure

    _measured("storage", as_json, lambda: measure(influencers, minutes))


@bench.command("merges")
@_option("blocks", 1_000, "Blocks to insert, 16,667 observations each, ten a second.")
@_option("rounds", 1, "Runs of each, in alternation.")
@_as_json
def bench_merges(blocks: int, rounds: int, as_json: bool) -> None:
    """What it costs to merge sooner than ClickHouse does by itself, and how many parts are left to read."""
    from tidemark.bench.merges import measure

    _measured("merges", as_json, lambda: measure(blocks, rounds))


@bench.command("encoding")
@_as_json
def bench_encoding(as_json: bool) -> None:
    """A batch on the log in one encoding and another: bytes and time."""
    from tidemark.bench.encoding import measure

    _measured("encoding", as_json, measure)


@bench.command("classify")
@_option("seconds", 60.0, "Seconds of the run.")
@_option(
    "pairs", 0, "Also so many turns of the pipeline with and without the classification, 2 seconds a pair."
)
@_target
@_as_json
def bench_classify(seconds: float, pairs: int, kind: str, as_json: bool) -> None:
    """Verdicts a second when each takes ten seconds, what that costs, and whether the polling notices."""
    from tidemark.bench.classify import measure, measure_impact

    def both() -> Mapping[str, Any]:
        return measure(seconds) | ({"impact": measure_impact(pairs, kind)} if pairs else {})

    _measured("classify", as_json, both)


@bench.command("scale")
@_option("seconds", 30.0, "Seconds of each run, after a warm-up.")
@_option("rounds", 3, "Runs of each number of pollers.")
@click.option(
    "--pollers", default="1,2,4,8", show_default=True, help="How many poller hosts; as many API hosts."
)
@_option("pipeline", 8, "Requests in flight on one connection to the API.")
@_option("seed", 1, "Of the order of the runs.")
@click.option("--svg", type=click.Path(path_type=Path), help="Draw the plot into this file.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Write the table into this file.")
@_as_json
def bench_scale(
    seconds: float,
    rounds: int,
    pollers: str,
    pipeline: int,
    seed: int,
    svg: Path | None,
    markdown: Path | None,
    as_json: bool,
) -> None:
    """1, 2, 4 and 8 machines: hosts in network namespaces, a NATS cluster of three, two replicas. Needs root."""
    from tidemark.bench import scale
    from tidemark.bench.plot import draw

    def work() -> None:
        report = scale.measure(seconds, rounds, scale.parse_sizes(pollers), pipeline, seed, _progress)
        if svg:
            svg.write_text(draw(report))
        if markdown:
            markdown.write_text(scale.markdown(report))
        if as_json:
            click.echo(json.dumps(report))
        else:
            scale.show(report)

    _told(work)


@bench.command("log")
@_option("seconds", 5.0, "Seconds of each run.")
@_as_json
def bench_log(seconds: float, as_json: bool) -> None:
    """Batches that a NATS cluster of three takes, each on the disk before it is acknowledged. Needs root."""
    from tidemark.bench.log import measure

    _measured("log", as_json, lambda: measure(seconds))


@bench.command("model")
@_as_json
def bench_model(as_json: bool) -> None:
    """What 1M, 10M and 100M influencers need of each resource, from measured coefficients. Measures nothing."""
    from tidemark.bench.model import Coefficients, markdown, table

    click.echo(json.dumps(table(Coefficients())) if as_json else markdown(Coefficients()), nl=as_json)


@bench.command("board")
@_as_json
def bench_board(as_json: bool) -> None:
    """The board with a million influencers: memory, and the time of a batch, a view, a rank."""
    from tidemark.bench.board import measure

    _measured("board", as_json, measure)
