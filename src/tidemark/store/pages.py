"""How is the whole history read, in bounded memory?

In pages: each goes on after the last (pk, second) of the one before, in the order in which the rows lie, so no
page is sorted and none reads what another did. The store is opened as it is: nothing is made or migrated, and
the retention stays, so a server's store may be in use meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import pyarrow as pa

from tidemark.errors import StoreError
from tidemark.population import PK_MAX
from tidemark.store import dsn as addresses
from tidemark.store import sql
from tidemark.store.handle import Handle
from tidemark.store.lock import FolderLock, require_store

PAGE_ROWS: Final = 500_000
"""Rows of a page: 8 MB, and a granule or two more of each day's part than it holds."""


class Pages:
    """The observations of one influencer or of everybody, from (inclusive) to (exclusive) in Unix seconds.

    Raises StoreError when there is no store, or it is in use or does not answer. Close it.
    """

    def __init__(
        self,
        dsn: str,
        pk: int | None,
        from_s: int,
        to_s: int,
        *,
        memory_bytes: int,
        page_rows: int = PAGE_ROWS,
    ) -> None:
        target = addresses.parse(dsn)
        self._range = {"from": from_s, "to": to_s}
        self._first_pk, self._last_pk = (0, PK_MAX) if pk is None else (pk, pk)
        self._page_rows = page_rows
        with ExitStack() as resources:
            if isinstance(target, addresses.Embedded):
                require_store(target.path)
                resources.callback(FolderLock(target.path).release)
            self._handle = Handle(target, memory_bytes)
            resources.callback(self._handle.close)
            self._handle.enter_database(target.database)
            if self._handle.command("EXISTS TABLE observations") != 1:
                raise StoreError(f"there are no observations in {target}: name another --data or --store")
            self.close = resources.pop_all().close

    def __iter__(self) -> Iterator[pa.Table]:
        """By pk and time: columns pk, observed_at (Unix seconds), follower_count, following_count; all uint32."""
        after_pk, after_s = self._first_pk, 0
        while True:
            page = self._handle.ask(
                sql.named("queries.sql")["observations_page"],
                self._range
                | {
                    "after_pk": after_pk,
                    "after": after_s,
                    "last_pk": self._last_pk,
                    "limit": self._page_rows,
                },
            )
            if page.num_rows:
                yield page
                after_pk, after_s = page["pk"][-1].as_py(), page["observed_at"][-1].as_py()
            if page.num_rows < self._page_rows:
                return
