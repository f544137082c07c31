"""How does one computer become several hosts? Each is a network namespace; a bridge joins them like a switch.

A host has an address, a name that all others know, and a cable that can be pulled. It shares the processors, the
disk and the clock with the others: what is separate is the network, so that nothing is reached by loopback.

The switch is a namespace too: no firewall rules and no forwarding of the computer apply to what goes through it.
The addresses are from 198.18.0.0/15, which RFC 2544 sets aside for benchmarks: no network has them.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tidemark.errors import CallerError
from tidemark.supervise import leash

NETS: Final = tuple(f"198.{second}.{third}" for second in (18, 19) for third in range(256))
HOSTS_MAX: Final = 253
"""Addresses of a net, without its own, the broadcast and ours."""
OURS: Final = 254
"""The last byte of the address at which the computer itself is on the switch."""
NAME_MAX: Final = 13
"""Linux takes names of interfaces of up to 15 characters."""
ETC: Final = Path("/etc/netns")
"""What lies here under the name of a namespace replaces a file of /etc in it (ip-netns(8))."""
PRIVILEGED: Final = "run it with sudo, or in a container with --privileged"
KILL_SECONDS: Final = 5.0
CALL_SECONDS: Final = 20.0

_LEASH: Final = (sys.executable, "-I", "-S", leash.__file__)
_OWN: Final = re.compile(r"tidemark-(?P<pid>\d+)-\d+-")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Host:
    """A namespace with one cable to the switch."""

    name: str
    namespace: str
    address: str
    switch: str
    """The namespace of the switch; the port there has the name of the host."""

    @property
    def computer(self) -> str:
        """The address of the computer itself, as the hosts see it."""
        return f"{self.address.rpartition('.')[0]}.{OURS}"

    def start(
        self, command: Sequence[str], variables: Mapping[str, str], output: IO[str]
    ) -> subprocess.Popen[str]:
        """Start a program on this host; it ends with us. Both outputs go to `output`."""
        inside = (_ip_program(), "netns", "exec", self.namespace, *command)
        return subprocess.Popen(
            [*_LEASH, str(os.getpid()), *inside],
            env=dict(variables),
            cwd=Path(output.name).parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
        )

    def unplug(self) -> None:
        """Pull the cable: nothing comes in or goes out, and nobody is told."""
        _ip("-n", self.switch, "link", "set", "dev", self.name, "down")

    def plug(self) -> None:
        """Put the cable back."""
        _ip("-n", self.switch, "link", "set", "dev", self.name, "up")


def traffic(made: Iterable[Host]) -> dict[str, tuple[int, int]]:
    """Bytes that went out of each host and came into it so far, whole frames, by its name."""
    found: dict[str, tuple[int, int]] = {}
    for switch in {host.switch for host in made}:
        for port in json.loads(_ip("-n", switch, "-statistics", "-json", "link", "show")):
            count = port["stats64"]
            found[port["ifname"]] = (count["rx"]["bytes"], count["tx"]["bytes"])
    return found


@contextmanager
def hosts(*names: str) -> Iterator[dict[str, Host]]:
    """Hosts with these names, by name; in the end they are gone with everything that runs on them.

    Whatever an earlier process left that was killed is cleaned up first. Raises CallerError where this computer
    or this user cannot do it.
    """
    if len(names) > HOSTS_MAX or any(not 0 < len(name) <= NAME_MAX for name in names):
        raise CallerError(
            f"{len(names)} hosts: at most {HOSTS_MAX}, with names of at most {NAME_MAX} characters"
        )
    check()
    clean_up()
    prefix = f"tidemark-{os.getpid()}-{next(_numbers)}-"
    try:
        yield _build(prefix, names)
    finally:
        _remove([name for name in _namespaces() if name.startswith(prefix)])


def check() -> None:
    """Raises CallerError, with what to do, where hosts cannot be made."""
    if reason := impossible():
        raise CallerError(reason)


def impossible() -> str | None:
    """Why no hosts can be made here, with what to do; None where they can."""
    try:
        _ip_program()
    except CallerError as error:
        return str(error)
    if os.geteuid() != 0:
        return f"hosts are network namespaces, which only root can make: {PRIVILEGED}"
    probe = f"tidemark-{os.getpid()}-0-probe"
    try:
        _ip("netns", "add", probe)
        _ip("netns", "delete", probe)
    except CallerError as error:
        return f"{error}; hosts are network namespaces, which root in a container may not make: {PRIVILEGED}"
    return None


def clean_up() -> None:
    """Remove the namespaces, and what runs in them, of processes of ours that are gone."""
    owned = [(name, found["pid"]) for name in _namespaces() if (found := _OWN.match(name))]
    _remove([name for name, pid in owned if not Path(f"/proc/{pid}").exists()])


def _build(prefix: str, names: Sequence[str]) -> dict[str, Host]:
    net = _free_net()
    switch = f"{prefix}-switch"  # no host's name begins with a hyphen
    made = {
        name: Host(name, f"{prefix}{name}", f"{net}.{place}", switch) for place, name in enumerate(names, 1)
    }
    _ip("netns", "add", switch)
    _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
    _ip("-n", switch, "link", "set", "bridge", "up")
    known = "".join(f"{host.address} {host.name}\n" for host in made.values())
    for host in made.values():
        etc = ETC / host.namespace
        etc.mkdir(parents=True, exist_ok=True)
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n{known}")
        _ip("netns", "add", host.namespace)
        _ip(
            "-n",
            switch,
            "link",
            "add",
            "name",
            host.name,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            host.namespace,
        )
        _ip("-n", switch, "link", "set", "dev", host.name, "master", "bridge", "up")
        _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
        for interface in ("lo", "eth0"):
            _ip("-n", host.namespace, "link", "set", interface, "up")
    ours = f"td{os.getpid()}"
    _ip("link", "add", "name", ours, "type", "veth", "peer", "name", "ours", "netns", switch)
    _ip("-n", switch, "link", "set", "ours", "master", "bridge", "up")
    _ip("address", "add", f"{net}.{OURS}/24", "dev", ours)
    _ip("link", "set", ours, "up")
    return made


def _remove(namespaces: Sequence[str]) -> None:
    """With everything that runs there. Never fails: what cannot be removed now, the next start removes."""
    give_up_at = time.monotonic() + KILL_SECONDS
    while pids := [pid for name in namespaces for pid in _pids(name)]:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > give_up_at:
            break
        time.sleep(0.02)
    for name in namespaces:
        with suppress(CallerError):
            _ip("netns", "delete", name)
        shutil.rmtree(ETC / name, ignore_errors=True)
    with suppress(OSError):
        ETC.rmdir()  # if nobody else has anything there


def _pids(namespace: str) -> list[int]:
    with suppress(CallerError):
        return [int(pid) for pid in _ip("netns", "pids", namespace).split()]
    return []


def _namespaces() -> list[str]:
    return [name for name in _ip("netns", "list").split() if name.startswith("tidemark-")]


def _free_net() -> str:
    """The first net of which this computer has no address."""
    taken = {
        address["local"].rpartition(".")[0]
        for interface in json.loads(_ip("-json", "-4", "address", "show"))
        for address in interface.get("addr_info", ())
    }
    return next(net for net in NETS if net not in taken)


def _ip_program() -> str:
    program = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise CallerError("the program ip is not installed: apt-get install iproute2")
    return program


def _ip(*arguments: str) -> str:
    done = subprocess.run(
        [_ip_program(), *arguments], capture_output=True, text=True, check=False, timeout=CALL_SECONDS
    )
    if done.returncode:
        raise CallerError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout
