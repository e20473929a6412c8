"""FastAPI on uvicorn, one INSERT on a pooled asynchronous connection, one LPUSH.

`python -m tests.benchmarks.peers.fastapi_insert PORT DATABASE_URL REDIS_URL PUBLIC_KEY_PEM`.
"""

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import psycopg
import redis.asyncio
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from fastapi import FastAPI, Request, Response

CONNECTIONS = 16


def application(database_url: str, redis_url: str, pem: str) -> FastAPI:
    key = load_pem_public_key(pem.encode())
    assert isinstance(key, Ed25519PublicKey)
    free: asyncio.Queue[psycopg.AsyncConnection[tuple[object, ...]]] = asyncio.Queue()
    client = redis.asyncio.Redis.from_url(redis_url)

    @asynccontextmanager
    async def connected(_app: FastAPI) -> AsyncIterator[None]:
        for _ in range(CONNECTIONS):
            free.put_nowait(await psycopg.AsyncConnection.connect(database_url, autocommit=True))
        connection = await free.get()
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS fastapi_events (id text PRIMARY KEY, call_id text, body jsonb)"
        )
        free.put_nowait(connection)
        yield

    app = FastAPI(lifespan=connected)

    @app.post("/webhooks/leadway")
    async def receive(request: Request) -> Response:
        body = await request.body()
        key.verify(base64.b64decode(request.headers["X-GHL-Signature"]), body)
        event_id, call_id = str(uuid4()), json.loads(body)["id"]
        connection = await free.get()
        try:
            await connection.execute(
                "INSERT INTO fastapi_events VALUES (%s, %s, %s)", (event_id, call_id, body.decode())
            )
        finally:
            free.put_nowait(connection)
        await client.lpush("fastapi_events", event_id)  # type: ignore[misc]  # redis-py's types are of both clients
        return Response('{"status": "accepted"}', 202, media_type="application/json")

    return app


if __name__ == "__main__":
    port, *urls_and_key = sys.argv[1:]
    app = application(*urls_and_key)
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", access_log=False)
