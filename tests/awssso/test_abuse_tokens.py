"""Tokens in the wrong hands, of the wrong kind, of somebody who may no longer: from the next call on, nothing opens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import Membership
from broker.audit.models import AuditEvent
from broker.awssso import registrations, services
from broker.awssso.models import Terminal, TerminalPolicy, TerminalToken
from broker.awssso.services import Tokens
from broker.entitlements.models import MappingRole
from broker.sessions.models import Session
from tests import factories as make
from tests.aws.servers import _sts_server, sts_stand_in  # noqa: F401  (fixtures)
from tests.awssso.abuse import Cli, stranger, through
from tests.awssso.conftest import REDIRECT, let_in, pkce, principal
from tests.portal.conftest import sign_in

pytestmark = pytest.mark.usefixtures("signing_keys", "sts_stand_in")

ACCOUNT = "111122223333"


@dataclass
class Held:
    """Somebody's terminal with its tokens, and the client that holds them."""

    cli: Cli
    terminal: Terminal
    tokens: Tokens

    def keys(self, role: str = "Developer"):
        return self.cli.credentials(self.tokens.access, ACCOUNT, role)

    def everything(self) -> set[str]:
        """What each use is answered: "" where it works."""
        access = self.tokens.access
        return {
            self.cli.accounts(access).fault,
            self.cli.roles(access, ACCOUNT).fault,
            self.keys().fault,
        }


def hold(person, **more) -> Held:
    cli = Cli(through(stranger()))
    cli.register()
    registration = registrations.read(cli.id, now=timezone.now())
    terminal = let_in(person, registration, **more)
    return Held(cli, terminal, services.give_tokens(terminal, now=timezone.now()))


@pytest.fixture
def role(ada):
    """A role of ada's group."""
    made = make.role("Developer", of=make.account("Payments", account_id=ACCOUNT))
    make.mapping(ada.memberships.get().group, made)
    return made


@pytest.fixture
def held(ada, role) -> Held:
    return hold(ada)


def years_ago(token: str, **fields: timedelta) -> None:
    """As if the token had been given or used so long before."""
    row = TerminalToken.objects.get(digest=services.tokens.rules.digest(token))
    for name, age in fields.items():
        setattr(row, name, getattr(row, name) - age)
    row.save()


def test_the_tokens_open_what_they_are_for(held):
    """What every other test here takes something away from."""
    assert held.everything() == {""}
    assert held.cli.refresh(held.tokens.refresh).status == 200


# --- A stolen refresh token


def test_a_stolen_refresh_token_used_after_the_grace_ends_the_whole_family(held):
    """The owner refreshed long ago; the thief comes with the old one. Nobody can know which of the two is which."""
    mine = held.cli.refresh(held.tokens.refresh).json
    newer = held.cli.refresh(mine["refreshToken"]).json
    years_ago(held.tokens.refresh, used_at=timedelta(seconds=61))

    stolen = held.cli.refresh(held.tokens.refresh)

    assert stolen.fault == "InvalidGrantException"
    for token in (held.tokens.refresh, mine["refreshToken"], newer["refreshToken"]):
        assert held.cli.refresh(token).fault == "InvalidGrantException"
    for token in (held.tokens.access, mine["accessToken"], newer["accessToken"]):
        assert held.cli.accounts(token).fault == "UnauthorizedException"
    event = AuditEvent.objects.get(kind="terminal.reused")
    assert event.data["what"] == "refresh token" and event.subject_id == str(held.terminal.pk)


def test_it_is_noticed_the_other_way_round_too(held):
    """The thief was first; the owner comes later than the grace, and the thief's tokens end."""
    theirs = held.cli.refresh(held.tokens.refresh).json
    years_ago(held.tokens.refresh, used_at=timedelta(minutes=20))

    held.cli.refresh(held.tokens.refresh)

    assert held.cli.accounts(theirs["accessToken"]).fault == "UnauthorizedException"
    assert held.cli.refresh(theirs["refreshToken"]).fault == "InvalidGrantException"


