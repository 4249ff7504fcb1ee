"""A confined process that also does what a message which took it over would try. Started by test_confined.py."""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import socket
import subprocess
import sys
import threading
from pathlib import Path

from accounts.confined import selftest, walls
from accounts.confined.__main__ import JOBS, serve

libc = ctypes.CDLL(None, use_errno=True)


def tried(attempt):
    """What came of it: the error's name, or what it answered."""

    def job(said, unwrap):
        try:
            return repr(attempt(said))
        except (OSError, MemoryError, RuntimeError, ValueError) as error:
            return type(error).__name__

    return job


def loop(_):
    while True:
        pass


def memory(_):
    return len(bytearray(1 << 30))


def read_parent(_):
    """process_vm_readv of whoever started us needs no descriptor, only the same user."""
    kept = ctypes.create_string_buffer(8)

    class Span(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

    here = Span(ctypes.addressof(kept), 8)
    there = Span(0x400000, 8)
    answer = libc.process_vm_readv(
        PARENT, ctypes.byref(here), 1, ctypes.byref(there), 1, ctypes.c_ulong(0)
    )
    if answer < 0 and ctypes.get_errno() == 1:
        raise PermissionError
    return answer, ctypes.get_errno()


def spawn(_):
    return subprocess.Popen(["/bin/true"]).pid


def fork(_):
    child = os.fork()
    if child == 0:
        os._exit(0)
    return child


def crash(_):
    ctypes.string_at(0)


def said_something(said):
    raise KeyError(said["secret"])


ATTEMPTS = {
    "open": lambda _: Path("/etc/hostname").read_text(),
    "list": lambda _: os.listdir("/"),
    "write": lambda _: os.write(os.open("/dev/shm/daypass-test", os.O_CREAT | os.O_WRONLY), b"x"),
    "remove": lambda _: os.unlink("/dev/shm/daypass-test-that-is-not-there"),
    "socket": lambda _: socket.socket(),
    "pipe": lambda _: os.pipe(),
    "fork": fork,
    "spawn": spawn,
    "thread": lambda _: threading.Thread(target=int).start(),
    "execute": lambda _: os.execv("/bin/true", ["true"]),
    "signal": lambda _: os.kill(PARENT, 0),
    "read-parent": read_parent,
    "more-descriptors": lambda _: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    "more-memory": lambda _: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)),
    "limit-of-parent": lambda _: resource.prlimit(PARENT, resource.RLIMIT_NOFILE, (3, 3)),
    "executable-memory": lambda _: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
    "memory": memory,
    "loop": loop,
    "crash": crash,
    "nothing": lambda _: "here",
}

if __name__ == "__main__":
    PARENT = int(sys.argv[1])
    if sys.argv[2:] == ["limits only"]:
        walls._filter_calls = lambda libc: False
    if sys.argv[2:] == ["believes everything"]:
        selftest.SignInRefused = ZeroDivisionError
    jobs = {name: tried(attempt) for name, attempt in ATTEMPTS.items()}
    serve({**JOBS, **jobs, "error": lambda said, _: said_something(said)}, PARENT)
