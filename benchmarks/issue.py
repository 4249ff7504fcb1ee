"""How many console links and keys a second, beside a bare AssumeRole call to the same moto in the same run.

    make bench            (or: python -m benchmarks [--seconds 5] [--clients 1 8] [--sizes 10 200 4000])

Starts moto, a sign-in endpoint that only answers, and Daypass as gunicorn serves it, all on loopback; seeds a person
with 10, one with 200 and one with 4,000 roles; then measures in turn, with one client and with eight. The figures are
ratios to the bare AssumeRole of the same run, because the machine's speed is not ours.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from benchmarks.load import Result, run
from tests.servers import free_port, start_valkey, wait_for_port

ROOT = Path(__file__).resolve().parent.parent
SIZES = (10, 200, 4000)


def http(method: str, port: int, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def line(name: str, clients: int, measured: Result, base: Result) -> str:
    ratio = measured.rate / base.rate
    return (
        f"| {name} | {clients} | {measured.rate:.0f}/s | {measured.percentile(0.5):.1f} ms "
        f"| {measured.percentile(0.99):.1f} ms | {ratio:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--processes", default="2", help="gunicorn workers")
    arguments = parser.parse_args()
    with served(arguments.processes, *map(str, arguments.sizes)) as stage:
        measure(arguments, stage.port, stage.moto_port, stage.people)


@dataclass(frozen=True)
class Served:
    """Daypass on a port, moto on another, and what the seed printed of its people, by their number of roles."""

    port: int
    moto_port: int
    people: dict[str, dict[str, Any]]


@contextmanager
def served(gunicorn_workers: str, *seed: str) -> Iterator[Served]:
    """moto, a sign-in endpoint that only answers, and Daypass as gunicorn serves it, all on loopback.

    seed: the arguments of benchmarks.seed. Everything ends and goes with the `with`.
    """
    data = Path(tempfile.mkdtemp(prefix="daypass-bench-"))
    port, moto_port, signin_port = free_port(), free_port(), free_port()
    valkey = start_valkey()
    environment = {
        **os.environ,
        "DAYPASS_MODE": "demo",
        "DAYPASS_ORIGIN": f"http://127.0.0.1:{port}",
        "DAYPASS_SECRET_KEY": "for the benchmark only, and long enough to be taken for a key",
        "DAYPASS_SEALING_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        "DAYPASS_DATA_DIR": str(data),
        "DAYPASS_STS_ENDPOINT": f"http://127.0.0.1:{moto_port}",
        "DAYPASS_SIGNIN_ENDPOINT": f"http://127.0.0.1:{signin_port}",
        "DAYPASS_BIND": f"127.0.0.1:{port}",
        "DAYPASS_WEB_PROCESSES": gunicorn_workers,
        "REDIS_URL": valkey.url,
        "DJANGO_SETTINGS_MODULE": "broker.settings",
    }
    processes: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> subprocess.Popen[bytes]:
        log = (data / f"{len(processes)}.log").open("wb")
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        processes.append(process)
        return process

    try:
        for command in (["migrate", "-v0"], ["collectstatic", "--noinput", "-v0"]):
            subprocess.run(
                [sys.executable, "manage.py", *command], cwd=ROOT, env=environment, check=True
            )
        seeded = subprocess.run(
            [sys.executable, "-m", "benchmarks.seed", *seed],
            cwd=ROOT,
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
        )
        people = json.loads(seeded.stdout)
        moto = start(
            sys.executable,
            "-c",
            "from moto.server import main; main()",
            "-H",
            "127.0.0.1",
            "-p",
            str(moto_port),
        )
        web = start(sys.executable, "-m", "gunicorn", "broker.wsgi")
        signin = start(sys.executable, "-m", "benchmarks.signin", str(signin_port))
        wait_for_port(signin_port, signin)
        wait_for_port(moto_port, moto)
        wait_for_port(port, web)
        yield Served(port, moto_port, people)
    except BaseException:
        for log in sorted(data.glob("*.log")):
            sys.stderr.write(f"--- {log.name}\n{log.read_text()[-3000:]}\n")
        raise
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait(timeout=30)
        valkey.stop()
        shutil.rmtree(data, ignore_errors=True)


def bare_assume_role(moto_port: int) -> bytes:
    """The request that everything is compared with: AssumeRole at moto, with nothing of ours."""
    call = urlencode(
        {
            "Action": "AssumeRole",
            "Version": "2011-06-15",
            "RoleArn": "arn:aws:iam::111122223333:role/Bench",
            "RoleSessionName": "bench",
        }
    ).encode()
    return http(
        "POST",
        moto_port,
        "/",
        {
            "Content-Type": "application/x-www-form-urlencoded",
            "Authorization": "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20260101/us-east-1/sts/aws4_request, "
            "SignedHeaders=host, Signature=0",
        },
        call,
    )


def measure(
    arguments: argparse.Namespace, port: int, moto_port: int, people: dict[str, dict[str, object]]
) -> None:
    bare = bare_assume_role(moto_port)
    print("| what | clients | rate | p50 | p99 | ratio to bare AssumeRole |")
    print("| --- | --- | --- | --- | --- | --- |")
    for clients in arguments.clients:
        how = {"clients": clients, "seconds": arguments.seconds}
        for size, person in people.items():
            # Anew for each size: moto slows down as it remembers more keys.
            base = run(moto_port, lambda _: bare, expect=200, **how)
            print(line("bare AssumeRole at moto", clients, base, base), flush=True)
            cookies = str(person["cookies"])
            roles = list(person["roles"])  # type: ignore[call-overload]
            headers = {
                "Cookie": cookies,
                "X-CSRFToken": str(person["csrf"]),
                "Origin": f"http://127.0.0.1:{port}",
                "Content-Type": "application/x-www-form-urlencoded",
            }

            def console(
                turn: int, roles: list[str] = roles, headers: dict[str, str] = headers
            ) -> bytes:
                return http("POST", port, f"/console/{roles[turn % len(roles)]}/", headers)

            def keys(
                turn: int, roles: list[str] = roles, headers: dict[str, str] = headers
            ) -> bytes:
                return http("POST", port, f"/keys/{roles[turn % len(roles)]}/", headers)

            def home(turn: int, cookies: str = cookies) -> bytes:
                return http("GET", port, "/", {"Cookie": cookies})

            def search(turn: int, cookies: str = cookies) -> bytes:
                return http("GET", port, "/?q=prod+admin", {"Cookie": cookies})

            for name, request, status in (
                (f"console link, {size} roles", console, 303),
                (f"keys, {size} roles", keys, 200),
                (f"role list, {size} roles", home, 200),
                (f"role search, {size} roles", search, 200),
            ):
                measured = run(port, request, expect=status, **how)
                print(line(name, clients, measured, base), flush=True)


if __name__ == "__main__":
    main()