def test_within_the_grace_programs_side_by_side_are_all_served(held):
    first = held.cli.refresh(held.tokens.refresh).json
    years_ago(held.tokens.refresh, used_at=timedelta(seconds=55))
    second = held.cli.refresh(held.tokens.refresh).json

    assert len({first["refreshToken"], second["refreshToken"], held.tokens.refresh}) == 3
    assert held.cli.accounts(first["accessToken"]).status == 200
    assert held.cli.accounts(second["accessToken"]).status == 200
    assert not AuditEvent.objects.filter(kind="terminal.reused").exists()


def test_within_the_grace_one_token_does_not_give_without_end(held):
    told = [held.cli.refresh(held.tokens.refresh).fault for _ in range(103)]

    assert told == [""] * 100 + ["SlowDownException"] * 3
    assert held.cli.accounts(held.tokens.access).status == 200


def test_a_thief_without_the_client_gets_nothing(held):
    """The registration is not secret, but it has to be the one."""
    thief = Cli(through(stranger("203.0.113.66")))
    thief.register()

    assert thief.refresh(held.tokens.refresh).fault == "InvalidGrantException"
    assert held.cli.refresh(held.tokens.refresh).status == 200


def test_refreshing_does_not_outlive_the_browser_session(ada, role):
    held = hold(ada, lasts=timedelta(minutes=10))
    fresh = held.cli.refresh(held.tokens.refresh).json

    assert fresh["expiresIn"] <= 600
    Terminal.objects.update(ends_at=timezone.now())

    assert held.everything() == {"UnauthorizedException"}
    assert held.cli.refresh(fresh["refreshToken"]).fault == "InvalidGrantException"


def test_an_access_token_is_over_after_its_hour(held):
    years_ago(held.tokens.access, expires_at=timedelta(hours=1))

    assert held.everything() == {"UnauthorizedException"}
    assert held.cli.refresh(held.tokens.refresh).status == 200


# --- Tokens of another kind


def test_a_token_is_good_for_what_it_is_and_for_nothing_else(ada, held):
    now = timezone.now()
    verifier, challenge = pkce()
    code = services.give_code(
        held.terminal, redirect_uri=REDIRECT, challenge=challenge, method="S256", now=now
    )
    script = services.give_script_token(
        let_in(ada, kind="script", flow="portal"), seconds=3600, now=now
    )
    tokens = {
        "access": held.tokens.access,
        "refresh": held.tokens.refresh,
        "code": code,
        "script": script,
        "client": held.cli.secret,
        "digest": services.tokens.rules.digest(held.tokens.access),
        "terminal": str(held.terminal.pk),
    }

    for kind, token in tokens.items():
        ok = kind == "access"
        assert held.cli.accounts(token).fault == ("" if ok else "UnauthorizedException"), kind
        keys = held.cli.credentials(token, ACCOUNT, "Developer")
        assert keys.fault == ("" if ok else "UnauthorizedException"), kind
        if kind != "refresh":
            assert held.cli.refresh(token).fault == "InvalidGrantException", kind
        if kind != "code":
            answer = held.cli.exchange(token, verifier, REDIRECT)
            assert answer.fault == "InvalidGrantException", kind
        assert machine(token).status_code == (200 if kind == "script" else 401), kind
        if kind not in ("access", "script"):
            assert held.cli.logout(token).fault == "UnauthorizedException", kind
    device = Cli(through(stranger()))
    device.register_for_device()
    for token in tokens.values():
        assert device.poll(token).fault == "InvalidGrantException"


def machine(token: str, path: str = "/api/process", **more: str):
    return stranger().get(
        path,
        {"account": ACCOUNT, "role": "Developer", **more},
        secure=True,
        headers={"Authorization": f"Bearer {token}"},
    )


def test_a_token_a_little_different_is_another(held):
    token = held.tokens.access
    for wrong in (
        token[:-1],
        token + "A",
        token.upper(),
        token.replace("_access_", "_script_"),
        f" {token} x",
        token.removeprefix("daypass_access_"),
    ):
        assert held.cli.accounts(wrong).fault == "UnauthorizedException"


