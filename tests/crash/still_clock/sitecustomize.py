"""Lets a process's monotonic clock stand still while it is stopped, as that of a suspended machine does.

Python imports this module at its start when the folder is on PYTHONPATH. The process reads how many seconds it has
slept from a file of its own, which the test writes before it lets the process go on.
"""

import mmap
import os
import struct
import time

if folder := os.environ.get("STILL_CLOCKS_FOLDER"):
    path = os.path.join(folder, f"{os.getpid()}.clock")
    with open(path, "w+b") as file:
        file.write(bytes(8))
        file.flush()
        slept = mmap.mmap(file.fileno(), 8)
    monotonic = time.monotonic
    time.monotonic = lambda: monotonic() - struct.unpack_from("d", slept)[0]
