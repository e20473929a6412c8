"""`python -m tests.environments.relay ADDRESS PORT TO PORT`: whoever connects to the first is connected to the second.

Servers of tests listen on loopback, and with an upstream on loopback the system allows the short times of tests. So a
relay stands on each machine that is to be reached, and on each that wants to reach Leadway.
"""

import asyncio
import socket
import struct
import sys
from asyncio import StreamReader, StreamWriter
from enum import Enum, auto

CHUNK = 65_536
RESETS = struct.pack("ii", 1, 0)
"""For SO_LINGER: what is not sent yet is thrown away."""


class End(Enum):
    """How a connection ended, which the other end is to see."""

    IN_ORDER = auto()
    RESET = auto()


async def relay(address: str, port: int, to: str, to_port: int) -> None:
    """Until it is killed."""

    async def connect(near_in: StreamReader, near_out: StreamWriter) -> None:
        try:
            far_in, far_out = await asyncio.open_connection(to, to_port)
        except OSError:
            near_out.transport.abort()
            return
        ways = [asyncio.ensure_future(_pass_on(*way)) for way in ((near_in, far_out), (far_in, near_out))]
        ended, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        was_reset = any(way.result() is End.RESET for way in ended)
        for each in (near_out, far_out):
            connection = each.get_extra_info("socket")
            if was_reset and connection.fileno() >= 0:  # of the two, the one that was reset has been closed by that
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
                each.transport.abort()
            else:
                each.close()
        for way in ways:
            way.cancel()

    server = await asyncio.start_server(connect, address, port, backlog=200)
    async with server:
        await server.serve_forever()


async def _pass_on(source: StreamReader, target: StreamWriter) -> End:
    try:
        while data := await source.read(CHUNK):
            target.write(data)
            await target.drain()
    except OSError:
        return End.RESET
    return End.IN_ORDER


if __name__ == "__main__":
    asyncio.run(relay(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
