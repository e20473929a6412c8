# One image for every process: web as it is; the others by their command (compose.yaml, deploy/kubernetes).
# The root file system may be read-only: only /app/var and /tmp are written to.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /build
RUN python -m venv /opt/leadway-calls
ENV PATH=/opt/leadway-calls/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements.txt ./
RUN pip install --quiet --require-hashes --only-binary :all: -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY models models
COPY migrations migrations
COPY workers workers
COPY webhook webhook
RUN pip install --quiet --no-deps --no-build-isolation .

FROM python:${PYTHON}
# By number, so that Kubernetes can see that it is not root.
RUN useradd --uid 10001 --user-group --home-dir /app --shell /usr/sbin/nologin leadway && install -d -o leadway -g leadway /app /app/var
COPY --from=build /opt/leadway-calls /opt/leadway-calls
ENV PATH=/opt/leadway-calls/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# A container is reached from outside itself; its disk ends with it, so no journal where none is kept on a volume.
ENV HOST=0.0.0.0 PORT=8000 FLOWER_ADDRESS=0.0.0.0 LEADWAY_JOURNAL_DIR=off
WORKDIR /app
USER 10001:10001
EXPOSE 8000 5555
# Of web. Not /readyz: while the database is away nothing is healed by another container.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['PORT']}/livez\", timeout=2)"]
CMD ["python", "-m", "webhook"]
