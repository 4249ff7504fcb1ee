"""Starts one program of the demo so that it cannot outlive the supervisor, even one that was killed.

`python -m broker.demo.actor PROGRAM ARGUMENT...` asks the kernel (Linux) to end this process when its parent ends, and
then becomes the program.
"""

from __future__ import annotations

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended in between
        raise SystemExit(1)


if __name__ == "__main__":
    _end_with_parent()
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606  (the demo's own list of programs)
