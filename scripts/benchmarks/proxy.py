"""A proxy that makes a server far away: every byte waits, in both directions.

    python -m benchmarks.proxy SOCKET SECONDS-EACH-WAY      prints the port of the loopback that it listens on

For servers on this machine only: nothing is authenticated here but what the server itself asks for.
"""

from __future__ import annotations

import asyncio
import sys


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Hand on what comes, so many seconds later, in order."""
    loop = asyncio.get_running_loop()
    due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        while True:
            when, data = await due.get()
            await asyncio.sleep(max(0.0, when - loop.time()))
            if not data:
                writer.close()
                return
            writer.write(data)
            await writer.drain()

    delivery = asyncio.create_task(deliver())
    data = b"?"
    while data:
        try:
            data = await reader.read(1 << 16)
        except ConnectionError:
            data = b""
        due.put_nowait((loop.time() + seconds, data))
    await delivery


async def serve(path: str, seconds: float) -> None:
    """Listen on a free port of the loopback and connect each client to the socket at ``path``."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(path)
        await asyncio.gather(pump(reader, back, seconds), pump(there, writer, seconds), return_exceptions=True)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], float(sys.argv[2])))
