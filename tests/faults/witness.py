"""Puts numbered batches without a row on the log, and prints the id of each that was acknowledged.

Readers acknowledge such a batch and leave it at that. Its arguments are the addresses of the NATS servers.
"""

import asyncio
import sys

import numpy as np

from tidemark.config import load
from tidemark.errors import LogError
from tidemark.log.client import connect
from tidemark.messages import Batch, string_array

PAUSE_S = 0.02


async def main() -> None:
    none = np.zeros(0, np.uint32)
    number, opened = 0, False
    async with connect(load(nats=sys.argv[1:], replicas=3), "witness") as log:
        while True:
            name = f"witness {number}@0"
            try:
                if not opened:
                    await log.open()
                    opened = True
                await log.publish_batch(
                    0, Batch(name, none, none.astype(np.int64), none, none, string_array([]))
                )
            except LogError:
                opened = False  # the same again
            else:
                sys.stdout.write(f"{name}\n")
                sys.stdout.flush()
                number += 1
            await asyncio.sleep(PAUSE_S)


asyncio.run(main())
