"""A load generator: unique requests that were made beforehand, over connections that are kept.

Closed loop: each connection sends its next request when the answer has come. Open loop: requests are sent by a
timetable, whoever is free sends, and an answer's time counts from when the request was due.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random


@dataclass
class Answers:
    """What came back: statuses, and the times of the answers in milliseconds, in the order in which they came."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return sum(self.statuses.values()) / self.seconds

    def percentile(self, share: float) -> float:
        return sorted(self.times)[min(len(self.times) - 1, int(share * len(self.times)))]


def send(port: int, requests: Sequence[bytes], *, connections: int, per_second: float | None = None) -> Answers:
    """Sends each request once. `per_second`: open loop at this rate, Poisson; None: closed loop."""
    return asyncio.run(_send(port, requests, connections, per_second))


async def _send(port: int, requests: Sequence[bytes], connections: int, per_second: float | None) -> Answers:
    answers = Answers()
    left = deque(requests)
    due: deque[float] = deque()
    if per_second is not None:
        spread, at = Random(7), 0.0
        for _ in requests:
            at += spread.expovariate(per_second)
            due.append(at)
    began = time.perf_counter()

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while left:
            request = left.popleft()
            scheduled = time.perf_counter()
            if due:
                scheduled = began + due.popleft()
                if (wait := scheduled - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            lower = head.lower()
            length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            answers.statuses[int(head[9:12])] += 1
            answers.times.append(1000 * (time.perf_counter() - scheduled))
            if b"connection: close" in lower:
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    answers.seconds = time.perf_counter() - began
    return answers
