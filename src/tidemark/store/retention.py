"""How long does each table keep its rows?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tidemark.errors import CallerError

FOREVER: Final = 0

TIME_COLUMNS: Final = {
    "observations": "observed_at",
    "hourly_rollups": "hour",
    "daily_rollups": "day",
    "ranks_daily": "day",
    "averages": "at",
    "verdicts": "checked_at",
}
"""The tables that forget, and the column that says how old a row is."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Days that rows are kept; 0 is for ever. Rows go by whole partitions, so up to one partition later."""

    raw_days: int = 30
    """Single observations."""
    hourly_days: int = 400
    """Hourly rollups."""
    daily_days: int = 3_650
    """Daily rollups, ranks, averages and verdicts."""

    def __post_init__(self) -> None:
        if not _no_longer(self.raw_days, self.hourly_days) or not _no_longer(
            self.hourly_days, self.daily_days
        ):
            raise CallerError(
                f"finer rows cannot be kept for longer than coarser ones: raw {self.raw_days}, hourly"
                f" {self.hourly_days} and daily {self.daily_days} days must not fall (0: for ever)"
            )

    def days(self, table: str) -> int:
        """Days for a table of TIME_COLUMNS."""
        return {"observations": self.raw_days, "hourly_rollups": self.hourly_days}.get(table, self.daily_days)

    def statements(self, create_statements: Mapping[str, str]) -> list[str]:
        """What to run so that each table, whose present CREATE statement is given by name, forgets in time."""
        statements = []
        for table, column in TIME_COLUMNS.items():
            found = re.search(r"\bTTL .*?toIntervalDay\((\d+)\)", create_statements[table])
            present, wanted = int(found[1]) if found else FOREVER, self.days(table)
            if wanted == FOREVER and present != FOREVER:
                statements.append(f"ALTER TABLE {table} REMOVE TTL")
            elif wanted != present:
                statements.append(f"ALTER TABLE {table} MODIFY TTL {column} + INTERVAL {wanted:d} DAY")
        return statements


def _no_longer(days: int, than_days: int) -> bool:
    return than_days == FOREVER or FOREVER < days <= than_days
