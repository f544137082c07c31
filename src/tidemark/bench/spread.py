"""How does Tidemark run spread over several hosts? A cluster of three NATS servers, and roles where one wants them."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

import psutil

from tidemark.bench.fleet import Usage
from tidemark.bench.hosts import Host, hosts
from tidemark.errors import TidemarkError
from tidemark.supervise.nats_server import find_program
from tidemark.supervise.orders import TIDEMARK, plain_environment

NATS_HOSTS: Final = ("n1", "n2", "n3")
"""The names in nats-server.conf."""
API_PORT: Final = 3_000
HTTP_PORT: Final = 8_000
START_SECONDS: Final = 100.0
STOP_SECONDS: Final = 60.0
CALL_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.1
LAST_WORDS_CHARACTERS: Final = 2_000

_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(slots=True)
class Running:
    """A process on a host."""

    role: str
    host: Host
    process: subprocess.Popen[str]
    log: Path

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def said(self) -> str:
        """The end of what it wrote."""
        return self.log.read_text(errors="replace")[-LAST_WORDS_CHARACTERS:]

    def kill(self) -> None:
        """SIGKILL, as when the power fails."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, and the exit status. Raises TidemarkError when it does not end in time."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise TidemarkError(f"{self.role} on {self.host.name} does not stop: {self.said()}") from error


@dataclass(slots=True)
class Spread:
    """What runs on which host."""

    hosts: Mapping[str, Host]
    folder: Path
    running: list[Running] = field(default_factory=list)
    token: str = field(default_factory=lambda: f"t{secrets.token_hex(16)}", repr=False)
    _opened: int = 0

    @property
    def nats_urls(self) -> list[str]:
        """The NATS servers, as a program on the computer itself reaches them."""
        return [f"nats://{self.token}@{self.hosts[name].address}:4222" for name in NATS_HOSTS]

    def start(self, role: str, host: str, *flags: str) -> Running:
        """Start a role of Tidemark on a host; its data folder is that of the host."""
        variables = plain_environment() | {
            "TIDEMARK_NATS": ",".join(f"nats://{self.token}@{name}:4222" for name in NATS_HOSTS),
            "TIDEMARK_REPLICAS": str(len(NATS_HOSTS)),
            "TIDEMARK_DATA": str(self.folder / host),
        }
        if role == "simulate":  # which is not ours and reads no settings
            variables = plain_environment()
        return self._start(role, host, (*TIDEMARK, role, *flags), variables)

    def start_nats(self) -> list[Running]:
        """The cluster, from the file that operators use."""
        return [self.start_nats_on(host) for host in NATS_HOSTS]

    def start_nats_on(self, host: str) -> Running:
        """One server of it; its files are kept from one start to the next."""
        data = self.folder / host / "nats"
        data.mkdir(parents=True, exist_ok=True)
        variables = plain_environment() | {
            "NATS_NAME": host,
            "NATS_TOKEN": self.token,
            "NATS_DATA": f'"{data}"',
            "NATS_ROUTES": str([f"nats://route:{self.token}@{name}:6222" for name in NATS_HOSTS]),
        }
        with as_file(files("tidemark.log") / "nats-server.conf") as config:
            command = (str(find_program()), "--config", str(config))
            return self._start("nats", host, command, variables)

    def start_api(self, host: str, *flags: str) -> str:
        """The stand-in, on a host; its address."""
        name = self.hosts[host].name
        self.start("simulate", host, "--host", "0.0.0.0", "--port", str(API_PORT), *flags)  # noqa: S104
        return f"http://{name}:{API_PORT}"

    def start_serve(self, host: str, *flags: str) -> Running:
        """A replica, on a host."""
        address = self.hosts[host].address
        return self.start("serve", host, "--host", address, "--port", str(HTTP_PORT), *flags)

    def _start(self, role: str, host: str, command: tuple[str, ...], variables: Mapping[str, str]) -> Running:
        self._opened += 1
        folder = self.folder / host
        folder.mkdir(exist_ok=True)
        log = folder / f"{role}-{self._opened}.log"
        with log.open("w") as output:
            process = self.hosts[host].start(command, variables, output)
        started = Running(role, self.hosts[host], process, log)
        self.running.append(started)
        return started

    def await_ready(self, *processes: Running) -> None:
        """Until each has said that it is ready. Raises TidemarkError when one ends, or does not in time."""
        for process in processes:
            self.until(
                lambda process=process: "ready http" in process.log.read_text(errors="replace"),  # type: ignore[misc]
                f"{process.role} on {process.host.name}",
            )

    def until(self, reached: Callable[[], object], what: str, seconds: float = START_SECONDS) -> None:
        """Wait for a condition; connections that fail meanwhile count as not yet. Raises TidemarkError."""
        give_up_at = time.monotonic() + seconds
        while time.monotonic() < give_up_at:
            try:
                if reached():
                    return
            except (OSError, urllib.error.URLError, ValueError):
                pass
            time.sleep(LOOK_SECONDS)
        said = [
            f"{one.role} on {one.host.name}{'' if one.alive else ' (ended)'}: {one.said().strip()}"
            for one in self.running
            if one.role not in ("nats", "simulate") and one.said().strip()
        ]
        raise TidemarkError("\n".join([f"{what} did not come within {seconds:.0f} s", *said]))

    def get(self, host: str, path: str) -> Any:
        """The JSON of a GET from the replica on a host."""
        return json.loads(self.read(host, path))

    def read(self, host: str, path: str) -> bytes:
        """The body of a GET from the replica on a host."""
        return self.read_url(f"http://{self.hosts[host].address}:{HTTP_PORT}{path}")

    def read_url(self, url: str) -> bytes:
        """The body of a GET."""
        with _direct.open(url, timeout=CALL_SECONDS) as answer:
            body: bytes = answer.read()
            return body

    def usage(self) -> Usage:
        """CPU and memory of every process so far, by role."""
        cpu_s: dict[str, float] = defaultdict(float)
        rss: dict[str, int] = defaultdict(int)
        for one in self.running:
            try:
                process = psutil.Process(one.process.pid)
                times = process.cpu_times()
                cpu_s[one.role] += times.user + times.system
                rss[one.role] += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return Usage(time.monotonic(), dict(cpu_s), dict(rss))


@contextmanager
def spread(folder: Path, *names: str) -> Iterator[Spread]:
    """Hosts with these names and n1, n2, n3; everything on them is killed in the end. Raises CallerError."""
    with hosts(*NATS_HOSTS, *names) as made:
        fleet = Spread(made, folder)
        try:
            yield fleet
        finally:
            for one in fleet.running:
                one.process.kill()
            for one in fleet.running:
                one.process.wait()
