"""`python -m tests.proxies`: each proxy of docs/operations.md with its file from the page, in front of a real Daypass.

What is not installed comes from Debian's archive and PyPI, unpacked into var/proxies. Root, because proxies open ports
443 and 80: in a network of this command's own, where nothing else is reached. The page is given the versions that were
tried and the date. `--only nginx` tries one, `--keep` leaves the page as it is.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

from tests.interop.parts import Missing
from tests.proxies import page, parts
from tests.proxies.page import ALL, HOST, Written
from tests.servers import ROOT

SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8914, 0x1, 0x40


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.proxies", description=__doc__)
    parser.add_argument("--only", action="append", choices=[one.name for one in ALL])
    parser.add_argument("--keep", action="store_true", help="leave docs/operations.md as it is")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    wanted = [one for one in ALL if not arguments.only or one.name in arguments.only]
    if arguments.inside:
        return inside(wanted, keep=arguments.keep)
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        say("Only root can open ports 443 and 80, and it needs unshare (util-linux).")
        return 1
    for one in wanted:  # fetched here, because there is no network inside
        try:
            program_of(one)
        except Missing as reason:
            say(f"{one.name} is left out: {reason}")
    command = [sys.executable, "-m", "tests.proxies", "--inside", *words]
    return subprocess.run(
        ["unshare", "--net", "--mount", *command], cwd=ROOT, check=False
    ).returncode


def program_of(written: Written) -> parts.Program:
    """Raises Missing with the remedy."""
    from tests.proxies.fronts import STARTING

    return parts.program(STARTING[written.name][0])


def inside(wanted: list[Written], *, keep: bool) -> int:
    """In a network of our own: 1 when something was wrong."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP | IFF_RUNNING))
    import tests.environment  # noqa: F401  (the keys that every process of the product is given; it starts a server)
    from tests.proxies import fronts
    from tests.proxies.site import Site

    folder = Path(tempfile.mkdtemp(prefix="daypass-proxies-"))
    names = folder / "hosts"
    names.write_text(f"127.0.0.1 localhost {HOST}\n::1 localhost\n")
    subprocess.run(["mount", "--bind", names, "/etc/hosts"], check=True)
    tried, wrong = {}, 0
    home = folder / "daypass"
    home.mkdir()
    site = Site(home, fronts.certificates_in(folder))
    try:
        for written in wanted:
            try:
                program = program_of(written)
            except Missing:
                continue
            problems = try_one(site, written, program, folder)
            wrong += problems
            if not problems:
                today = datetime.now(UTC).date().isoformat()
                tried[written.name] = f"{program.version()}, tried {today}"
    finally:
        site.stop()
    if tried and not keep:
        page.record(tried)
    if wrong:
        say(f"{wrong} wrong. What Daypass and the proxies said is in {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def try_one(site: object, written: Written, program: parts.Program, folder: Path) -> int:
    """Every trial with the file as it stands in the page, then the file that drops the header: how many went wrong."""
    from tests.proxies import fronts, trials

    say(f"{written.name} {program.version()}")
    wrong = 0
    text = page.taken(written)
    place = _place(folder, written.name)
    with fronts.started(written, program, page.placed(written, text, place), place) as front:
        for name, trial in trials.TRIALS.items():
            began = time.monotonic()
            try:
                said = trial(site, front)  # type: ignore[arg-type]
            except Exception as problem:
                wrong += 1
                told = "".join(traceback.format_exception_only(problem)).strip()
                say(f"  WRONG  {name}: {told[:1500]}")
            else:
                say(f"  {name}: {said} ({time.monotonic() - began:.1f} s)")
    place = _place(folder, f"{written.name}-dropping")
    text = page.dropping(written, text)
    with fronts.started(written, program, page.placed(written, text, place), place) as front:
        said = site.self_test()  # type: ignore[attr-defined]
        if "is dropped on the way" in said:
            say("  a file that drops the header: Daypass says so")
        else:
            wrong += 1
            say(f"  WRONG  a file that drops the header: {said.strip()[-300:]}")
    return wrong


def _place(folder: Path, name: str) -> Path:
    place = folder / name
    place.mkdir()
    for file in ("fullchain.pem", "key.pem", "bundle.pem"):
        shutil.copy(folder / file, place)
    return place


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
