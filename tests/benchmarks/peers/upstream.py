"""An upstream that costs little: answers `GET …/call-logs/{id}` after 100 ms.

`python -m tests.benchmarks.peers.upstream PORT`.
"""

import asyncio
import json
import sys

LATENCY_SECONDS = 0.1
DOCUMENT = json.dumps(
    {
        "id": "", "contactId": "contact-1", "agentId": "agent-1", "isAgentDeleted": False, "fromNumber": "+13035550142",
        "createdAt": "2026-03-03T10:00:00.000Z", "duration": 61, "trialCall": False, "summary": "Wants an appointment.",
        "transcript": "bot:Hello.\nhuman:I would like an appointment, please.\n" * 20, "translation": None,
        "executedCallActions": [
            {
                "actionType": kind, "actionName": kind.title(), "actionId": f"action-{number}",
                "actionParameters": {"note": "new"}, "executedAt": "2026-03-03T10:00:30.000Z",
                "triggerReceivedAt": "2026-03-03T10:00:29.000Z",
            }
            for number, kind in enumerate(("SMS", "DATA_EXTRACTION", "SMS"))
        ],
        "extractedData": {"customerName": "A caller"}, "messageId": "message-1", "agentTransferOccurred": False,
    }
)  # fmt: skip


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].partition(b"?")[0].decode()
            await asyncio.sleep(LATENCY_SECONDS)
            body = DOCUMENT.replace('"id": ""', f'"id": "{path.rpartition("/")[2]}"', 1).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
            writer.write(body)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