def test_nothing_that_is_kept_can_be_used(held):
    """Whoever reads the database has digests."""
    for row in TerminalToken.objects.all():
        assert held.cli.accounts(row.digest).fault == "UnauthorizedException"
        assert held.cli.refresh(row.digest).fault == "InvalidGrantException"
        assert len(row.digest) == 64


# --- Of somebody who may no longer


def deactivated(held: Held) -> None:
    held.terminal.person.is_active = False
    held.terminal.person.save()


def cut_off(held: Held) -> None:
    held.terminal.person.epoch += 1
    held.terminal.person.save()


def provider_off(held: Held) -> None:
    held.terminal.person.provider.enabled = False
    held.terminal.person.provider.save()


def moved_to_another_provider(held: Held) -> None:
    held.terminal.person.provider = make.provider()
    held.terminal.person.save()


def stale(held: Held) -> None:
    Membership.objects.update(confirmed_at=timezone.now() - timedelta(hours=9))


def ended_in_the_portal(held: Held) -> None:
    services.end(
        held.terminal.pk,
        because=Terminal.Ended.PERSON,
        actor=services.common.Actor.task("t"),
        of_person=held.terminal.person_id,
        now=timezone.now(),
    )


def switched_off(held: Held) -> None:
    TerminalPolicy.objects.create(enabled=False)


def switched_off_for_the_provider(held: Held) -> None:
    TerminalPolicy.objects.create(provider=held.terminal.person.provider, enabled=False)


def shorter(held: Held) -> None:
    Terminal.objects.update(created_at=timezone.now() - timedelta(hours=2))
    TerminalPolicy.objects.create(longest_seconds=3600)


def signed_out_by_the_client(held: Held) -> None:
    assert held.cli.logout(held.tokens.access).status in (200, 204)


GONE = [
    *(deactivated, cut_off, provider_off, moved_to_another_provider, stale, ended_in_the_portal),
    *(switched_off, switched_off_for_the_provider, shorter, signed_out_by_the_client),
]


@pytest.mark.parametrize("gone", GONE)
def test_who_may_no_longer_gets_nothing_from_the_next_call_on(held, gone):
    assert held.everything() == {""}
    issued = Session.objects.count()

    gone(held)

    assert held.everything() == {"UnauthorizedException"}
    assert held.cli.refresh(held.tokens.refresh).fault == "InvalidGrantException"
    assert Session.objects.count() == issued


@pytest.mark.parametrize("gone", [deactivated, cut_off, provider_off, ended_in_the_portal])
def test_it_does_not_come_back_when_the_person_does(held, gone):
    gone(held)
    assert held.everything() == {"UnauthorizedException"}
    person = held.terminal.person
    person.refresh_from_db()
    person.is_active = True
    person.save()
    person.provider.enabled = True
    person.provider.save()

    assert held.everything() == {"UnauthorizedException"}


@pytest.mark.parametrize("gone", [deactivated, cut_off, provider_off, stale, switched_off])
def test_a_script_s_token_is_no_better(ada, role, gone):
    terminal = let_in(ada, kind="script", flow="portal")
    token = services.give_script_token(terminal, seconds=3600, now=timezone.now())
    assert machine(token).status_code == 200

    gone(Held(Cli(through(stranger())), terminal, Tokens("", "", 0, terminal)))

    assert machine(token).status_code in (401, 403)


def test_a_code_given_before_is_worth_nothing_after(ada, role):
    for gone in (deactivated, cut_off, provider_off, switched_off):
        person = make.person(groups=[make.group()])
        held = hold(person)
        verifier, challenge = pkce()
        code = services.give_code(
            held.terminal,
            redirect_uri=REDIRECT,
            challenge=challenge,
            method="S256",
            now=timezone.now(),
        )
        gone(held)

        assert held.cli.exchange(code, verifier, REDIRECT).fault == "InvalidGrantException"
        assert held.terminal.tokens.filter(kind="access").count() == 1  # that of `hold`


