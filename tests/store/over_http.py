"""ClickHouse's HTTP interface, as far as clickhouse-connect uses it, over chDB: for the tests of `clickhouse://`.

The engine and the client are the real ones; between them stands this instead of ClickHouse's own server, which no
package index has. It keeps no sessions, checks no passwords, and runs one statement at a time.

    python tests/store/over_http.py FOLDER

prints its port. It ends with its standard input. Where FOLDER/cut-off exists, the next insert of observations is cut
off: its connection breaks, and it is carried out when the one after it has come, as late as it can be.

Protocol: https://clickhouse.com/docs/interfaces/http
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import chdb

NO_SETTINGS = {
    *("query", "database", "default_format", "query_id", "session_id", "session_timeout"),
    *("client_protocol_version", "wait_end_of_query", "buffer_size", "compress", "decompress"),
}
"""Parameters of the interface itself; all others are settings."""


class Engine:
    """One chDB, one statement at a time."""

    def __init__(self, folder: Path) -> None:
        connect: Any = chdb.connect  # it has no types
        self._connection = connect(str(folder / "store"))
        self._lock = threading.Lock()
        self._cut_off = folder / "cut-off"
        self._held: list[tuple[str, dict[str, str], bytes]] = []

    def run(self, statement: str, parameters: dict[str, str], data: bytes) -> bytes | None:
        """What it answers; None when the connection is to break. Raises what chDB does."""
        with self._lock:
            if re.match(r"INSERT INTO `?observations\b", statement):
                if self._cut_off.exists():
                    self._cut_off.unlink()
                    self._held.append((statement, parameters, data))
                    return None
                for held in self._held:
                    self._run(*held)
                self._held.clear()
            return self._run(statement, parameters, data)

    def _run(self, statement: str, parameters: dict[str, str], data: bytes) -> bytes:
        if database := parameters.get("database"):
            self._connection.query(f"USE `{database}`")
        settings = {
            name: value
            for name, value in parameters.items()
            if name not in NO_SETTINGS and not name.startswith("param_")
        }
        for name, value in settings.items():
            self._connection.query(f"SET {name} = '{value}'")
        bound = {name.removeprefix("param_"): value for name, value in parameters.items() if "param_" in name}
        form = parameters.get("default_format", "TabSeparated")
        if not data:
            return self._connection.query(statement, form, params=bound).bytes() or b""
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            before, format_, name = statement.rpartition(" FORMAT ")
            self._connection.query(f"{before} FROM INFILE '{file.name}'{format_}{name}")
        return b""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine: Engine

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = self._body()
        parameters = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        statement = parameters.get("query")
        if statement is None:
            statement, body = body.decode(), b""
        try:
            answer = self.engine.run(statement.strip(), parameters, body)
        except Exception as error:
            found = re.search(r"Code: (\d+)", str(error))
            self._answer(
                500, str(error).encode(), {"X-ClickHouse-Exception-Code": found[1] if found else "1"}
            )
            return
        if answer is None:
            self.close_connection = True
            return
        self._answer(200, answer, {"X-ClickHouse-Summary": "{}"})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: what went wrong the client tells."""


def main() -> None:
    Handler.engine = Engine(Path(sys.argv[1]))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
