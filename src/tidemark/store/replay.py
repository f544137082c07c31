"""How does a store that was restored from a backup come to have what came since?"""

from __future__ import annotations

from tidemark.config import Settings
from tidemark.store.clickhouse import Store


def replay(settings: Settings) -> str:
    """Have the store read the log from its beginning when it is opened next; returns its address, without a password.

    Raises as `Store.open` does.
    """
    store = Store.configured(settings, retain=False)
    try:
        store.rename()
        return store.address
    finally:
        store.close()
