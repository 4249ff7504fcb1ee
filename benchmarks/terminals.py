"""What AWS's clients wait for: keys and lists at the sso portal, beside a bare AssumeRole call to the same moto.

    python -m benchmarks terminals [--seconds 5] [--clients 1 8] [--roles 2000] [--catalogues 2000 100000]

One person with many roles asks with the tokens of several terminals, first in a catalogue that holds little more than
their own roles, then in a large one: what they wait for has to follow their roles. Every figure is read as a ratio to
the bare AssumeRole of the same group of lines.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from benchmarks.issue import Served, bare_assume_role, http, line, served
from benchmarks.load import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--roles", type=int, default=2000, help="of the person who asks")
    parser.add_argument("--catalogues", type=int, nargs="*", default=[2000, 100_000])
    parser.add_argument("--processes", default="2", help="gunicorn workers")
    arguments, _ = parser.parse_known_args()  # `make bench` passes what other parts understand
    print("| what | clients | rate | p50 | p99 | ratio to bare AssumeRole |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for catalogue in arguments.catalogues:
        seed = (str(arguments.roles), "--catalogue", str(catalogue))
        with served(arguments.processes, *seed) as stage:
            measure(arguments, stage, catalogue)


def measure(arguments: argparse.Namespace, stage: Served, catalogue: int) -> None:
    person = stage.people[str(arguments.roles)]
    bare = bare_assume_role(stage.moto_port)
    for clients in arguments.clients:
        how: dict[str, Any] = {"clients": clients, "seconds": arguments.seconds, "expect": 200}
        base = run(stage.moto_port, lambda _: bare, **how)
        print(line("bare AssumeRole at moto", clients, base, base), flush=True)
        for name, request in requests(stage.port, person):
            measured = run(stage.port, request, **how)
            what = f"{name}, {arguments.roles} of {catalogue} roles"
            print(line(what, clients, measured, base), flush=True)


def requests(port: int, person: dict[str, Any]) -> list[tuple[str, Callable[[int], bytes]]]:
    """Each operation by name: what is sent at each turn, over the person's roles and terminals."""
    named, tokens = person["named"], person["tokens"]

    def ask(turn: int, path: str, **parameters: str) -> bytes:
        headers = {
            "x-amz-sso_bearer_token": tokens[turn % len(tokens)],
            "User-Agent": "aws-cli/2.38.1",
        }
        return http("GET", port, f"{path}?{urlencode(parameters)}", headers)

    def keys(turn: int) -> bytes:
        account_id, role = named[turn % len(named)]
        return ask(turn, "/aws/federation/credentials", account_id=account_id, role_name=role)

    def roles(turn: int) -> bytes:
        return ask(turn, "/aws/assignment/roles", account_id=named[turn % len(named)][0])

    def accounts(turn: int) -> bytes:
        return ask(turn, "/aws/assignment/accounts", max_result="100")

    return [("GetRoleCredentials", keys), ("ListAccountRoles", roles), ("ListAccounts", accounts)]


if __name__ == "__main__":
    main()
