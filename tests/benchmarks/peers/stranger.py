"""Strangers who ask for what costs something, or for nothing: `python -m tests.benchmarks.peers.stranger PORT WHAT`."""

import asyncio
import contextlib
import sys

CONNECTIONS = {"metrics": 40, "livez": 100, "silent": 40, "one_byte": 40, "half_body": 40}
FIRST_BYTES = {
    "metrics": b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n" * 20,
    "livez": b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n" * 350,
    "silent": b"",
    "one_byte": b"P",
    "half_body": b"POST /webhooks/leadway HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500,
}


async def stranger(port: int, what: str) -> None:
    """Reads what it is answered; when the connection is closed, it comes again."""
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(FIRST_BYTES[what])
            while await reader.read(65536):
                pass
            writer.close()
        await asyncio.sleep(0.01)


async def main() -> None:
    port, what = int(sys.argv[1]), sys.argv[2]
    await asyncio.gather(*(stranger(port, what) for _ in range(CONNECTIONS[what])))


if __name__ == "__main__":
    asyncio.run(main())
