"""A client for asyncio: items from an async generator, values as they come.

python3 examples/loop.py                          # local workers and a private server
MRQ_URL=redis://host MRQ_KEY=... python3 examples/loop.py     # the workers that run there
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

from mapreduce_rq import AsyncClient


async def measurements() -> AsyncIterator[float]:
    for k in range(100):
        await asyncio.sleep(0.001)  # as from a socket
        yield math.sin(k)


async def checked(value: float) -> float:
    await asyncio.sleep(0)  # in a worker
    return abs(value)


async def main() -> None:
    async with AsyncClient() as mrq:
        largest = 0.0
        async for value in mrq.imap_unordered(checked, measurements()):
            largest = max(largest, value)
        print("largest:", round(largest, 6))
        sums = await asyncio.gather(*(mrq.map_reduce(math.sqrt, range(n)) for n in (10, 100, 1000)))
        print("sums:", [round(total, 3) for total in sums])


if __name__ == "__main__":
    asyncio.run(main())