def test_signing_out_in_the_browser_ends_what_it_let_in_and_nothing_else(ada, role):
    here, there = sign_in(ada), sign_in(ada)
    mine = hold(ada, line=here.session["daypass"]["line"])
    other = hold(ada, line=there.session["daypass"]["line"])
    assert mine.everything() == other.everything() == {""}

    here.post("/sign-out/", secure=True)

    assert mine.everything() == {"UnauthorizedException"}
    assert mine.cli.refresh(mine.tokens.refresh).fault == "InvalidGrantException"
    assert other.everything() == {""}
    mine.terminal.refresh_from_db()
    assert mine.terminal.ended_because == Terminal.Ended.SIGNED_OUT


def test_nobody_ends_the_terminal_of_somebody_else(held):
    eve = make.person("eve")

    ended = services.end(
        held.terminal.pk,
        because=Terminal.Ended.PERSON,
        actor=services.common.Actor.task("t"),
        of_person=eve.pk,
        now=timezone.now(),
    )

    assert not ended
    assert held.everything() == {""}


def test_signed_out_by_the_client_every_token_of_it_is_over(held):
    newer = held.cli.refresh(held.tokens.refresh).json

    held.cli.logout(held.tokens.access)

    assert held.cli.accounts(newer["accessToken"]).fault == "UnauthorizedException"
    assert held.cli.refresh(newer["refreshToken"]).fault == "InvalidGrantException"
    assert held.cli.logout(held.tokens.access).fault == "UnauthorizedException"


# --- Roles


def test_a_mapping_that_was_removed_is_refused_on_the_very_next_call(held, role):
    assert held.keys().status == 200
    issued = Session.objects.count()
    MappingRole.objects.all().delete()

    reply = held.keys()

    assert reply.fault in ("ForbiddenException", "ResourceNotFoundException")
    assert Session.objects.count() == issued
    assert held.cli.accounts(held.tokens.access).json["accountList"] == []


def test_a_role_of_somebody_else_does_not_exist(held):
    """Said in the same words as of a role that is nowhere."""
    other = make.role("Admin", of=make.account(account_id="999988887777"))
    make.mapping(make.group("admins"), other)

    theirs = held.cli.credentials(held.tokens.access, "999988887777", "Admin")
    nowhere = held.cli.credentials(held.tokens.access, "999988887776", "Admin")

    assert theirs.fault == nowhere.fault == "ResourceNotFoundException"
    assert theirs.message == nowhere.message
    assert not Session.objects.exists()


def test_a_terminal_for_one_role_gives_no_other(ada, role):
    other = make.role("Reader", of=role.account)
    make.mapping(ada.memberships.get().group, other)
    held = hold(ada, role_id=role.pk)

    assert held.keys().status == 200
    assert held.keys("Reader").fault == "ResourceNotFoundException"
    listed = held.cli.roles(held.tokens.access, ACCOUNT).json["roleList"]
    assert [one["roleName"] for one in listed] == ["Developer"]


def test_a_sensitive_role_is_not_given_to_a_device_code(ada, role):
    role.sensitive = True
    role.save()
    by_code, in_browser = hold(ada, flow="device"), hold(ada)

    assert in_browser.keys().status == 200
    refused = by_code.keys()
    assert refused.fault == "ForbiddenException"
    assert "--use-device-code" in refused.message
    assert not Session.objects.filter(client__contains="device").exists()


def test_everything_that_is_given_is_a_recorded_session(held):
    held.keys()

    session = Session.objects.get()
    assert session.state == "active" and "aws-cli/2.38.1" in session.client
    assert AuditEvent.objects.filter(kind="session.issued").count() == 1


def test_a_principal_is_read_anew_and_never_taken_from_the_terminal(held, ada):
    """A group that was lost a moment ago is lost here as well, though the sign-in that told of it is remembered."""
    Membership.objects.all().delete()

    assert held.keys().fault in ("ForbiddenException", "ResourceNotFoundException")
    assert principal(ada).groups == ()
