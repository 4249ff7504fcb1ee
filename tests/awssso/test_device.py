"""Device codes: who waits, who types, who is let in, and what is counted."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts import throttle
from broker.audit.models import AuditEvent
from broker.awssso import services
from broker.awssso.models import DeviceRequest, Terminal, TerminalPolicy
from broker.awssso.services import Asker, DeviceStarted, NotAllowed
from broker.awssso.wire import Fault, WireError
from broker.errors import BadInput
from tests import factories as make
from tests.awssso.conftest import principal, register_for_device

pytestmark = pytest.mark.django_db
TERMINAL = Asker("198.51.100.23", "aws-cli/2.38.1")
BROWSER = Asker("198.51.100.7", "Mozilla/5.0")


@pytest.fixture
def registration():
    return register_for_device()[0]


@pytest.fixture
def started(registration) -> DeviceStarted:
    return services.start_device(registration, TERMINAL, now=timezone.now())


def find(
    started, person, *, now=None, asker=BROWSER, code="", session="a-browser"
) -> DeviceRequest:
    return services.find_device(
        code or started.user_code,
        principal(person),
        asker,
        now=now or timezone.now(),
        session=session,
    )


def approve(request, person, *, now=None, asker=BROWSER) -> Terminal:
    now = now or timezone.now()
    return services.approve_device(
        request.pk,
        principal(person, at=now),
        asker,
        line="line-of-a-browser",
        relay="",
        browser_ends=now + timedelta(hours=8),
        now=now,
    )


def poll(started, registration, *, now=None, digest="") -> Fault:
    """What the client is told; it has to be no."""
    with pytest.raises(WireError) as refused:
        services.exchange_device_code(
            started.device_code,
            client_digest=digest or registration.digest,
            asker=TERMINAL,
            now=now or timezone.now(),
        )
    assert refused.value.failure.message
    return refused.value.failure.fault


def collect(started, registration, *, now=None):
    return services.exchange_device_code(
        started.device_code,
        client_digest=registration.digest,
        asker=TERMINAL,
        now=now or timezone.now(),
    )


def test_who_types_the_code_is_whom_the_client_asks_as(started, registration, ada):
    now = timezone.now()
    terminal = approve(find(started, ada), ada)
    tokens = collect(started, registration)

    bearer = services.bearer(tokens.access, ["access"], TERMINAL, now=now)
    assert bearer.principal.person_id == ada.pk
    assert (terminal.flow, terminal.asked_from) == ("device", TERMINAL.address)
    event = AuditEvent.objects.get(kind="terminal.let_in")
    assert (event.actor, event.address) == ("ada", BROWSER.address)
    assert event.data["flow"] == "device"
    assert event.data["client"] == "botocore-client-dev"
    assert event.data["asked_from"] == TERMINAL.address


def test_nothing_of_the_codes_is_kept_in_the_clear(started):
    row = DeviceRequest.objects.values().get()
    kept = " ".join(map(str, row.values()))

    assert started.device_code not in kept
    assert started.user_code not in kept
    assert started.user_code.replace("-", "") not in kept


def test_a_code_typed_after_a_change_of_the_sealing_key_is_still_known(settings, registration, ada):
    started = services.start_device(registration, TERMINAL, now=timezone.now())
    settings.DAYPASS_SEALING_KEYS = ["QUFB" * 10 + "QUE=", *settings.DAYPASS_SEALING_KEYS]

    assert find(started, ada).client_name == "botocore-client-dev"


def test_a_device_code_serves_once(started, registration, ada):
    approve(find(started, ada), ada)
    collect(started, registration)

    assert poll(started, registration) is Fault.INVALID_GRANT
    assert Terminal.objects.get().ended_at is None


def test_a_device_code_serves_only_the_client_that_asked_for_it(started, registration, ada):
    approve(find(started, ada), ada)

    assert poll(started, registration, digest="0" * 64) is Fault.INVALID_GRANT
    assert collect(started, registration).access


def test_what_was_denied_stays_so(started, registration, ada):
    request = find(started, ada)
    services.deny_device(request.pk, principal(ada), BROWSER, now=timezone.now())

    assert poll(started, registration) is Fault.ACCESS_DENIED
    with pytest.raises(BadInput):
        approve(request, ada)
    assert list(AuditEvent.objects.values_list("kind", "actor")) == [("terminal.denied", "ada")]


def test_a_code_is_answered_by_one_person_and_once(started, ada):
    request = find(started, ada)
    approve(request, ada)
    grace = make.person("grace", at=ada.provider)

    with pytest.raises(BadInput):
        approve(request, grace)
    with pytest.raises(BadInput):
        find(started, grace)
    assert Terminal.objects.get().person == ada


def test_a_code_is_over_after_ten_minutes(started, registration, ada):
    request = find(started, ada)
    later = timezone.now() + timedelta(minutes=10)

    with pytest.raises(BadInput):
        find(started, ada, now=later)
    with pytest.raises(BadInput):
        approve(request, ada, now=later)
    assert poll(started, registration, now=later) is Fault.EXPIRED_TOKEN
    assert not Terminal.objects.exists()


def test_what_is_approved_in_the_last_second_is_collected_by_the_next_poll(
    started, registration, ada
):
    request = find(started, ada)
    begun = request.created_at
    approve(request, ada, now=begun + timedelta(minutes=9, seconds=59))

    assert collect(started, registration, now=begun + timedelta(minutes=10, seconds=4)).access


def test_an_approved_code_that_nobody_collects_is_over_too(started, registration, ada):
    request = find(started, ada)
    approve(request, ada)

    later = request.created_at + timedelta(minutes=11)
    assert poll(started, registration, now=later) is Fault.EXPIRED_TOKEN


# --- Polling


def test_two_polls_at_once_at_the_start_are_pending_and_a_third_is_too_fast(started, registration):
    now = timezone.now()
    told = [poll(started, registration, now=now) for _ in range(3)]

    assert told == [Fault.AUTHORIZATION_PENDING] * 2 + [Fault.SLOW_DOWN]


def test_polls_at_the_interval_are_pending_for_as_long_as_it_takes(started, registration):
    now = timezone.now()
    told = {poll(started, registration, now=now + timedelta(seconds=5 * n)) for n in range(1, 100)}

    assert told == {Fault.AUTHORIZATION_PENDING}


def test_who_polls_too_fast_still_gets_in_once_it_is_approved(started, registration, ada):
    now = timezone.now()
    for _ in range(5):
        poll(started, registration, now=now)
    approve(find(started, ada), ada)

    assert collect(started, registration, now=now).access


# --- Guessing


def test_the_sixth_wrong_code_of_a_browser_is_not_even_looked_at(started, ada):
    for n in range(5):
        with pytest.raises(BadInput):
            find(started, ada, code=f"BBBB-BBB{'BCDFG'[n]}")
    with pytest.raises(NotAllowed, match="Wait ten minutes") as refused:
        find(started, ada)
    assert refused.value.code == "too_many_codes"


def test_a_person_with_many_browsers_has_ten_wrong_codes(started, ada):
    for n in range(10):
        with pytest.raises(BadInput):
            find(started, ada, code="BBBB-BBBB", session=f"browser {n}")
    with pytest.raises(NotAllowed):
        find(started, ada, session="one more")


def test_a_network_with_many_people_has_thirty_wrong_codes(started, ada):
    people = [make.person(f"person{n}", at=ada.provider) for n in range(10)]
    six = "2001:db8::"
    for n, person in enumerate(people):
        for m in range(3):
            with pytest.raises(BadInput):
                find(
                    started, person, code="BBBB-BBBB", asker=Asker(f"{six}{n}:{m}"), session=str(n)
                )
    with pytest.raises(NotAllowed):
        find(started, ada, asker=Asker(f"{six}ffff"))

    assert find(started, ada, asker=Asker("192.0.2.1"))


def test_right_codes_do_not_count_and_what_cannot_be_a_code_neither(started, ada):
    for _ in range(20):
        assert find(started, ada)
        with pytest.raises(BadInput):
            find(started, ada, code="AEIO-1234")


def test_when_all_together_guess_too_much_nobody_may(started, ada, monkeypatch):
    monkeypatch.setattr("broker.awssso.services.devices.WRONG_CODES_OF_ALL", 3)
    for n in range(3):
        with pytest.raises(BadInput):
            find(
                started,
                make.person(f"p{n}", at=ada.provider),
                code="BBBB-BBBB",
                asker=Asker(f"192.0.2.{n}"),
                session=str(n),
            )
    with pytest.raises(NotAllowed):
        find(started, ada)
    throttle.forget()


# --- What administrators allow


@pytest.mark.parametrize(
    "policy",
    [{"device_codes": False}, {"enabled": False}, {"device_networks": ["192.0.2.0/24"]}],
)
def test_what_administrators_switch_off_for_everybody_is_not_even_begun(policy, registration, ada):
    TerminalPolicy.objects.create(**policy)

    with pytest.raises(WireError) as refused:
        services.start_device(registration, TERMINAL, now=timezone.now())
    assert refused.value.failure.fault is Fault.UNAUTHORIZED_CLIENT
    assert "administrators" in refused.value.failure.message
    assert not DeviceRequest.objects.exists()


def test_a_provider_of_its_own_mind_lets_codes_begin_and_only_its_people_approve(registration, ada):
    TerminalPolicy.objects.create(device_codes=False)
    TerminalPolicy.objects.create(provider=ada.provider)
    stranger = make.person("stranger", at=make.provider())
    started = services.start_device(registration, TERMINAL, now=timezone.now())

    with pytest.raises(NotAllowed):
        find(started, stranger)
    request = find(started, ada)
    with pytest.raises(NotAllowed):
        approve(request, stranger)
    approve(request, ada)


def test_a_network_that_is_not_allowed_may_neither_ask_nor_approve(registration, ada):
    started = services.start_device(registration, TERMINAL, now=timezone.now())
    request = find(started, ada)
    policy = TerminalPolicy.objects.create(device_networks=["198.51.100.7/32"])  # the browser's

    with pytest.raises(NotAllowed, match=r"198\.51\.100\.23"):
        approve(request, ada)
    policy.device_networks = ["198.51.100.23/32"]  # the terminal's
    policy.save()
    with pytest.raises(NotAllowed, match=r"198\.51\.100\.7"):
        approve(request, ada)
    with pytest.raises(NotAllowed):
        find(started, ada, asker=Asker(""))
    request.refresh_from_db()
    assert request.state == "waiting"
    assert not Terminal.objects.exists()


def test_a_terminal_let_in_by_a_code_ends_to_work_when_codes_are_switched_off(
    started, registration, ada
):
    approve(find(started, ada), ada)
    tokens = collect(started, registration)
    TerminalPolicy.objects.create(device_codes=False)

    with pytest.raises(WireError) as refused:
        services.bearer(tokens.access, ["access"], TERMINAL, now=timezone.now())
    assert refused.value.failure.fault is Fault.UNAUTHORIZED
