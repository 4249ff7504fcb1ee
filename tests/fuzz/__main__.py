"""python -m tests.fuzz [--minutes 10] [--seed N] [--door DOOR] [--round N]

Rounds at all doors in turn until the time is over. A find stops nothing: its message is kept in a file, and seed and
number of the round play it again. The last line counts rounds, refusals, sign-ins and finds; a find makes it fail.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

import psutil

from tests.attacks.__main__ import database


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--door", default="")
    parser.add_argument("--round", type=int, default=0, help="play only this round again")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with database():
        import tests.attacks.oidc
        import tests.attacks.saml  # noqa: F401 (both fill the registry of stages)
        from tests.fuzz.rounds import DOORS, play, stage_for

        doors = [asked.door] if asked.door else list(DOORS)
        started, count, finds = time.monotonic(), 0, 0
        seen: Counter[str] = Counter()
        own = psutil.Process()
        base = 0
        say(f"seed {asked.seed}, doors {', '.join(doors)}")
        while finds < 50 and time.monotonic() - started < asked.minutes * 60:
            door = doors[(count // 50) % len(doors)]
            with stage_for(door) as stage:
                for _ in range(50):
                    count += 1
                    if asked.round and count != asked.round:
                        continue
                    status, came_in, found = play(door, Random(f"{asked.seed}:{count}"), stage)
                    seen[f"{door} {status}"] += 1
                    seen[f"{door} signed in"] += came_in and door in ("acs", "callback")
                    if found:
                        finds += 1
                        kept = Path(tempfile.gettempdir()) / f"daypass-fuzz-{asked.seed}-{count}"
                        kept.write_bytes(found.message)
                        say(f"FOUND at {door}, round {count}: {found.problem} (message in {kept})")
            if asked.round and count >= asked.round:
                break
            if count == 400:  # everything is warm
                base = own.memory_info().rss
            if count % 2000 == 0:
                say(f"  {count} rounds, {time.monotonic() - started:.0f} s")
        took = time.monotonic() - started
        grown = (own.memory_info().rss - base) / 2**20 if base else 0.0
        for name, number in sorted(seen.items()):
            say(f"  {name}: {number}")
        say(
            f"{count} rounds in {took:.0f} s ({count / took:.0f} a second), {finds} finds, "
            f"{grown:+.0f} MB since the first rounds; seed {asked.seed}"
        )
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
