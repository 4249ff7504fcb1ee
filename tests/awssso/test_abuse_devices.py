"""Device codes, the known way to have a stranger let in: guessed, replayed, sent around, asked for in masses."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.utils import timezone

from accounts import throttle
from broker.audit.models import AuditEvent
from broker.awssso import queries, registrations, rules, services
from broker.awssso.models import DeviceRequest, Terminal, TerminalPolicy
from broker.awssso.services import Asker, NotAllowed
from broker.errors import BadInput
from tests import factories as make
from tests.awssso.abuse import DEVICE, Cli, stranger, through
from tests.awssso.conftest import principal

pytestmark = pytest.mark.django_db

HERE = Asker("198.51.100.7", "Firefox")


@pytest.fixture
def cli() -> Cli:
    made = Cli(through(stranger()))
    assert not made.register_for_device().fault
    return made


@pytest.fixture
def eve(ada):
    """Somebody else of the same company."""
    return make.person("eve", groups=[make.group("sales", at=ada.provider)])


def approve(person, user_code: str, *, line: str = "a-line", session: str = "s") -> Terminal:
    now = timezone.now()
    found = services.find_device(user_code, principal(person), HERE, now=now, session=session)
    return services.approve_device(
        found.id,
        principal(person),
        HERE,
        line=line,
        relay="",
        browser_ends=now + timedelta(hours=8),
        now=now,
    )


def guess() -> str:
    return "".join(random.choices(rules.USER_CODE_LETTERS, k=8))


def guesses(person, times: int, *, session: str = "s", address: str = HERE.address) -> list[str]:
    """What somebody is told who types so many made-up codes."""
    told = []
    for _ in range(times):
        try:
            services.find_device(
                guess(), principal(person), Asker(address), now=timezone.now(), session=session
            )
        except (NotAllowed, BadInput) as refused:
            told.append(refused.code)
    return told


# --- Replayed, of somebody else, too late


def test_a_device_code_gives_tokens_once(cli, ada):
    started = cli.start().json
    terminal = approve(ada, started["userCode"])

    first = cli.poll(started["deviceCode"])
    again = [cli.poll(started["deviceCode"]).fault for _ in range(3)]

    assert first.status == 200
    assert again == ["InvalidGrantException"] * 3
    assert Terminal.objects.get().pk == terminal.pk
    assert terminal.tokens.count() == 2


def test_a_user_code_is_answered_once(cli, ada, eve):
    started = cli.start().json
    approve(ada, started["userCode"])

    for person in (ada, eve):
        with pytest.raises(BadInput):
            approve(person, started["userCode"])
    cli.poll(started["deviceCode"])
    with pytest.raises(BadInput):
        approve(eve, started["userCode"])

    assert Terminal.objects.get().person == ada


def test_a_request_that_was_found_before_is_approved_once(cli, ada, eve):
    """Both have the page open; the one who is quicker decides, for themselves."""
    started, now = cli.start().json, timezone.now()
    found = [
        services.find_device(started["userCode"], principal(one), HERE, now=now, session=one.handle)
        for one in (ada, eve)
    ]
    ends = now + timedelta(hours=8)
    services.approve_device(
        found[0].id, principal(ada), HERE, line="", relay="", browser_ends=ends, now=now
    )

    with pytest.raises(BadInput):
        services.approve_device(
            found[1].id, principal(eve), HERE, line="", relay="", browser_ends=ends, now=now
        )
    with pytest.raises(BadInput):
        services.deny_device(found[1].id, principal(eve), HERE, now=now)

    assert cli.poll(started["deviceCode"]).status == 200
    assert Terminal.objects.get().person == ada


def test_who_approves_is_whose_terminal_it_is_and_it_is_shown_to_them(cli, ada, eve):
    """A client started by eve and approved by ada, who was sent the code: ada's, in her list, with eve's address."""
    started = cli.start().json
    approve(ada, started["userCode"])

    token = cli.poll(started["deviceCode"]).json["accessToken"]
    held = services.bearer(token, {"access"}, HERE, now=timezone.now())

    assert held.principal.handle == "ada"
    (row,) = queries.of_person(ada.pk, timezone.now())
    assert row.live and row.asked_from == "198.51.100.23" and row.approved_from == HERE.address
    assert row.flow == "device" and row.client_name == "botocore-client-test"
    assert queries.of_person(eve.pk, timezone.now()) == ()
    event = AuditEvent.objects.get(kind="terminal.let_in")
    assert event.actor == "ada"
    assert event.data["asked_from"] == "198.51.100.23"
    assert event.data["approved_from"] == HERE.address


def test_a_device_code_is_for_the_client_that_asked(cli, ada):
    started = cli.start().json
    approve(ada, started["userCode"])
    thief = Cli(through(stranger("203.0.113.66")))
    thief.register_for_device(clientName="thief")

    assert thief.poll(started["deviceCode"]).fault == "InvalidGrantException"
    assert cli.poll(started["deviceCode"]).status == 200


def test_the_code_that_people_type_is_no_device_code(cli, ada):
    started = cli.start().json
    approve(ada, started["userCode"])

    for wrong in (
        started["userCode"],
        started["deviceCode"].lower(),
        started["deviceCode"] + " ",
        rules.digest(started["deviceCode"]),
        str(DeviceRequest.objects.get().pk),
    ):
        assert cli.poll(wrong).fault == "InvalidGrantException"
    assert cli.poll(started["deviceCode"]).status == 200


def test_a_refused_client_is_told_and_stays_refused(cli, ada, eve):
    started, now = cli.start().json, timezone.now()
    found = services.find_device(started["userCode"], principal(ada), HERE, now=now)
    services.deny_device(found.id, principal(ada), HERE, now=now)

    assert cli.poll(started["deviceCode"]).fault == "AccessDeniedException"
    with pytest.raises(BadInput):
        approve(eve, started["userCode"])
    assert cli.poll(started["deviceCode"]).fault == "AccessDeniedException"
    assert not Terminal.objects.exists()


def test_a_code_is_over_after_ten_minutes(cli, ada):
    started = cli.start().json
    assert started["expiresIn"] == 600
    DeviceRequest.objects.update(expires_at=timezone.now())

    with pytest.raises(BadInput):
        approve(ada, started["userCode"])
    assert cli.poll(started["deviceCode"]).fault == "ExpiredTokenException"


def test_an_approved_code_is_not_collected_long_afterwards(cli, ada):
    started = cli.start().json
    approve(ada, started["userCode"])
    DeviceRequest.objects.update(expires_at=timezone.now() - timedelta(minutes=2))

    assert cli.poll(started["deviceCode"]).fault == "ExpiredTokenException"


def test_a_terminal_that_was_ended_before_it_was_collected_gives_nothing(cli, ada):
    """ada saw her mistake at once."""
    started = cli.start().json
    terminal = approve(ada, started["userCode"])
    Terminal.objects.update(ended_at=timezone.now(), ended_because=Terminal.Ended.PERSON)

    assert cli.poll(started["deviceCode"]).fault == "InvalidGrantException"
    assert not terminal.tokens.exists()


def test_who_was_cut_off_between_approval_and_collection_gives_nothing(cli, ada):
    started = cli.start().json
    approve(ada, started["userCode"])
    ada.epoch += 1
    ada.save()

    assert cli.poll(started["deviceCode"]).fault == "InvalidGrantException"


def test_a_link_carries_no_code(cli):
    started = cli.start().json

    assert started["userCode"] not in started["verificationUriComplete"]
    assert started["userCode"].replace("-", "") not in started["verificationUriComplete"]
    assert started["verificationUri"] == "https://daypass.test/device"


def test_asking_more_often_than_agreed_is_told_and_brings_nothing(cli, ada):
    started = cli.start().json

    told = [cli.poll(started["deviceCode"]).fault for _ in range(5)]

    assert told[:2] == ["AuthorizationPendingException"] * 2
    assert told[2:] == ["SlowDownException"] * 3
    approve(ada, started["userCode"])
    assert cli.poll(started["deviceCode"]).status == 200


# --- Guessing


def test_codes_are_hard_to_guess_and_say_nothing_of_each_other():
    codes = {rules.new_user_code() for _ in range(2000)}

    assert len(codes) == 2000
    assert len(set(rules.USER_CODE_LETTERS)) ** rules.USER_CODE_LENGTH > 2**34


def test_a_session_has_five_guesses(ada):
    assert guesses(ada, 7) == ["bad_input"] * 5 + ["too_many_codes"] * 2


def test_a_person_has_ten_guesses_in_however_many_browsers(ada):
    told = [code for n in range(12) for code in guesses(ada, 1, session=f"s{n}")]

    assert told == ["bad_input"] * 10 + ["too_many_codes"] * 2


def test_an_address_has_thirty_guesses_for_however_many_people(ada):
    people = [make.person(f"p{n}", at=ada.provider) for n in range(32)]
    told = [code for one in people for code in guesses(one, 1, session=one.handle)]

    assert told == ["bad_input"] * 30 + ["too_many_codes"] * 2


def test_everybody_together_has_three_hundred_guesses(ada, cli):
    people = [make.person(f"p{n}", at=ada.provider) for n in range(31)]
    told = [
        code
        for n, one in enumerate(people)
        for half in "ab"
        for code in guesses(one, 5, session=one.handle + half, address=f"203.0.{n}.1")
    ]

    assert told == ["bad_input"] * 300 + ["too_many_codes"] * 10


def test_after_too_many_guesses_the_right_code_opens_nothing_either(cli, ada):
    started = cli.start().json
    guesses(ada, 5)

    with pytest.raises(NotAllowed):
        approve(ada, started["userCode"])

    assert cli.poll(started["deviceCode"]).fault == "AuthorizationPendingException"


def test_a_right_code_in_between_gives_no_guesses_back(cli, ada):
    guesses(ada, 4)
    approve(ada, cli.start().json["userCode"])

    assert guesses(ada, 2) == ["bad_input", "too_many_codes"]


def test_right_codes_do_not_count(cli, ada):
    for _ in range(12):
        approve(ada, cli.start().json["userCode"])


def test_somebody_who_guesses_on_and_on_locks_out_nobody_else(cli, ada, eve):
    """Their own count is full after five; from then on they may not spend everybody's."""
    guesses(eve, 400, address="203.0.113.66")

    terminal = approve(ada, cli.start().json["userCode"], session="of ada")

    assert terminal.person == ada


