"""What did the operator ask for?

One frozen object. A value comes from, in this order: the flag, the `TIDEMARK_*` variable, the file
`tidemark.toml` (or the one `TIDEMARK_CONFIG` names), the default. The flags of the command line are
made from the fields here, so a name and its help text stand once.
"""

from __future__ import annotations

import difflib
import os
import re
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from tidemark.errors import CallerError
from tidemark.population import Population

CONFIG_FILE: Final = "tidemark.toml"
API_MAX_CHARACTERS: Final = 1_000
"""It stands in each request."""
DAYS_MIN: Final = 3
"""The log keeps late observations for two days, and their hour is computed anew from the raw rows."""
DAYS_MAX: Final = 10_000
"""ClickHouse servers before the pull request 102020, of 2026, compute in 32 bits when a row's time is up. Beyond 2106
that wraps into the past, and all rows go at once; the embedded engine computes wider."""


def _listed(value: Any) -> Any:
    """Addresses behind each other, as `http://a,http://b`, become a list, also where they are one of several."""
    if isinstance(value, list | tuple):
        return tuple(part for text in value for part in (_listed(text) if isinstance(text, str) else (text,)))
    if not isinstance(value, str):
        return value
    # A comma may stand in a password.
    return tuple(part.strip() for part in re.split(r",(?=\s*(?:\w+://|,|$))", value) if part.strip())


def _api_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "https":
        raise ValueError(
            f"{without_secrets(url)!r}: the API is asked over plain HTTP; put a proxy that speaks TLS to it"
            " (nginx, HAProxy, stunnel) near the pollers, and name that"
        )
    # It becomes part of each request.
    sendable = url.isascii() and url.isprintable() and not set(url) & set(" @?#")
    if parts.scheme != "http" or not parts.hostname or not sendable:
        raise ValueError(f"{without_secrets(url)!r} is no API address; write it as http://host:port")
    if _port(url, parts) == 0:
        raise ValueError(f"{without_secrets(url)!r} has port 0")
    if len(url) > API_MAX_CHARACTERS:
        raise ValueError(f"{without_secrets(url)[:40]!r}... has more than {API_MAX_CHARACTERS} characters")
    return url.rstrip("/")


