"""Waits until every part of the demo answers, fills it on the first run, and then greets whoever started it."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import time
from urllib.error import URLError
from urllib.request import urlopen

from broker.demo.cast import CAST, PASSWORD, STAFF
from broker.demo.preparation import read, signature
from broker.demo.stage import HERE, Stage, current_stage

_PATIENCE = 120.0


def main() -> int:
    stage = current_stage()
    supervisor = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    late = _wait(stage, supervisor)
    if late:
        _say(f"The demo did not start: {late} does not answer. Its log: {stage.logs}/{late}.log")
        os.kill(supervisor, signal.SIGTERM)
        return 1
    if stage.empty:
        _say(first_run(stage))
        return 0
    try:
        new = _fill(stage)
        _say(greeting(stage))
        if new:
            from broker.demo.seed import seed_fleet

            if seed_fleet(goes_on=lambda: os.getppid() == supervisor):
                _mark_filled(stage)
        _verify_audit()
    except Exception:
        os.kill(supervisor, signal.SIGTERM)
        raise
    return 0


def _wait(stage: Stage, supervisor: int) -> str:
    """The name of a part that does not answer in time; "" when all do."""
    doors = {
        "aws": f"{stage.aws}/moto-api/data.json",
        "idps": f"{stage.idp}/.well-known/openid-configuration",
        "web": f"http://127.0.0.1:{stage.port}/health/ready",
    }
    until = time.monotonic() + _PATIENCE
    while doors and time.monotonic() < until:
        if os.getppid() != supervisor:
            raise SystemExit(1)
        doors = {name: url for name, url in doors.items() if not _answers(url)}
        time.sleep(0.1)
    return next(iter(doors), "")


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2) as answer:  # noqa: S310  (addresses of the stage)
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def _fill(stage: Stage) -> bool:
    """Seed on the first run, and again when the cast or the addresses have changed. True when it was due.

    The 2,000 roles of the stress test follow after the greeting; they take a while and nobody waits for them.
    """
    if read(stage.folder / "seeded") == _sign(stage):
        return False
    import django

    django.setup()
    from broker.demo.seed import seed

    seed(stage)
    return True


def _verify_audit() -> None:
    """What beat does every quarter of an hour: nobody should open the admin to a warning that it is overdue."""
    import django

    django.setup()
    from broker.audit.tasks import verify_recent

    verify_recent()


def _mark_filled(stage: Stage) -> None:
    (stage.folder / "seeded").write_text(_sign(stage), encoding="utf-8")


def _sign(stage: Stage) -> str:
    return signature(HERE, extra=(stage.origin, stage.idp))


def greeting(stage: Stage) -> str:
    width = max(len(person.name) for person in CAST)
    people = "\n".join(
        f"    {person.name:<{width}}  {person.provider_name}: {person.part}" for person in CAST
    )
    return f"""
  Daypass is open:  {stage.origin}/

  Sign in as one of Northwind's people (everybody's password: {PASSWORD})
{people}

  The administrators' door: {stage.origin}/admin/
  Keys you take work at: aws --endpoint-url {stage.aws} sts get-caller-identity
  Everything here is made up: two identity providers, moto as AWS, a stand-in for the AWS console.
  Logs: {stage.logs}    Stop: Ctrl-C
"""


def first_run(stage: Stage) -> str:
    """What an administrator needs who begins with nothing."""
    return f"""
  Daypass is open, and empty:  {stage.origin}/admin/

  Sign in at {stage.origin}/sign-in/local/ as break-glass
    {_break_glass(stage)}
  Connect a company: SAML 2.0, short name "{STAFF}", metadata at {stage.idp}/saml/metadata
    Its people and groups: docs/demo.md (everybody's password: {PASSWORD})
  Any account and role works: moto is AWS here, and trusts everybody.
  Logs: {stage.logs}    Stop: Ctrl-C
"""


def _break_glass(stage: Stage) -> str:
    import django

    django.setup()
    from django.utils import timezone

    from accounts import services as people
    from accounts.models import Person
    from broker.minting import keys

    keys.ensure_keys(timezone.now())
    if Person.objects.filter(is_superuser=True).exists():
        return "with the password from the first start and your second factor"
    password = "-".join(secrets.token_hex(3) for _ in range(5))
    by = people.By(id="task:demo", name="demo")
    people.break_glass("break-glass", password, by=by, now=timezone.now())
    return f"with the password {password} (shown this once), and set up a second factor"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
