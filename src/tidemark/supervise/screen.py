"""Where do the lines go? To standard error and, while there is a table in the terminal, above it."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Final

import structlog
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

logger = structlog.get_logger("tidemark.up")


class Screen:
    """Standard error. A file for structlog, and what passes on the lines of the children.

    A terminal that went away is no reason to stop: what cannot be written is lost.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._file = sys.stderr
        self._as_json = as_json
        self._console: Final = Console(file=self._file, highlight=False, markup=False, emoji=False)
        self._live: Live | None = None

    @property
    def has_table(self) -> bool:
        """Whether there is a place for a table."""
        return self._file.isatty() and not self._console.is_dumb_terminal and not self._as_json

    def write(self, text: str) -> int:
        """Whole lines, above the table."""
        with suppress(OSError, ValueError):
            if self._live is None:
                self._file.write(text)
            else:
                self._console.print(Text.from_ansi(text.rstrip("\n")), soft_wrap=True)
        return len(text)

    def flush(self) -> None:
        """As of a file."""
        with suppress(OSError, ValueError):
            self._file.flush()

    def pass_on(self, line: str, child: str) -> None:
        """A line of a child. Among lines of JSON it is one too, whatever it was."""
        if self._as_json and not line.startswith("{"):
            logger.warning("said", child=child, line=line)
        else:
            self.write(f"{line}\n")
            self.flush()

    def show(self, table: RenderableType) -> None:
        """Put this in the place of the table."""
        with suppress(OSError, ValueError):
            if self._live is None:
                self._live = Live(
                    console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
                )
                self._live.start()
            self._live.update(table, refresh=True)

    def close(self) -> None:
        """Leave the last table where it is."""
        with suppress(OSError, ValueError):
            if self._live is not None:
                self._live.stop()
        self._live = None
