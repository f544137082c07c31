"""How do readers hear of what is new? Server-sent events, newest value wins.

    view --> watched: who changed? --> streams: a slot for each source --> one write --> reader
                                          ^
               sweep, once a second: statistics, pings, the stuck, the old

A *source* is what a stream tells of: an influencer, the statistics, the ping. A *stream* is one open connection.
Nothing waits in a queue: a slot says only that a source has something newer, and what that is, is looked up when
the reader can take it. So a slow reader misses what is outdated, and costs no more than a quick one.
"""

from __future__ import annotations

from tidemark.serve.live.connection import Connection
from tidemark.serve.live.handover import Handover, LiveResponse
from tidemark.serve.live.hub import Limits, Live

__all__ = ["Connection", "Handover", "Limits", "Live", "LiveResponse"]
