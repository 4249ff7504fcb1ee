"""What a confined process gives up before it reads its first message. It cannot take any of it back.

Resource limits are the wall on every platform; on Linux a list of the few system calls that are left stands behind them
(docs/decisions/0007-xml-room.md). Everything that is ever imported has to be imported before `raise_walls`.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
import time

MEMORY = 256 * 1024 * 1024
"""Bytes that a process may take beyond what it had when it was ready."""

CPU_SECONDS = 2
"""Seconds of processor time for one message; the kernel ends a process that takes more."""

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER = 2


def raise_walls(parent: int) -> list[str]:
    """Give up files, sockets, processes, dumps, memory without end, and most system calls.

    parent: the process that asked for this one; when it is gone, so are we. Answers which walls stand.
    """
    stand = []
    memory = _address_space()
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        _prctl(libc, _PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            raise SystemExit(0)
        _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1)
        _prctl(libc, _PR_SET_DUMPABLE, 0)
        stand += ["no new privileges", "not dumpable", "ends with its parent"]
    else:
        libc = None
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    stand += ["core", "file size"]
    if memory and _limit(resource.RLIMIT_AS, memory + MEMORY):
        stand.append("memory")
    if hasattr(resource, "RLIMIT_NPROC") and _limit(resource.RLIMIT_NPROC, 0):
        stand.append("processes")
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))  # standard input, output and error
    stand.append("descriptors")
    for_message()
    stand.append("processor time")
    if libc is not None and _filter_calls(libc):
        stand.append("system calls")
    return stand


def for_message() -> None:
    """Processor time for one more message, from now. The hard limit stays where it was: out of reach."""
    used = int(time.process_time()) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (used + CPU_SECONDS, hard))


def _limit(kind: int, most: int) -> bool:
    """Set a limit where the platform has it (macOS refuses some)."""
    try:
        resource.setrlimit(kind, (most, most))
    except (ValueError, OSError):
        return False
    return True


def _address_space() -> int:
    """Bytes of address space in use, 0 where that is not known."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _prctl(libc: ctypes.CDLL, option: int, value: int) -> None:
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


# --- The list of system calls (seccomp-bpf; Linux on x86-64 and arm64)

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# What Python, libxml2 and OpenSSL need to compute, to read a pipe, to write one, and to end.
_CALLS = {
    "x86_64": {
        "read": 0,
        "write": 1,
        "poll": 7,
        "munmap": 11,
        "brk": 12,
        "rt_sigaction": 13,
        "rt_sigprocmask": 14,
        "rt_sigreturn": 15,
        "sched_yield": 24,
        "mremap": 25,
        "madvise": 28,
        "getpid": 39,
        "exit": 60,
        "getrusage": 98,
        "sigaltstack": 131,
        "gettid": 186,
        "futex": 202,
        "restart_syscall": 219,
        "clock_gettime": 228,
        "exit_group": 231,
        "getrandom": 318,
    },
    "aarch64": {
        "read": 63,
        "write": 64,
        "ppoll": 73,
        "munmap": 215,
        "brk": 214,
        "rt_sigaction": 134,
        "rt_sigprocmask": 135,
        "rt_sigreturn": 139,
        "sched_yield": 124,
        "mremap": 216,
        "madvise": 233,
        "getpid": 172,
        "exit": 93,
        "getrusage": 165,
        "sigaltstack": 132,
        "gettid": 178,
        "futex": 98,
        "restart_syscall": 128,
        "clock_gettime": 113,
        "exit_group": 94,
        "getrandom": 278,
    },
}
# Allowed with a look at an argument: memory that cannot be executed; and a process's own processor time.
_MAPPINGS = {"x86_64": (9, 10), "aarch64": (222, 226)}  # mmap, mprotect
_PRLIMIT = {"x86_64": 302, "aarch64": 261}

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _EPERM = 0x7FFF0000, 0x80000000, 0x00050000 | 1
_PROT_EXEC = 4
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16


def _filter_calls(libc: ctypes.CDLL) -> bool:
    """Let the kernel refuse every call that is not listed. False on a platform that is not listed, or without it."""
    machine = platform.machine()
    if machine not in _CALLS or struct.calcsize("P") != 8:
        return False
    program = _program(machine)
    code = ctypes.create_string_buffer(
        b"".join(struct.pack("=HBBI", *step) for step in program), 8 * len(program)
    )

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    whole = Program(len(program), ctypes.addressof(code))
    answer = libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(whole), 0, 0)
    return bool(answer == 0)


def _program(machine: str) -> list[tuple[int, int, int, int]]:
    """The filter in BPF, as (operation, skip if so, skip if not, value). Jumps only ever go to the next few lines."""
    steps = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        (_ANSWER, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":  # the numbers of x32, another way to ask for the same calls
        steps += [(_AT_LEAST, 0, 1, 0x40000000), (_ANSWER, 0, 0, _KILL)]
    for number in _CALLS[machine].values():
        steps += [(_EQUAL, 0, 1, number), (_ANSWER, 0, 0, _ALLOW)]
    for number in _MAPPINGS[machine]:
        steps += [
            (_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, _ARGUMENTS + 2 * 8),
            (_ANY_BIT, 1, 0, _PROT_EXEC),
            (_ANSWER, 0, 0, _ALLOW),
            (_ANSWER, 0, 0, _EPERM),
        ]
    steps += [(_EQUAL, 0, 5, _PRLIMIT[machine])]
    steps += [(_LOAD, 0, 0, _ARGUMENTS), (_EQUAL, 0, 3, 0)]  # itself
    steps += [(_LOAD, 0, 0, _ARGUMENTS + 8), (_EQUAL, 0, 1, int(resource.RLIMIT_CPU))]
    steps += [(_ANSWER, 0, 0, _ALLOW), (_ANSWER, 0, 0, _EPERM)]
    return steps
