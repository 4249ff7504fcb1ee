"""What codes and tokens are worth, for how long, and to whom."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.utils import timezone

from accounts import places
from accounts import services as accounts
from accounts.events import LinesOver, announce
from accounts.models import Membership
from broker.audit.models import AuditEvent
from broker.audit.services import Actor
from broker.awssso import queries, rules, services
from broker.awssso.models import DeviceRequest, Terminal, TerminalPolicy, TerminalToken
from broker.awssso.services import Asker, NotAllowed
from broker.awssso.tasks import clear_terminals
from broker.awssso.wire import Fault, WireError
from broker.errors import BadInput
from tests import factories as make
from tests.accounts.conftest import BY
from tests.awssso.conftest import (
    REDIRECT,
    browser_of,
    let_in,
    pkce,
    principal,
    register,
    register_for_device,
    signed_in_terminal,
)
from tests.portal.conftest import sign_in
from tests.product import Product
from tests.races import drop_database, empty_database
from tests.servers import start_valkey

pytestmark = pytest.mark.django_db
HERE = Asker("198.51.100.23", "aws-cli/2.38.1")
SECOND = timedelta(seconds=1)


def kinds() -> list[str]:
    return list(AuditEvent.objects.order_by("seq").values_list("kind", flat=True))


def refused(work) -> Fault:
    with pytest.raises(WireError) as raised:
        work()
    assert raised.value.failure.message.endswith(".")
    return raised.value.failure.fault


def use(tokens, *, now=None, kinds=("access",)) -> services.Bearer:
    return services.bearer(
        getattr(tokens, "access", tokens), kinds, HERE, now=now or timezone.now()
    )


def why_not(terminal: Terminal) -> str:
    terminal.refresh_from_db()
    return terminal.ended_because


# --- Authorization codes


class Code:
    """A code that was given for a terminal, and what its client brings with it."""

    def __init__(self, person, *, now=None) -> None:
        self.now = now or timezone.now()
        self.registration, _ = register()
        self.terminal = let_in(person, self.registration, now=self.now)
        self.verifier, self.challenge = pkce()
        self.code = services.give_code(
            self.terminal,
            redirect_uri=REDIRECT,
            challenge=self.challenge,
            method="S256",
            now=self.now,
        )

    def exchange(self, *, now=None, code="", **other):
        return services.exchange_code_for_tokens(
            code or self.code,
            **{
                "client_digest": self.registration.digest,
                "redirect_uri": REDIRECT,
                "verifier": self.verifier,
            }
            | other,
            now=now or self.now,
        )


def test_a_code_is_exchanged_for_an_hour_and_a_refresh_token(ada):
    tokens = Code(ada).exchange()

    bearer = use(tokens)
    assert tokens.expires_in == 3600
    assert bearer.principal.handle == "ada"
    assert bearer.principal.address == HERE.address
    assert bearer.principal.proof.provider_id == ada.provider_id
    assert bearer.terminal == tokens.terminal


def test_nothing_of_codes_and_tokens_is_kept_or_recorded_in_the_clear(ada):
    code = Code(ada)
    tokens = code.exchange()
    kept = json.dumps(
        [list(TerminalToken.objects.values()), list(AuditEvent.objects.values())], default=str
    )

    for secret in (code.code, tokens.access, tokens.refresh, code.verifier):
        assert secret not in kept
        assert secret[-20:] not in kept
    assert tokens.access not in repr(tokens)


def test_a_code_that_comes_twice_ends_what_the_first_had_got(ada):
    code = Code(ada)
    tokens = code.exchange()

    assert refused(code.exchange) is Fault.INVALID_GRANT
    assert why_not(code.terminal) == "reused"
    assert refused(lambda: use(tokens)) is Fault.UNAUTHORIZED
    again = {"client_digest": code.registration.digest, "now": timezone.now()}
    assert refused(lambda: services.refresh(tokens.refresh, **again)) is Fault.INVALID_GRANT
    assert kinds() == ["terminal.let_in", "terminal.reused"]
    assert AuditEvent.objects.get(kind="terminal.reused").data["what"] == "code"


def test_a_used_code_ends_the_terminal_even_from_another_client(ada):
    code = Code(ada)
    code.exchange()

    later = code.now + timedelta(minutes=5)
    assert refused(lambda: code.exchange(client_digest="0" * 64, now=later)) is Fault.INVALID_GRANT
    assert why_not(code.terminal) == "reused"


@pytest.mark.parametrize(
    "other",
    [
        {"client_digest": "0" * 64},
        {"redirect_uri": "http://127.0.0.1:39954/oauth/callback"},
        {"redirect_uri": "http://127.0.0.1/oauth/callback"},
        {"redirect_uri": ""},
        {"verifier": "A" * 64},
        {"verifier": ""},
        {"code": "daypass_code_made_up"},
        {"code": "\ud800"},
    ],
)
def test_a_code_serves_only_its_client_its_address_and_its_verifier(ada, other):
    code = Code(ada)

    assert refused(lambda: code.exchange(**other)) is Fault.INVALID_GRANT
    assert code.exchange().access  # and is not spoilt by whoever tried


def test_the_challenge_itself_is_no_verifier(ada):
    code = Code(ada)

    assert refused(lambda: code.exchange(verifier=code.challenge)) is Fault.INVALID_GRANT


@pytest.mark.parametrize("method", ["plain", "", "s256"])
def test_no_code_is_given_for_a_weaker_proof(ada, method):
    with pytest.raises(BadInput):
        services.give_code(
            let_in(ada),
            redirect_uri=REDIRECT,
            challenge="A" * 43,
            method=method,
            now=timezone.now(),
        )


def test_a_code_is_over_after_a_minute(ada):
    code = Code(ada)

    late = code.now + timedelta(seconds=60)
    assert refused(lambda: code.exchange(now=late)) is Fault.INVALID_GRANT
    assert why_not(code.terminal) == ""
    assert code.exchange(now=late - SECOND)


def test_a_refresh_token_is_no_code_and_an_access_token_no_refresh_token(ada):
    code = Code(ada)
    tokens = code.exchange()
    mine = {"client_digest": code.registration.digest, "now": timezone.now()}

    assert refused(lambda: code.exchange(code=tokens.refresh)) is Fault.INVALID_GRANT
    assert refused(lambda: services.refresh(tokens.access, **mine)) is Fault.INVALID_GRANT
    assert refused(lambda: use(tokens.refresh)) is Fault.UNAUTHORIZED
    assert refused(lambda: use(tokens.access, kinds=["script"])) is Fault.UNAUTHORIZED
    assert use(tokens)


def test_the_key_of_aws_login_is_kept_and_asked_for_from_then_on(ada):
    now = timezone.now()
    client = rules.digest("arn:aws:signin:::devtools/same-device")
    terminal = let_in(ada, kind=Terminal.Kind.LOGIN)
    Terminal.objects.update(client_digest=client)
    verifier, challenge = pkce()
    code = services.give_code(
        terminal, redirect_uri=REDIRECT, challenge=challenge, method="SHA-256", now=now
    )
    exchanged = services.exchange_code(
        code,
        client_digest=client,
        redirect_uri=REDIRECT,
        verifier=verifier,
        now=now,
        key_thumbprint="A" * 43,
    )
    tokens = services.give_tokens(exchanged, now=now)

    assert tokens.access == ""  # the credentials themselves are the access token
    for other in ("", "B" * 43):
        assert (
            refused(
                lambda other=other: services.refresh(
                    tokens.refresh, client_digest=client, now=now, key_thumbprint=other
                )
            )
            is Fault.INVALID_GRANT
        )
    assert services.refresh(
        tokens.refresh, client_digest=client, now=now, key_thumbprint="A" * 43
    ).refresh


# --- Refresh tokens


def test_a_refresh_token_is_honoured_again_for_a_minute_and_then_ends_the_terminal(ada):
    now = timezone.now()
    terminal, first, registration, _ = signed_in_terminal(ada)
    mine = {"client_digest": registration.digest}
    second = services.refresh(first.refresh, **mine, now=now)
    sibling = services.refresh(first.refresh, **mine, now=now + timedelta(seconds=60))
    third = services.refresh(sibling.refresh, **mine, now=now + timedelta(seconds=60))
    assert len({one.refresh for one in (first, second, sibling, third)}) == 4
    assert len({one.access for one in (first, second, sibling, third)}) == 4

    late = now + timedelta(seconds=61)
    assert refused(lambda: services.refresh(first.refresh, **mine, now=late)) is Fault.INVALID_GRANT
    assert why_not(terminal) == "reused"
    for newest in (second, third):
        assert (
            refused(lambda newest=newest: services.refresh(newest.refresh, **mine, now=late))
            is Fault.INVALID_GRANT
        )
        assert refused(lambda newest=newest: use(newest, now=late)) is Fault.UNAUTHORIZED
    assert kinds() == ["terminal.let_in", "terminal.reused"]
    assert AuditEvent.objects.get(kind="terminal.reused").data["what"] == "refresh token"


def test_a_refresh_token_gives_a_hundred_pairs_at_most_and_asking_for_more_ends_nothing(ada):
    now = timezone.now()
    terminal, first, registration, _ = signed_in_terminal(ada)
    mine = {"client_digest": registration.digest, "now": now}
    for _ in range(100):
        services.refresh(first.refresh, **mine)

    assert refused(lambda: services.refresh(first.refresh, **mine)) is Fault.SLOW_DOWN
    assert why_not(terminal) == ""
    assert use(first)


def test_a_refresh_token_serves_only_the_client_that_it_was_given_to(ada):
    _terminal, first, registration, _ = signed_in_terminal(ada)
    now = timezone.now()

    assert (
        refused(lambda: services.refresh(first.refresh, client_digest="0" * 64, now=now))
        is Fault.INVALID_GRANT
    )
    assert services.refresh(first.refresh, client_digest=registration.digest, now=now)


def test_refreshing_does_not_lengthen_the_life_of_a_terminal(ada):
    now = timezone.now()
    _terminal, tokens, registration, _ = signed_in_terminal(ada, now=now, lasts=timedelta(hours=2))
    for minutes in range(10, 120, 10):
        tokens = services.refresh(
            tokens.refresh,
            client_digest=registration.digest,
            now=now + timedelta(minutes=minutes),
        )

    assert tokens.expires_in == 600
    end = now + timedelta(hours=2)
    assert use(tokens, now=end - SECOND)
    assert refused(lambda: use(tokens, now=end)) is Fault.UNAUTHORIZED
    assert (
        refused(
            lambda: services.refresh(tokens.refresh, client_digest=registration.digest, now=end)
        )
        is Fault.INVALID_GRANT
    )


def test_a_clock_that_was_set_back_ends_no_terminal_and_opens_no_grace():
    now = timezone.now()

    assert rules.rotation(now, 1, now - timedelta(minutes=5)) is rules.Rotation.ENOUGH
    assert rules.rotation(now, 1, now - SECOND) is rules.Rotation.SIBLING


# --- How long


def test_an_access_token_is_good_for_an_hour(ada):
    now = timezone.now()
    _terminal, tokens, *_ = signed_in_terminal(ada, now=now)

    assert use(tokens, now=now + timedelta(minutes=59, seconds=59))
    assert refused(lambda: use(tokens, now=now + timedelta(hours=1))) is Fault.UNAUTHORIZED


def test_nothing_outlives_the_browser_session_or_the_policy(ada):
    now = timezone.now()
    _t, tokens, *_ = signed_in_terminal(ada, now=now, lasts=timedelta(minutes=7))
    assert tokens.expires_in == 420

    TerminalPolicy.objects.create(longest_seconds=300)
    terminal, tokens, *_ = signed_in_terminal(ada, now=now, lasts=timedelta(hours=8))
    assert terminal.ends_at == now + timedelta(seconds=300)
    assert tokens.expires_in == 300


def test_a_policy_that_grows_stricter_holds_for_what_was_let_in_before(ada):
    now = timezone.now()
    _t, tokens, *_ = signed_in_terminal(ada, now=now)
    TerminalPolicy.objects.create(longest_seconds=300)

    assert use(tokens, now=now + timedelta(seconds=299))
    assert refused(lambda: use(tokens, now=now + timedelta(seconds=300))) is Fault.UNAUTHORIZED


def test_a_script_token_is_good_for_what_was_asked_and_never_longer_than_its_terminal(ada):
    now = timezone.now()
    terminal = let_in(ada, kind="script", flow="portal", label="backup", lasts=timedelta(hours=1))
    short = services.give_script_token(terminal, seconds=60, now=now)
    long = services.give_script_token(terminal, seconds=10**6, now=now)

    assert use(short, now=now + 59 * SECOND, kinds=["script"]).terminal.label == "backup"
    assert (
        refused(lambda: use(short, now=now + 60 * SECOND, kinds=["script"])) is Fault.UNAUTHORIZED
    )
    assert use(long, now=now + timedelta(minutes=59), kinds=["script"])
    late = now + timedelta(hours=1, seconds=1)
    assert refused(lambda: use(long, now=late, kinds=["script"])) is Fault.UNAUTHORIZED
    assert refused(lambda: use(short, kinds=["access"])) is Fault.UNAUTHORIZED


@pytest.mark.parametrize(
    ("kind", "flow", "word"),
    [
        ("sso", "browser", "aws sso login"),
        ("login", "browser", "aws login"),
        ("script", "portal", "new token"),
    ],
)
def test_who_is_refused_is_told_what_to_do_for_another_of_its_kind(ada, kind, flow, word):
    terminal = let_in(ada, kind=kind, flow=flow)
    token = services.give_script_token(terminal, seconds=60, now=timezone.now())
    services.end(
        terminal.pk, because=Terminal.Ended.PERSON, actor=Actor.task("x"), now=timezone.now()
    )

    with pytest.raises(WireError, match=word):
        services.bearer(token, ["script"], HERE, now=timezone.now())
    with pytest.raises(WireError, match="new token"):
        services.bearer("made up", ["script"], HERE, now=timezone.now())


# --- The person behind it


def stale(person):
    Membership.objects.update(confirmed_at=timezone.now() - timedelta(days=2))


def other_provider(person):
    person.provider = make.provider("another")
    person.save()


PEOPLE = {
    "switched off": lambda person: accounts.set_person_active(person, False, by=BY),
    "switched off and on again": lambda person: (
        accounts.set_person_active(person, False, by=BY),
        accounts.set_person_active(person, True, by=BY),
    ),
    "of another provider now": other_provider,
    "provider switched off": lambda person: type(person.provider).objects.update(enabled=False),
    "groups too old": stale,
    "terminals switched off": lambda person: TerminalPolicy.objects.create(enabled=False),
    "terminals switched off for this provider": lambda person: TerminalPolicy.objects.create(
        provider=person.provider, enabled=False
    ),
}


@pytest.mark.parametrize("change", PEOPLE)
def test_a_person_who_lost_access_has_to_sign_in_again_at_once(ada, change):
    terminal, tokens, registration, _ = signed_in_terminal(ada)
    assert use(tokens)

    PEOPLE[change](ada)

    assert refused(lambda: use(tokens)) is Fault.UNAUTHORIZED
    mine = {"client_digest": registration.digest, "now": timezone.now()}
    assert refused(lambda: services.refresh(tokens.refresh, **mine)) is Fault.INVALID_GRANT
    for_good = change not in ("groups too old",) and "terminals" not in change
    assert why_not(terminal) == ("shut" if for_good else "")


@pytest.mark.parametrize("change", PEOPLE)
def test_who_lost_access_before_the_first_exchange_gets_no_tokens(ada, change):
    code = Code(ada)
    registration, _ = register_for_device()
    now = timezone.now()
    started = services.start_device(registration, HERE, now=now)
    me = principal(ada)
    request = services.find_device(started.user_code, me, HERE, now=now)
    browser = {"line": "x", "relay": "", "browser_ends": now + timedelta(hours=1)}
    services.approve_device(request.pk, me, HERE, **browser, now=now)

    PEOPLE[change](ada)

    assert refused(code.exchange) is Fault.INVALID_GRANT
    collect = {"client_digest": registration.digest, "asker": HERE, "now": now}
    assert (
        refused(lambda: services.exchange_device_code(started.device_code, **collect))
        is Fault.INVALID_GRANT
    )
    assert refused(lambda: services.give_tokens(code.terminal, now=now)) is Fault.INVALID_GRANT
    assert not TerminalToken.objects.exclude(kind="code").exists()


def test_one_group_that_is_fresh_or_kept_current_is_enough_for_the_terminal(ada):
    stale(ada)
    scim = make.membership(ada, make.group("by-scim", at=ada.provider), source="scim")
    _t, tokens, *_ = signed_in_terminal(ada)
    assert use(tokens)

    scim.delete()
    make.membership(ada, make.group("fresh", at=ada.provider))
    assert len(use(tokens).principal.groups) == 2


def test_what_was_stale_serves_again_after_a_new_sign_in_confirmed_it(ada):
    _t, tokens, *_ = signed_in_terminal(ada)
    stale(ada)
    assert refused(lambda: use(tokens)) is Fault.UNAUTHORIZED

    Membership.objects.update(confirmed_at=timezone.now())
    assert use(tokens)


def test_whose_groups_are_all_stale_lets_nothing_in_before_a_new_sign_in(ada):
    stale(ada)

    with pytest.raises(NotAllowed, match="Sign in to Daypass again"):
        let_in(ada)


def test_the_page_of_a_client_leads_to_a_new_sign_in_where_groups_are_stale(ada):
    registration, _ = register()
    page = "/authorize?" + urlencode(
        {
            "response_type": "code",
            "client_id": registration.id,
            "redirect_uri": REDIRECT,
            "state": "s" * 36,
            "code_challenge_method": "S256",
            "scopes": "sso:account:access",
            "code_challenge": pkce()[1],
        }
    )
    browser = sign_in(ada)
    assert browser.get(page, secure=True).status_code == 200
    stale(ada)

    for answer in (
        browser.get(page, secure=True),
        browser.post(page, {"answer": "yes"}, secure=True),
    ):
        assert answer.status_code == 302
        assert answer["Location"].startswith("/sign-in/")
        assert "fresh=1" in answer["Location"]
        assert places.find(parse_qs(urlsplit(answer["Location"]).query)["to"][0]) == page
    assert not Terminal.objects.exists()


def test_a_person_without_groups_gets_an_answer_and_no_role():
    _t, tokens, *_ = signed_in_terminal(make.person("nobody", at=make.provider()))

    assert use(tokens).principal.groups == ()


def test_whoever_lost_access_meanwhile_lets_nothing_in(ada):
    before = principal(ada)
    accounts.set_person_active(ada, False, by=BY)
    wish = services.LetIn("sso", "browser", "a client", "0" * 64, HERE)
    browser = {"line": "a line", "relay": "", "browser_ends": timezone.now() + timedelta(hours=1)}

    with pytest.raises(NotAllowed):
        services.let_in(before, wish, **browser, now=timezone.now())
    assert not Terminal.objects.exists()
    assert "terminal.let_in" not in kinds()


@pytest.mark.parametrize(
    ("policy", "kind", "flow"),
    [
        ({"enabled": False}, "sso", "browser"),
        ({"enabled": False}, "login", "browser"),
        ({"script_tokens": False}, "script", "portal"),
        ({"device_codes": False}, "sso", "device"),
    ],
)
def test_what_administrators_forbid_is_not_let_in(ada, policy, kind, flow):
    TerminalPolicy.objects.create(**policy)

    with pytest.raises(NotAllowed, match="administrators"):
        let_in(ada, kind=kind, flow=flow)


def test_a_provider_s_own_policy_takes_the_place_of_everybody_s(ada):
    TerminalPolicy.objects.create(enabled=False)
    TerminalPolicy.objects.create(provider=ada.provider, longest_seconds=900)

    assert let_in(ada)
    assert queries.policy_of(ada.provider_id).longest == timedelta(seconds=900)
    assert not queries.policy_of(make.provider().pk).enabled
    assert not queries.policy_of(None).enabled


# --- Use is noted


def test_use_is_noted_at_most_once_a_minute(ada, django_assert_max_num_queries):
    now = timezone.now()
    terminal, tokens, *_ = signed_in_terminal(ada, now=now)
    use(tokens, now=now)
    terminal.refresh_from_db()
    assert (terminal.used_at, terminal.used_from, terminal.used_by) == (
        now,
        HERE.address,
        HERE.user_agent,
    )

    for seconds in (1, 30, 59):
        with django_assert_max_num_queries(3):
            use(tokens, now=now + seconds * SECOND)
    terminal.refresh_from_db()
    assert terminal.used_at == now

    services.bearer(
        tokens.access, ["access"], Asker("", "x" * 5000 + "\x1b"), now=now + 60 * SECOND
    )
    terminal.refresh_from_db()
    assert terminal.used_at == now + 60 * SECOND
    assert (terminal.used_from, terminal.used_by) == (None, "x" * 200)


# --- Ending


def test_a_terminal_is_ended_once_and_recorded_once(ada):
    terminal, tokens, *_ = signed_in_terminal(ada)
    by = {"because": Terminal.Ended.PERSON, "actor": Actor(str(ada.pk), "ada")}
    now = timezone.now()

    stranger = make.person("stranger")
    assert not services.end(terminal.pk, **by, of_person=stranger.pk, now=now)
    assert services.end(terminal.pk, **by, of_person=ada.pk, now=now)
    assert not services.end(terminal.pk, **by, now=now)
    assert refused(lambda: use(tokens)) is Fault.UNAUTHORIZED
    assert kinds() == ["terminal.let_in", "terminal.ended"]
    event = AuditEvent.objects.get(kind="terminal.ended")
    assert (event.actor, event.data["because"]) == ("ada", "person")


@pytest.mark.parametrize(
    ("how", "ends"),
    [
        ("signed out", True),
        ("signed out at the provider", True),
        ("somebody else signed in", True),
        ("ended", True),
        ("idle", False),
        ("absolute", False),
    ],
)
def test_who_signs_out_in_the_browser_ends_what_was_let_in_from_it_and_nothing_else(ada, how, ends):
    from django.db import transaction

    mine, *_ = signed_in_terminal(ada, line="this-browser")
    other, *_ = signed_in_terminal(ada, line="another-browser")
    without, *_ = signed_in_terminal(ada, line="")
    with transaction.atomic():
        announce(LinesOver(("this-browser",), how, timezone.now()))
        announce(LinesOver(("",), how, timezone.now()))

    assert why_not(mine) == ("signed_out" if ends else "")
    assert why_not(other) == why_not(without) == ""


def test_the_sign_out_button_ends_the_terminals_of_this_browser(ada):
    browser, elsewhere = sign_in(ada), sign_in(ada)
    here, tokens, *_ = signed_in_terminal(ada, line=browser_of(browser)[0])
    there, *_ = signed_in_terminal(ada, line=browser_of(elsewhere)[0])

    assert browser.post("/sign-out/", secure=True).status_code == 302

    assert refused(lambda: use(tokens)) is Fault.UNAUTHORIZED
    assert (why_not(here), why_not(there)) == ("signed_out", "")
    event = AuditEvent.objects.get(kind="terminal.ended")
    assert (event.actor, event.data["because"]) == ("ada", "signed_out")


def test_what_is_over_is_marked_and_what_is_long_over_is_cleared(ada):
    now = timezone.now()
    old = now - timedelta(days=91)
    long_over, *_ = signed_in_terminal(ada, now=old, lasts=timedelta(hours=1))
    over, *_ = signed_in_terminal(ada, now=now - timedelta(hours=3), lasts=timedelta(hours=1))
    live, tokens, *_ = signed_in_terminal(ada, now=now)
    grace = make.person("grace")
    shut, *_ = signed_in_terminal(grace, now=now)
    accounts.set_person_active(grace, False, by=BY)
    registration, _ = register_for_device()
    services.start_device(registration, HERE, now=now - timedelta(hours=2))
    waiting = services.start_device(registration, HERE, now=now)

    clear_terminals()
    clear_terminals()

    assert set(Terminal.objects.all()) == {over, live, shut}
    assert (why_not(over), why_not(shut), why_not(live)) == ("expired", "shut", "")
    over.refresh_from_db()
    assert over.ended_at == over.ends_at
    assert {token.terminal_id for token in TerminalToken.objects.all()} == {live.pk, shut.pk}
    assert DeviceRequest.objects.get().device_digest == rules.digest(waiting.device_code)
    assert use(tokens)
    ended = AuditEvent.objects.filter(kind="terminal.ended").values_list("data__because", flat=True)
    assert sorted(ended) == ["expired", "expired", "shut"]
    assert not Terminal.objects.filter(pk=long_over.pk).exists()


def test_a_client_signs_out_by_its_last_access_token_however_long_that_is_over(ada):
    now = timezone.now()
    terminal, first, registration, _ = signed_in_terminal(ada, now=now - timedelta(hours=6))
    mine = {"client_digest": registration.digest, "now": now - timedelta(hours=5)}
    last = [services.refresh(first.refresh, **mine) for _ in range(2)]

    services.clear(now)

    kept = {token.digest for token in TerminalToken.objects.filter(kind="access")}
    assert kept == {rules.digest(tokens.access) for tokens in last}
    assert refused(lambda: use(last[0])) is Fault.UNAUTHORIZED
    assert services.sign_out(last[0].access, HERE, now=now)
    assert why_not(terminal) == "client"
    services.clear(now + timedelta(hours=2))
    assert not TerminalToken.objects.exists()


def test_a_person_sees_live_terminals_first_and_nobody_else_s(ada):
    now = timezone.now()
    role = make.role("Developer")
    over = let_in(ada, now=now - timedelta(hours=2), lasts=timedelta(hours=1))
    live = let_in(ada, now=now - timedelta(hours=3), role_id=role.pk, label="build")
    let_in(make.person("stranger"))

    rows = queries.of_person(ada.pk, now)

    assert [row.id for row in rows] == [live.pk, over.pk]
    assert [row.live for row in rows] == [True, False]
    assert (rows[0].role_name, rows[0].label) == ("Developer", "build")
    assert rows[1].ended_because == "expired"


# --- Eight at the same moment

ROUNDS = 12

RACES = f"""
import json, threading
from concurrent.futures import ThreadPoolExecutor
from collections import Counter
from django.db import connection, connections
from django.utils import timezone
from broker.audit.models import AuditEvent
from broker.awssso import services
from broker.awssso.models import Terminal
from broker.awssso.wire import WireError
from tests import factories as make
from tests.awssso import conftest as stage

