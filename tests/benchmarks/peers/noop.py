"""Flask that reads the body and answers 202: `python -m tests.benchmarks.peers.noop PORT SERVER`.

SERVER `same`: the one that the web process runs on; `gunicorn`: gunicorn's threads.
"""

import sys

from flask import Flask, Response, request


def application() -> Flask:
    app = Flask("noop")

    @app.post("/webhooks/leadway")
    def receive() -> Response:
        request.get_data()
        return Response('{"status": "accepted"}', 202, content_type="application/json")

    return app


def main() -> None:
    port, server = int(sys.argv[1]), sys.argv[2]
    if server == "same":
        from webhook.lanes import Lanes
        from webhook.server import serve

        lanes = Lanes
        serve(
            application, host="127.0.0.1", port=port, processes=1,
            lanes=lambda: lanes(first="/webhooks/", threads=8, others=2),
        )  # fmt: skip
    else:
        run_on_gunicorn(application, port)


def run_on_gunicorn(load: object, port: int) -> None:
    from gunicorn.app.base import BaseApplication

    class Application(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
        def load_config(self) -> None:
            for name, value in {
                "bind": f"127.0.0.1:{port}", "workers": 1, "threads": 32, "worker_class": "gthread",
                "control_socket_disable": True, "keepalive": 30,
            }.items():  # fmt: skip
                self.cfg.set(name, value)

        def load(self) -> object:
            return load()  # type: ignore[operator]

    Application().run()


if __name__ == "__main__":
    main()
