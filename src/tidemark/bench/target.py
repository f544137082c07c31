"""What is asked in a benchmark, and how fast can it be asked at all? nginx or the stand-in, and wrk.

nginx answers each GET from its configuration, with the pk from the URL: the cheapest server there is, so that
the client is what is measured. Its counts change with every call: of counts that stay, ten million rows take so few
bytes that ClickHouse takes them for a small part and merges them again and again, 19 times in 100 s instead of 5.
Where nginx is not installed, the stand-in takes its place, and the report says so.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidemark.errors import CallerError
from tidemark.population import Population

CONNECTIONS: Final = 64
START_SECONDS: Final = 15
PK: Final = 1_000_001
POPULATION: Final = Population(1_000_000, 1_999_999)
"""The million that benchmarks watch."""

_NGINX: Final = """\
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; multi_accept on; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  default_type application/json;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    {verdicts}
    location ~ ^/api/v1/influencers/(?<pk>[0-9]+)$ {{
      return 200 '{{"pk":$pk,"username":"influencer-$pk",{counts}}}';
    }}
  }}
}}
"""

_COUNTS: Final = '"followerCount":$connection_requests,"followingCount":1$connection_requests'
"""How many requests the connection had: what nginx has that changes with every call."""
_VERDICTS: Final = "location = /api/v1/influencers/is_suspicious {{ proxy_pass {url}; }}"


@dataclass(frozen=True, slots=True)
class Target:
    """A running API."""

    kind: str
    """nginx or stand-in."""
    url: str
    pid: int


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def target(kind: str = "auto", verdicts_from: str | None = None) -> Iterator[Target]:
    """Start nginx (`auto` prefers it) or the `stand-in`, and stop it in the end.

    nginx answers GETs only; for verdicts it asks the address `verdicts_from`.
    """
    nginx = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if kind == "nginx" and not nginx:
        raise CallerError("nginx is not installed: apt-get install nginx-light, or choose --target stand-in")
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as folder:
        port = free_port()
        if nginx and kind != "stand-in":
            config = Path(folder) / "nginx.conf"
            verdicts = _VERDICTS.format(url=verdicts_from) if verdicts_from else ""
            config.write_text(_NGINX.format(folder=folder, port=port, verdicts=verdicts, counts=_COUNTS))
            command = [nginx, "-c", str(config)]
            kind = "nginx"
        else:
            command = [sys.executable, "-m", "tidemark", "simulate", "--port", str(port)]
            kind = "stand-in"
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _await_port(port, process)
            yield Target(kind, f"http://127.0.0.1:{port}", process.pid)
        finally:
            process.terminate()
            process.wait(10)


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    give_up_at = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up_at and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise CallerError(f"the target of the benchmark did not start on port {port}")


def wrk_per_second(
    url: str, seconds: float, connections: int = CONNECTIONS, path: str | None = None
) -> float:
    """Requests a second that wrk gets answered, one in flight on each of its connections."""
    return wrk(url, seconds, connections, path).per_second


def ratios_to_wrk(rates: Sequence[float], wrk_rates: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest of the ratios of runs to the run of wrk before each of them."""
    ratios = [rate / wrk_rate for rate, wrk_rate in zip(rates, wrk_rates, strict=True)]
    return {"ratioToWrk": statistics.median(ratios), "ratioMin": min(ratios), "ratioMax": max(ratios)}


@dataclass(frozen=True, slots=True)
class Wrk:
    """What wrk said."""

    per_second: float
    p50_ms: float
    p99_ms: float


def wrk(
    url: str,
    seconds: float,
    connections: int = CONNECTIONS,
    path: str | None = None,
    script: str | None = None,
) -> Wrk:
    """Run wrk with one thread. Raises CallerError when it is missing or says nothing."""
    program = shutil.which("wrk")
    if not program:
        raise CallerError("wrk is not installed: apt-get install wrk")
    command = [program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        if script:
            file.write(script)
            file.flush()
            command += ["-s", file.name]
        address = url + (f"/api/v1/influencers/{PK}" if path is None else path)
        said = subprocess.run([*command, address], capture_output=True, text=True, check=False).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    p50, p99 = (re.search(rf"\s{share}%\s+([\d.]+)(us|ms|s)", said) for share in (50, 99))
    if not (rate and p50 and p99):
        raise CallerError(f"wrk said nothing of use: {said.strip()[:200]}")
    units = {"us": 0.001, "ms": 1.0, "s": 1_000.0}
    return Wrk(float(rate[1]), float(p50[1]) * units[p50[2]], float(p99[1]) * units[p99[2]])
