"""`python -m tests.awssso.races`: eight at the same moment, a thousand times, at the doors for AWS's clients.

gunicorn with two processes of eight threads, SQLite and then PostgreSQL. A round is one authorization code, one refresh
token (within its grace and after it), one approved device code, and one approval, each brought by eight at once.
Of codes, device codes and approvals exactly one may win. A refresh token serves all eight within its grace; after it
nobody, and the sign-in ends once.

The answers are counted by what clients saw, and again by what the audit log and the tables say.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from broker.awssso.rules import digest
from tests.awssso.abuse import Cli
from tests.awssso.conformity import Reply
from tests.awssso.site import REDIRECT, Site
from tests.races import on_each_database

AT_ONCE = 8
WANTED = {
    "code": 1,
    "refresh within the grace": AT_ONCE,
    "refresh after the grace": 0,
    "device code": 1,
    "approval": 1,
}
"""How many of eight have to win."""


@dataclass
class Result:
    """What the rounds of one database came to. odd: rounds with another number of winners than wanted."""

    rounds: int = 0
    seconds: float = 0.0
    winners: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WANTED, 0))
    odd: list[tuple[str, int, list[str]]] = field(default_factory=list)
    losers: Counter[str] = field(default_factory=Counter)
    spread: list[float] = field(default_factory=list)
    recorded: dict[str, int] = field(default_factory=dict)

    @property
    def wrong(self) -> list[str]:
        """What is not as it has to be, in sentences."""
        found = [f"{kind}: {n} winners in a round: {how}" for kind, n, how in self.odd]
        found += [
            f"{n} were answered {what}, which is no refusal"
            for what, n in self.losers.items()
            if what not in ("400 InvalidGrantException", "400 page", "403 page", "409 page")
        ]
        # In each round: the code's terminal, the refresh token's, the device code's, the approval's.
        expected = {"terminal.let_in": 4 * self.rounds, "terminal.reused": 2 * self.rounds}
        found += [
            f"the audit log has {self.recorded.get(kind, 0)} of {kind}, and not {n}"
            for kind, n in expected.items()
            if self.recorded.get(kind, 0) != n
        ]
        return found


class Runners:
    """Eight threads that begin at the same moment."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(AT_ONCE)

    def run(self, work: Callable[[int], Reply], spread: list[float]) -> list[Reply]:
        barrier = threading.Barrier(AT_ONCE)
        begun: list[float] = []

        def one(number: int) -> Reply:
            barrier.wait(timeout=30)
            begun.append(time.perf_counter())
            return work(number)

        replies = list(self.pool.map(one, range(AT_ONCE)))
        spread.append(max(begun) - min(begun))
        return replies


@dataclass
class Race:
    site: Site
    result: Result
    runners: Runners = field(default_factory=Runners)

    def note(self, kind: str, replies: list[Reply], won: Callable[[Reply], bool]) -> list[Reply]:
        winners = [reply for reply in replies if won(reply)]
        self.result.winners[kind] += len(winners)
        losers = [reply for reply in replies if not won(reply)]
        self.result.losers.update(f"{one.status} {one.fault or 'page'}" for one in losers)
        if len(winners) != WANTED[kind]:
            self.result.odd.append(
                (kind, len(winners), [f"{one.status} {one.fault}" for one in replies])
            )
        return winners

    def wrong(self, kind: str, what: str) -> None:
        self.result.odd.append((kind, 0, [what]))

    def round(self, number: int) -> None:
        net = f"10.{number // 250}.{number % 250}"
        browser = self.site.browser(address=f"{net}.1")
        cli = self.site.cli(f"{net}.2")
        cli.register()
        device = self.site.cli(f"{net}.2")
        device.register_for_device()
        self.code(cli, *browser.authorize(cli.id))
        self.refresh(cli, *browser.authorize(cli.id))

        started = device.start().json
        ticket = browser.review(started["userCode"])
        given = browser.approve(ticket)
        if given.status != 200:
            self.wrong("device code", f"approval {given.status}")
        polled = self.runners.run(lambda _: device.poll(started["deviceCode"]), self.result.spread)
        for winner in self.note("device code", polled, lambda reply: reply.status == 200):
            if device.refresh(winner.json["refreshToken"]).status != 200:
                self.wrong("device code", "what was won is worth nothing")
            device.logout(winner.json["accessToken"])  # one person has room for a hundred

        started = device.start().json
        ticket = browser.review(started["userCode"])
        answers = self.runners.run(lambda _: browser.approve(ticket), self.result.spread)
        self.note("approval", answers, lambda reply: reply.status == 200)
        got = device.poll(started["deviceCode"])
        if got.status != 200:
            self.wrong("approval", "the client got nothing")
        else:
            device.logout(got.json["accessToken"])

    def code(self, cli: Cli, code: str, verifier: str) -> None:
        replies = self.runners.run(
            lambda _: cli.exchange(code, verifier, REDIRECT), self.result.spread
        )
        for winner in self.note("code", replies, lambda reply: reply.status == 200):
            # Seven came again, so that the sign-in is over, also for who won.
            if cli.refresh(winner.json["refreshToken"]).fault != "InvalidGrantException":
                self.wrong("code", "a code that came again left the sign-in alive")

    def refresh(self, cli: Cli, code: str, verifier: str) -> None:
        first = cli.exchange(code, verifier, REDIRECT).json["refreshToken"]
        replies = self.runners.run(lambda _: cli.refresh(first), self.result.spread)
        winners = self.note("refresh within the grace", replies, lambda reply: reply.status == 200)
        pairs = {value for one in winners for value in _pair(one)}
        if len(pairs) != 2 * len(winners):
            self.wrong("refresh within the grace", "two were given the same token")
        self.site.sql(
            "UPDATE broker_terminaltoken SET used_at = '2020-01-01 00:00:00+00:00' "
            f"WHERE digest = '{digest(first)}'"
        )
        replies = self.runners.run(lambda _: cli.refresh(first), self.result.spread)
        self.note("refresh after the grace", replies, lambda reply: reply.status == 200)
        for winner in winners[:1]:
            if cli.refresh(winner.json["refreshToken"]).fault != "InvalidGrantException":
                self.wrong("refresh after the grace", "a stolen token left the sign-in alive")


def _pair(reply: Reply) -> tuple[str, str]:
    return reply.json["accessToken"], reply.json["refreshToken"]


def race(site: Site, rounds: int, *, say: Callable[[str], None] = lambda text: None) -> Result:
    """So many rounds, one after the other."""
    result = Result(rounds=rounds)
    running = Race(site, result)
    began = time.monotonic()
    try:
        for number in range(rounds):
            site.sign_in_when_old()
            running.round(number)
            if (number + 1) % 50 == 0:
                say(f"  {number + 1} rounds, {time.monotonic() - began:.0f} s")
    finally:
        running.runners.pool.shutdown()
    result.seconds = time.monotonic() - began
    counts = site.sql("SELECT kind, count(*) FROM broker_auditevent GROUP BY kind")
    result.recorded = {str(kind): int(count) for kind, count in counts}
    return result


def main(words: list[str]) -> int:
    return on_each_database(
        words,
        program="python -m tests.awssso.races",
        about=__doc__,
        site_on=lambda folder, url: Site(folder, database_url=url),
        race=race,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