HERE = services.Asker("198.51.100.23", "aws-cli")
ada = make.person("ada", groups=[make.group("developers")])
client, _ = stage.register()
device, _ = stage.register_for_device()
pool = ThreadPoolExecutor(8)
barrier = threading.Barrier(8)

def race(work):
    def one(_):
        barrier.wait(timeout=60)
        try:
            return work()
        except WireError as refused:
            return refused.failure.fault.value
    return list(pool.map(one, range(8)))

def told(answers):
    won = [one for one in answers if not isinstance(one, str)]
    return won, [len(won), sorted(set(one for one in answers if isinstance(one, str)))]

found = {{"code": [], "device": [], "refresh": [], "late": [], "approve": []}}
for n in range({ROUNDS}):
    now = timezone.now()
    terminal = stage.let_in(ada, client)
    verifier, challenge = stage.pkce()
    code = services.give_code(
        terminal, redirect_uri=stage.REDIRECT, challenge=challenge, method="S256", now=now)
    won, said = told(race(lambda: services.exchange_code_for_tokens(
        code, client_digest=client.digest, redirect_uri=stage.REDIRECT, verifier=verifier, now=now)))
    terminal.refresh_from_db()
    found["code"].append(said + [terminal.ended_because])

    started = services.start_device(device, HERE, now=now)
    principal = stage.principal(ada)
    request = services.find_device(started.user_code, principal, HERE, now=now)
    def approve():
        try:
            return services.approve_device(request.pk, principal, HERE, line="x", relay="",
                browser_ends=now + services.devices.DEVICE_LIFE * 6, now=now)
        except services.devices.BadInput as refused:
            return refused.code
    won, said = told(race(approve))
    found["approve"].append(said)
    won, said = told(race(lambda: services.exchange_device_code(
        started.device_code, client_digest=device.digest, asker=HERE, now=now)))
    found["device"].append(said)

    token = won[0].refresh
    won, said = told(race(lambda: services.refresh(token, client_digest=device.digest, now=now)))
    found["refresh"].append(said + [len(set(one.refresh for one in won))])
    late = now + services.tokens.rules.GRACE * 2
    fresh = won[0].refresh
    won, said = told(race(lambda: services.refresh(token, client_digest=device.digest, now=late)))
    terminal = Terminal.objects.latest("created_at")
    found["late"].append(said + [terminal.ended_because])
found["recorded"] = dict(Counter(AuditEvent.objects.values_list("kind", flat=True)))
print(json.dumps(found))
pool.submit(connections.close_all)
"""


@pytest.fixture
def product(tmp_path):
    """Daypass on a database of its own, of the kind that the tests run on."""
    server = os.environ.get("DATABASE_URL", "")
    database = empty_database(server) if server else ""
    valkey = start_valkey()
    made = Product(
        tmp_path, redis_url=valkey.url, **({"DATABASE_URL": database} if database else {})
    )
    yield made
    made.stop()
    valkey.stop()
    if database:
        drop_database(database, server)


def test_of_eight_at_once_one_wins(product):
    found = json.loads(product.python(RACES))

    grant = "InvalidGrantException"
    assert found["code"] == [[1, [grant], "reused"]] * ROUNDS
    assert found["approve"] == [[1, ["not_waiting"]]] * ROUNDS
    assert found["device"] == [[1, [grant]]] * ROUNDS
    assert found["refresh"] == [[8, [], 8]] * ROUNDS
    assert found["late"] == [[0, [grant], "reused"]] * ROUNDS
    assert found["recorded"] == {
        "terminal.let_in": 2 * ROUNDS,
        "terminal.reused": 2 * ROUNDS,
    }