def http_url(host: str, port: int) -> str:
    """The address of what listens there; an IPv6 address stands in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def without_secrets(url: str) -> str:
    """An address for messages: what stands before its last @, a token or a user and a password, is left out."""
    return re.sub(r"^(\w+://)?.*@", r"\1...@", url, flags=re.DOTALL)


def _port(url: str, parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:  # not in its words: what it takes for a port may be a part of the password
        raise ValueError(f"{without_secrets(url)!r} has no number from 0 to 65535 for a port") from None


def _nats_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("nats", "tls") or not parts.hostname or _port(url, parts) == 0:
        raise ValueError(f"{without_secrets(url)!r} is no NATS address; write it as nats://host:4222")
    return url


def _interval(seconds: float) -> float:
    if 0 < seconds < 1:
        raise ValueError(
            "observations are kept by the second: give 1 or more, or 0 for as fast as the API allows"
        )
    return seconds


def _population(text: str) -> str:
    try:
        return str(Population.parse(text))
    except CallerError as error:
        raise ValueError(str(error)) from error


def _days(days: int) -> int:
    if days and not DAYS_MIN <= days <= DAYS_MAX:
        raise ValueError(
            f"rows are kept for {DAYS_MIN} to {DAYS_MAX:,} days, not {days:,}, or for ever with 0"
        )
    return days


def _host(host: str) -> str:
    if not host.strip():
        raise ValueError(
            "which address to listen on? 127.0.0.1 for this machine only, 0.0.0.0 for all that can reach it"
        )
    return host


def _store_dsn(dsn: str) -> str:
    if dsn and urlsplit(dsn).scheme not in ("chdb", "clickhouse", "clickhouses"):
        raise ValueError(
            f"{without_secrets(dsn)!r} is no store; write chdb:///path or clickhouse://user:password@host:8123"
        )
    return dsn


Urls = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
Days = Annotated[int, AfterValidator(_days)]


class Settings(BaseSettings):
    """Everything that can be set. Durations are seconds unless a name says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix="TIDEMARK_", frozen=True, extra="forbid", env_ignore_empty=True
    )

    # What to watch
    api: Annotated[Urls, AfterValidator(lambda urls: tuple(_api_url(url) for url in urls))] = Field(
        (),
        description="A Mockstagram address, http://host:port; repeatable. Without one `up` starts the stand-in.",
    )
    influencers: Annotated[str, AfterValidator(_population)] = Field(
        "1000000-1999999", description="The pks to watch, A-B, both inclusive."
    )
    interval: Annotated[float, AfterValidator(_interval)] = Field(
        60,
        ge=0,
        le=86_400,
        description="Seconds between two observations of one influencer; 0: as fast as the API goes."
        " Everybody's turn is at a fixed time of the clock: with 86400 the first may come a day after the start.",
    )

    # Where things are
    nats: Annotated[Urls, AfterValidator(lambda urls: tuple(_nats_url(url) for url in urls))] = Field(
        (),
        description="A NATS address, nats://host:4222; repeatable. `up` without it starts a server on loopback.",
    )
    replicas: int = Field(1, ge=1, le=5, description="Copies of the log in a NATS cluster; 3 for a fleet.")
    data: Path = Field(Path("tidemark-data"), description="The folder for everything that is kept.")
    store: Annotated[str, AfterValidator(_store_dsn)] = Field(
        "", description="chdb:///path or clickhouse://user:password@host:8123. Default: chdb in <data>/store."
    )
    host: Annotated[str, AfterValidator(_host)] = Field(
        "127.0.0.1", description="The address to listen on, for the HTTP API and for a role's own /metrics."
    )
    port: int = Field(8000, ge=0, le=65_535, description="The port of the HTTP API; 0 picks a free one.")
    live_max: int = Field(
        12_000, ge=0, le=1_000_000, description="The most live streams that one `serve` keeps open at once."
    )
    metrics_port: int = Field(
        0, ge=0, le=65_535, description="The port of a role's own /metrics; 0 picks a free one."
    )

    # How hard to ask
    pollers: int = Field(1, ge=1, le=64, description="Poller processes that `up` starts.")
    pipeline: int = Field(1, ge=1, le=64, description="Requests in flight on one connection to the API.")
    max_in_flight: int = Field(
        512, ge=1, le=16_384, description="The most requests in flight to one API address, from one poller."
    )
    max_rps: float = Field(
        0,
        ge=0,
        le=10_000_000,
        description="Never poll the API for more than so many a second: this poller, or all of `up` together; 0: no"
        " bound. The classification asks beside it, two requests for each verdict.",
    )
    request_deadline: float = Field(
        5, gt=0, le=300, description="Seconds after which a request counts as lost."
    )

    # Who is suspicious
    classify_concurrency: int = Field(
        128,
        ge=0,
        le=4_096,
        description="Calls for a verdict in flight at once, for each classifier; 0: none.",
    )
    classify_interval: float = Field(
        86_400, ge=1, le=604_800, description="Seconds between two verdicts on one influencer."
    )
    classify_deadline: float = Field(
        15, gt=0, le=300, description="Seconds after which a call for a verdict counts as lost."
    )

    # How long to keep
    log_hours: float = Field(
        48, ge=0.1, le=24 * 30, description="Hours that the log keeps batches for readers that are away."
    )
    log_gigabytes: float = Field(24, ge=0.1, le=100_000, description="The most disk that the log takes.")
    raw_days: Days = Field(30, description="Days that single observations are kept; 0: for ever.")
    hourly_days: Days = Field(400, description="Days that hourly figures are kept; 0: for ever.")
    daily_days: Days = Field(3_650, description="Days that daily figures are kept; 0: for ever.")
    store_megabytes: int = Field(
        900, ge=256, le=1_000_000, description="The most memory that the embedded store takes."
    )

    # How to speak
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="Log lines for people or as JSON; auto: console."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least that is logged."
    )

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_true_or_false(cls, values: Any) -> Any:
        # They would be taken for 1 and 0.
        for name, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, bool):
                raise ValueError(f"setting {name}: no setting is true or false; {cls._described(name)}")
        return values

    @classmethod
    def _described(cls, name: str) -> str:
        field = cls.model_fields.get(name)
        return f"it is: {field.description}" if field else "there is none of that name"

    @model_validator(mode="after")
    def _rows_outlive_the_log(self) -> Self:
        if self.raw_days and self.log_hours > 24 * (self.raw_days - 1):
            raise ValueError(
                f"a log of {self.log_hours:g} hours brings observations that --raw-days {self.raw_days} drops before"
                f" they are rolled up: give --raw-days {ceil(self.log_hours / 24) + 1}, or a shorter --log-hours"
            )
        return self

    @property
    def population(self) -> Population:
        """The watched influencers."""
        return Population.parse(self.influencers)

    @property
    def store_dsn(self) -> str:
        """The store's address, with the default filled in."""
        return self.store or f"chdb://{(self.data / 'store').resolve()}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then variables, then the file."""
        path = Path(os.environ.get("TIDEMARK_CONFIG") or CONFIG_FILE)
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=path)


def load(**flags: Any) -> Settings:
    """The settings, with the given flags on top. Raises CallerError with one line that names the setting."""
    named = os.environ.get("TIDEMARK_CONFIG")
    if named and not Path(named).is_file():
        raise CallerError(f"TIDEMARK_CONFIG names {named}, which is no file")
    if not named and Path(CONFIG_FILE).is_dir():
        raise CallerError(f"{CONFIG_FILE} is a folder here, and ought to be a file of settings: rename it")
    _refuse_unknown_variables()
    try:
        return Settings(**flags)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, Settings.model_fields, 1)
            meant = f"; do you mean {near[0]}?" if near else ";"
            raise CallerError(
                f"{name!r} in {named or CONFIG_FILE} is no setting of Tidemark{meant} `tidemark up --help` lists them"
            ) from error
        told = first["msg"].removeprefix("Value error, ")
        if first["type"].endswith("_type"):  # in Python's words
            given = without_secrets(repr(first["input"]))
            told = f"{given} cannot be that; {Settings._described(str(first['loc'][0]))}"
        raise CallerError(f"setting {name}: {told}" if name else told) from error
    except (OSError, ValueError) as error:  # no right to read it; TOML that does not parse
        raise CallerError(f"cannot read {named or CONFIG_FILE}: {error}") from error


def _refuse_unknown_variables() -> None:
    known = {f"TIDEMARK_{name.upper()}" for name in Settings.model_fields} | {"TIDEMARK_CONFIG"}
    for name in os.environ:
        if name.startswith("TIDEMARK_") and name not in known:
            raise CallerError(
                f"the variable {name} is no setting of Tidemark; `tidemark up --help` lists them"
            )
