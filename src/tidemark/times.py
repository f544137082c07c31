"""What does a time mean that somebody wrote, and how is one written?

Observations are of whole Unix seconds, and stored as 32 bits of them.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Final

from tidemark.errors import CallerError

TIME_MAX_S: Final = 2**32 - 1
"""Until 2106."""


@lru_cache(maxsize=4_096)
def rfc3339(at_s: int) -> str:
    """Unix seconds as `2026-01-31T12:00:00Z`."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(text: str) -> int:
    """The first whole Unix second that is not before the time, which is RFC 3339 or Unix seconds; without a zone, UTC.

    So a range from one time (inclusive) to another (exclusive) has the same observations in whole seconds. Raises
    CallerError for what is no time, or none that can be stored.
    """
    try:
        if re.fullmatch(r"[0-9]{1,10}(\.[0-9]*)?", text):
            at_s = math.ceil(Decimal(text))
        else:
            at = datetime.fromisoformat(text.upper())
            at_s = math.ceil((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        at_s = -1
    if not 0 <= at_s <= TIME_MAX_S:
        raise CallerError(f"{text[:40]!r} is no time: write 2026-01-31T12:00:00Z or Unix seconds")
    return at_s
