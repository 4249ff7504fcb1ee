"""Where the clients come from: PyPI, npm and Debian's archive, pinned, and put into var/ (ignored by git).

Each set has an environment of its own: what AWS's clients need has nothing to do with what Daypass needs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.interop.parts import Missing, packages

HERE = Path(__file__).resolve().parent
UNPACKED = HERE.parent.parent / "var" / "clients"


@cache
def tools(requirements: str = "requirements") -> Path:
    """The folder of the programs of `requirements.txt` (or -more), installed. Raises Missing."""
    wanted = HERE / f"{requirements}.txt"
    place = UNPACKED / requirements
    locked = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()
    stamp = place / "installed"
    if not stamp.exists() or stamp.read_text() != locked:
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        for words in (
            [sys.executable, "-m", "venv", place],
            [
                *(place / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "-q"),
                *("install", "--no-deps", "--require-hashes", "-r", wanted),
            ],
        ):
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                reason = (done.stderr.strip().splitlines() or ["see its log"])[-1]
                raise Missing(f"the clients of {wanted.name} cannot be installed: {reason}")
        stamp.write_text(locked)
    return place / "bin"


@cache
def node() -> str:
    """The path of Node, with the SDK for JavaScript beside `whoami.mjs`. Raises Missing."""
    return packages(HERE)


def missing() -> dict[str, str]:
    """What of PyPI and npm cannot be had here -> why."""
    found = {}
    for name, part in {"the clients from PyPI": tools, "the SDK for JavaScript": node}.items():
        try:
            part()
        except Missing as reason:
            found[name] = str(reason)
    return found


SUITES = {"bookworm": "awscli", "trixie": "awscli", "sid": "awscli ruby-aws-sdk-core ruby-rexml"}
"""Releases of Debian with the AWS CLI 2, and what is taken from them. bookworm: 2.9, trixie: 2.23, sid: the newest."""


@cache
def debian(suite: str) -> Path:
    """The root of a small Debian with the AWS CLI v2 of that release in it; minutes, once. Raises Missing."""
    root = UNPACKED / suite
    if (root / "complete").exists():
        return root
    if os.geteuid() != 0:
        raise Missing("only root can make and enter another Debian.")
    if shutil.which("debootstrap") is None:
        raise Missing("there is no debootstrap. On Debian and Ubuntu: apt-get install debootstrap")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    archive = "http://deb.debian.org/debian"
    # A mirror may be a snapshot, whose day is over; its signatures are checked all the same.
    update = "apt-get update -qq -o Acquire::Check-Valid-Until=false"
    install = f"{update} && apt-get install -qqy --no-install-recommends {SUITES[suite]}"
    for words in (
        ["debootstrap", "--variant=minbase", "--include=ca-certificates", suite, root, archive],
        [
            "chroot",
            root,
            "sh",
            "-c",
            f"DEBIAN_FRONTEND=noninteractive; export DEBIAN_FRONTEND; {install}",
        ],
    ):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            reason = ((done.stderr or done.stdout).strip().splitlines() or ["see its log"])[-1]
            raise Missing(f"a Debian {suite} cannot be made here: {reason}")
    (root / "etc" / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    (root / "complete").write_text("")
    return root
