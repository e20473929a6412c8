"""Keeps out of this process what a library imports only where it is installed, and this process never uses.

structlog takes rich (and with it Pygments and attrs) for tracebacks that we never render, kombu takes YAML for messages
that we never accept: 4 MiB of each process, and a tenth of the time until web answers. The commands draw with rich, so
it stays installed. Neither library has a switch (structlog 26.1, kombu 5.7).
"""

import sys

UNUSED = ("rich", "yaml")
for _name in UNUSED:
    sys.modules.setdefault(_name, None)  # type: ignore[arg-type]  # None: an ImportError for whoever asks
