"""What one writes first: Flask, a row by SQLAlchemy's ORM, `delay` with a result backend. On gunicorn's threads.

`python -m tests.benchmarks.peers.naive PORT DATABASE_URL REDIS_URL PUBLIC_KEY_PEM`.
"""

import base64
import json
import sys
from uuid import uuid4

from celery import Celery
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from flask import Flask, Response, request
from sqlalchemy import JSON, String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.benchmarks.peers.noop import run_on_gunicorn


class Base(DeclarativeBase):
    pass


class Event(Base):
    __tablename__ = "naive_events"
    id: Mapped[str] = mapped_column(String, primary_key=True)
    call_id: Mapped[str] = mapped_column(String, index=True)
    body: Mapped[dict[str, object]] = mapped_column(JSON)


def application(database_url: str, redis_url: str, pem: str) -> Flask:
    app = Flask("naive")
    key = load_pem_public_key(pem.encode())
    assert isinstance(key, Ed25519PublicKey)
    engine = create_engine(database_url, pool_size=32)
    Base.metadata.create_all(engine)
    celery = Celery("naive", broker=redis_url, backend=redis_url)

    @celery.task(name="naive.process")  # type: ignore[untyped-decorator]
    def process(event_id: str) -> None:
        pass

    @app.post("/webhooks/leadway")
    def receive() -> Response:
        body = request.get_data()
        key.verify(base64.b64decode(request.headers["X-GHL-Signature"]), body)
        read = json.loads(body)
        with Session(engine) as session:
            event = Event(id=str(uuid4()), call_id=read["id"], body=read)
            session.add(event)
            session.commit()
            process.delay(event.id)
        return Response('{"status": "accepted"}', 202, content_type="application/json")

    return app


if __name__ == "__main__":
    port, database_url, redis_url, pem = sys.argv[1:]
    run_on_gunicorn(lambda: application(database_url, redis_url, pem), int(port))