def test_guesses_are_counted_while_redis_is_away(ada, settings):
    settings.CACHES = {
        "default": {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1/0"}
    }
    throttle.forget()

    assert guesses(ada, 7) == ["bad_input"] * 5 + ["too_many_codes"] * 2


def test_what_cannot_be_a_code_is_not_looked_for(ada):
    """Nor is it counted: who mistypes the form of a code has guessed nothing."""
    for typed in (
        "",
        "ABCD",
        "AEIO-UYAE",
        "BCDF-GHJK-L",
        "BCDF%GHJ",
        "B" * 500,
        "\uff22\uff23\uff24\uff26-\uff27\uff28\uff2a\uff2b",
        "\x00",
    ):
        with pytest.raises(BadInput):
            services.find_device(typed, principal(ada), HERE, now=timezone.now())
    assert guesses(ada, 5) == ["bad_input"] * 5


def test_a_code_may_be_typed_as_people_type(cli, ada):
    code = cli.start().json["userCode"]

    assert approve(ada, f"  {code.lower().replace('-', ' ')} ").person == ada


# --- In masses


def test_one_network_asks_for_so_many_codes_and_no_more(cli):
    told = [cli.start().fault for _ in range(63)]

    assert told == [""] * 60 + ["SlowDownException"] * 3
    elsewhere = Cli(through(stranger("203.0.113.9")), id=cli.id, secret=cli.secret)
    assert not elsewhere.start().fault


def test_all_networks_together_ask_for_so_many_codes_and_no_more(cli):
    throttle.count(throttle.Count("device-codes", "", 600, by=5000))

    assert cli.start().fault == "SlowDownException"


def test_a_network_of_version_six_counts_as_one(cli):
    """A single customer has 2**64 addresses."""
    told = [
        Cli(through(stranger(f"2001:db8:0:1::{n:x}")), id=cli.id, secret=cli.secret).start().fault
        for n in range(1, 63)
    ]

    assert told.count("SlowDownException") == 2


def test_who_asks_without_a_client_makes_no_rows():
    cli = Cli(through(stranger()), id="x.y", secret="z")

    for _ in range(3):
        assert cli.start().fault == "InvalidClientException"

    assert not DeviceRequest.objects.exists()


# --- What administrators forbid


def test_switched_off_no_code_is_given_nor_approved_nor_collected(cli, ada):
    waiting, approved = cli.start().json, cli.start().json
    approve(ada, approved["userCode"])
    TerminalPolicy.objects.create(device_codes=False)

    assert cli.start().fault == "UnauthorizedClientException"
    assert "device code" in cli.start().message
    with pytest.raises(NotAllowed):
        approve(ada, waiting["userCode"])
    assert cli.poll(approved["deviceCode"]).fault == "InvalidGrantException"


def test_switched_off_for_one_provider_its_people_approve_nothing(cli, ada):
    """Whoever asks for a code has said nothing of their provider, so it is at the approval that this counts."""
    other = make.person("olga", groups=[make.group("ops", at=make.provider("other"))])
    TerminalPolicy.objects.create(provider=ada.provider, device_codes=False)
    started = cli.start().json

    with pytest.raises(NotAllowed):
        approve(ada, started["userCode"])

    assert approve(other, started["userCode"], session="olga").person == other


@pytest.mark.parametrize(
    ("asked_from", "approved_from", "may"),
    [
        ("10.1.2.3", "10.9.9.9", True),
        ("10.1.2.3", "192.0.2.1", False),
        ("192.0.2.1", "10.1.2.3", False),
        ("::ffff:10.1.2.3", "10.1.2.3", False),
        ("", "10.1.2.3", False),
    ],
)
def test_within_certain_networks_only(ada, asked_from, approved_from, may):
    TerminalPolicy.objects.create(device_networks=["10.0.0.0/8"])
    registration, _ = registrations.register(
        {"clientName": "x", "clientType": "public"}, now=timezone.now()
    )
    now, here = timezone.now(), Asker(approved_from)
    who = make.principal(ada, address=approved_from)
    try:
        started = services.start_device(registration, Asker(asked_from), now=now)
        found = services.find_device(started.user_code, who, here, now=now)
        services.approve_device(
            found.id,
            who,
            here,
            line="",
            relay="",
            browser_ends=now + timedelta(hours=1),
            now=now,
        )
    except (services.WireError, NotAllowed):
        assert not may
    else:
        assert may


def test_an_emptied_cache_gives_no_second_use(cli, ada):
    started = cli.start().json
    approve(ada, started["userCode"])
    cache.clear()
    assert cli.poll(started["deviceCode"]).status == 200
    cache.clear()

    assert cli.token(DEVICE, deviceCode=started["deviceCode"]).fault == "InvalidGrantException"
