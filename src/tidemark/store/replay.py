"""How does a store that was restored from a backup come to have what came since?"""

from __future__ import annotations

from tidemark.config import Settings
from tidemark.store import dsn as addresses
from tidemark.store.clickhouse import Store
from tidemark.store.lock import require_store


def replay(settings: Settings) -> str:
    """Have the store read the log from its beginning when it is opened next; returns its address, without a password.

    Raises StoreError where there is no store, and as `Store.open` does.
    """
    target = addresses.parse(settings.store_dsn)
    if isinstance(target, addresses.Embedded):
        require_store(target.path)
    store = Store.configured(settings, retain=False)
    try:
        store.rename()
        return store.address
    finally:
        store.close()
