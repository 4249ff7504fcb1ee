"""The local account for the day on which no identity provider works."""

from __future__ import annotations

import base64
import hmac
import json
import re
import struct
import time
from io import StringIO

import pytest
from allauth.core import context
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.test import RequestFactory
from django.urls import reverse

from accounts.models import Handle, Person
from accounts.second_factor import AuthenticateForm
from broker.audit.models import AuditEvent
from tests import factories as make
from tests.accounts import web
from tests.accounts.security_key import SecurityKey

LOCAL = "/sign-in/local/"


def totp(secret: str, *, step: int = 0) -> str:
    """RFC 6238, by hand: what an authenticator app shows."""
    counter = struct.pack(">Q", int(time.time()) // 30 + step)
    digest = hmac.digest(base64.b32decode(secret), counter, "sha1")
    offset = digest[-1] & 15
    number = struct.unpack(">I", digest[offset : offset + 4])[0] & 0x7FFFFFFF
    return f"{number % 1_000_000:06d}"


def break_glass(handle: str = "break-glass") -> str:
    """Run the command; the password that it printed."""
    out = StringIO()
    call_command("break_glass", handle, stdout=out)
    return re.search(r"^    (\S+)$", out.getvalue(), re.M)[1]


def log_in(browser, password, handle="break-glass"):
    return browser.post(LOCAL, {"login": handle, "password": password}, secure=True)


def enrol(browser) -> str:
    """Set up an authenticator app; its secret."""
    page = browser.get(reverse("mfa_activate_totp"), secure=True)
    secret = page.context["form"].secret
    answer = browser.post(reverse("mfa_activate_totp"), {"code": totp(secret)}, secure=True)
    assert answer.status_code == 302, answer.content.decode()
    return secret


@pytest.fixture(autouse=True)
def _passwords_are_checked_quickly(settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def password(db) -> str:
    return break_glass()


def test_the_command_makes_a_superuser_of_no_provider(password):
    person = Person.objects.get()

    assert (person.handle, person.is_superuser, person.provider) == ("break-glass", True, None)
    assert Handle.objects.get(value="break-glass").person == person
    assert len(password) >= 30
    assert AuditEvent.objects.filter(kind="admin.changed", subject_id=person.pk).exists()
    assert password not in str(AuditEvent.objects.values_list("data", flat=True))


def test_before_a_second_factor_nothing_else_opens(password):
    browser = web.browser()
    log_in(browser, password)

    for path in ("/", "/admin/", "/sessions/"):
        answer = browser.get(path, secure=True)
        assert (answer.status_code, answer["Location"]) == (302, reverse("mfa_activate_totp"))
        assert answer.wsgi_request.principal is None


def test_with_a_second_factor_the_account_is_a_principal_without_groups(password):
    browser = web.browser()
    log_in(browser, password)
    enrol(browser)

    home = browser.get("/", secure=True)

    principal = home.wsgi_request.principal
    assert "The emergency account has no roles" in home.content.decode()
    assert "Ask the people who run AWS access" not in home.content.decode()
    assert principal.handle == "break-glass"
    assert principal.proof.method == "local"
    assert principal.proof.mfa is True
    assert principal.groups == ()


def test_the_password_alone_is_not_enough_afterwards(password):
    first = web.browser()
    log_in(first, password)
    secret = enrol(first)
    browser = web.browser()

    halfway = log_in(browser, password)

    assert halfway["Location"] == reverse("mfa_authenticate")
    assert not web.is_signed_in(browser)
    assert browser.get("/", secure=True)["Location"] == "/sign-in/"
    wrong = browser.post(reverse("mfa_authenticate"), {"code": "000000"}, secure=True)
    assert wrong.status_code == 200
    assert "That code is not right, or it is used up." in wrong.content.decode()
    assert not web.is_signed_in(browser)
    browser.post(reverse("mfa_authenticate"), {"code": totp(secret, step=1)}, secure=True)
    assert web.is_signed_in(browser)


def halfway_in(password):
    """A browser that gave the password and is asked for the second factor."""
    browser = web.browser()
    log_in(browser, password)
    return browser


def give(browser, code: str):
    return browser.post(reverse("mfa_authenticate"), {"code": code}, secure=True)


def test_a_code_opens_once_even_when_the_cache_forgot_it(password):
    first = web.browser()
    log_in(first, password)
    code = totp(enrol(first), step=1)
    one, other = halfway_in(password), halfway_in(password)

    give(one, code)
    cache.clear()
    give(other, f"{code[:3]} {code[3:]}")

    assert web.is_signed_in(one)
    assert not web.is_signed_in(other)


def test_a_code_from_before_the_one_that_was_taken_opens_nothing(password):
    first = web.browser()
    log_in(first, password)
    secret = enrol(first)
    one, other = halfway_in(password), halfway_in(password)

    give(one, totp(secret, step=1))
    give(other, totp(secret, step=0))

    assert web.is_signed_in(one)
    assert not web.is_signed_in(other)


def test_a_used_code_does_not_confirm_a_change_either(password):
    browser = web.browser()
    log_in(browser, password)
    code = totp(enrol(browser), step=1)
    other = halfway_in(password)
    give(other, code)
    cache.clear()

    answer = other.post(reverse("mfa_reauthenticate"), {"code": code}, secure=True)

    assert answer.status_code == 200
    assert "Confirm that it is you" in answer.content.decode()
    assert answer.context["form"].errors


def test_eight_browsers_with_one_code_or_one_recovery_code_are_one_sign_in(
    password, together, settings
):
    settings.MFA_RATE_LIMITS = {"authenticate": "1000/m/ip"}
    first = web.browser()
    log_in(first, password)
    secret = enrol(first)
    owner = Person.objects.get()
    recovery = RecoveryCodes.activate(owner).get_unused_codes()[0]

    for code in (totp(secret, step=1), recovery):
        cache.clear()

        def post(code: str = code) -> bool:
            cache.clear()  # an emptied cache at the worst moment
            with context.request_context(RequestFactory().post("/")):
                return AuthenticateForm({"code": code}, user=owner).is_valid()

        assert together(post, times=8).count(True) == 1


def test_every_use_is_recorded(password):
    log_in(web.browser(), password)

    event = AuditEvent.objects.get(kind="sign_in.accepted")

    assert event.data["method"] == "local"
    assert event.actor == "break-glass"


def test_the_secret_of_the_second_factor_is_sealed_at_rest(password):
    browser = web.browser()
    log_in(browser, password)
    secret = enrol(browser)

    kept = str(Authenticator.objects.values_list("data", flat=True))

    assert secret not in kept


def test_a_wrong_password_opens_nothing(password):
    browser = web.browser()

    assert log_in(browser, "wrong").status_code == 200
    assert not web.is_signed_in(browser)


def test_guessing_is_slowed_down(password):
    for _ in range(6):
        log_in(web.browser(), "wrong")
    browser = web.browser()

    log_in(browser, password)

    assert not web.is_signed_in(browser)


def test_a_success_in_between_does_not_make_guessing_cheaper(password):
    """Failures are counted by address and by account in the store; a success takes none of them back."""
    for _ in range(4):
        log_in(web.browser(), "wrong")
    good = web.browser()
    log_in(good, password)
    assert web.is_signed_in(good)
    log_in(web.browser(), "wrong")
    browser = web.browser()

    log_in(browser, password)

    assert not web.is_signed_in(browser)


def test_somebody_of_a_provider_cannot_use_a_password(db):
    person = make.person("ada", is_superuser=True)
    person.set_password("a password that was put there somehow")
    person.save()
    browser = web.browser()

    log_in(browser, "a password that was put there somehow", "ada")

    assert not web.is_signed_in(browser)


def test_a_local_account_that_is_no_superuser_cannot_use_a_password(password):
    Person.objects.update(is_superuser=False)
    browser = web.browser()

    log_in(browser, password)

    assert not web.is_signed_in(browser)


def test_a_reset_ends_sessions_and_second_factors(password):
    browser = web.browser()
    log_in(browser, password)
    enrol(browser)

    new = break_glass()

    assert browser.get("/", secure=True)["Location"] == "/sign-in/"
    assert not Authenticator.objects.exists()
    old, renewed = web.browser(), web.browser()
    log_in(old, password)
    log_in(renewed, new)
    assert not web.is_signed_in(old)
    assert web.is_signed_in(renewed)


def test_a_handle_of_somebody_is_not_taken_over(db):
    make.person("ada")

    with pytest.raises(CommandError, match="somebody from an identity provider"):
        break_glass("ada")


def test_a_handle_that_was_ever_given_is_not_given_again(db):
    Handle.objects.create(value="gone")

    with pytest.raises(CommandError, match="somebody before"):
        break_glass("gone")


def test_recovery_codes_alone_are_no_second_factor(password):
    browser = web.browser()
    log_in(browser, password)
    enrol(browser)
    Authenticator.objects.exclude(type="recovery_codes").delete()

    assert browser.get("/", secure=True)["Location"] == reverse("mfa_activate_totp")


@pytest.mark.parametrize(
    "name",
    [
        "mfa_index",
        "mfa_list_webauthn",
        "mfa_add_webauthn",
        "mfa_generate_recovery_codes",
        "mfa_deactivate_totp",
        "account_reauthenticate",
        "mfa_reauthenticate",
    ],
)
def test_its_pages_can_be_drawn(password, name):
    browser = web.browser()
    log_in(browser, password)
    enrol(browser)

    page = browser.get(reverse(name), secure=True, follow=True)

    assert page.status_code == 200
    assert "<script>" not in page.content.decode()


def test_before_the_app_goes_it_is_said_what_is_left(password):
    browser = web.browser()
    log_in(browser, password)
    enrol(browser)
    address = reverse("mfa_deactivate_totp")

    alone = browser.get(address, secure=True).content.decode()
    Authenticator.objects.create(user=Person.objects.get(), type="webauthn", data={})
    with_a_key = browser.get(address, secure=True).content.decode()

    assert "the account opens nothing until it has a new second factor" in alone
    assert "opens nothing until" not in with_a_key
    assert "Keep it" in alone and "Remove the app" in with_a_key
    browser.post(address, secure=True)
    assert not Authenticator.objects.filter(type="totp").exists()


def test_new_recovery_codes_end_the_old_ones_and_say_so_before(password):
    browser = web.browser()
    log_in(browser, password)
    enrol(browser)
    address = reverse("mfa_generate_recovery_codes")
    old = RecoveryCodes(Authenticator.objects.get(type="recovery_codes")).get_unused_codes()

    page = browser.get(address, secure=True).content.decode()

    assert "The old ones stop working at once: 10 of them are not used yet." in page
    browser.post(address, secure=True)
    new = RecoveryCodes(Authenticator.objects.get(type="recovery_codes")).get_unused_codes()
    assert not set(old) & set(new)


def test_what_is_wrong_with_a_sign_in_is_said_in_plain_words(password):
    browser = web.browser()

    said = [log_in(browser, "wrong").content.decode() for _ in range(12)]

    assert "Username or password is not right." in said[0]
    assert "Too many attempts. Wait five minutes, then try again." in said[-1]


def test_a_wrong_password_does_not_confirm_a_change(password):
    browser = web.browser()
    log_in(browser, password)
    enrol(browser)

    answer = browser.post(reverse("account_reauthenticate"), {"password": "wrong"}, secure=True)

    assert "The password is not right." in answer.content.decode()


def test_the_sign_in_page_can_be_drawn(db):
    page = web.browser().get(LOCAL, secure=True)

    assert page.status_code == 200
    assert "signup" not in page.content.decode()


def add_key(browser, name: str = "In the safe") -> SecurityKey:
    key = SecurityKey()
    page = browser.get(reverse("mfa_add_webauthn"), secure=True)
    sent = {"name": name, "credential": key.added(page)}
    answer = browser.post(reverse("mfa_add_webauthn"), sent, secure=True)
    assert answer.status_code == 302, answer.content.decode()
    return key


def with_a_key(password):
    """A browser of the account, whose only second factor is a security key; and the key."""
    browser = web.browser()
    log_in(browser, password)
    return browser, add_key(browser)


def touch(browser, key: SecurityKey, address: str = "mfa_authenticate", **more):
    page = browser.get(reverse(address), secure=True)
    sent = {"credential": key.used(page, **more)}
    return browser.post(reverse(address), sent, secure=True)


def long_ago(browser) -> None:
    """The sign-in is no longer fresh enough to change the second factor."""
    session = browser.session
    session["daypass"] = session["daypass"] | {"began": session["daypass"]["began"] - 3000}
    session.save()


def test_a_security_key_can_be_the_first_second_factor(password):
    browser = web.browser()
    log_in(browser, password)
    address = reverse("mfa_add_webauthn")
    key = SecurityKey()

    page = browser.get(address, secure=True)
    sent = {"name": "", "credential": key.added(page)}
    answer = browser.post(address, sent, secure=True)

    asked = page.context["js_data"]["creation_options"]["publicKey"]
    assert asked["rp"] == {"id": "daypass.test", "name": "Daypass at Example Corp"}
    assert asked["user"]["name"] == "break-glass"
    assert asked["authenticatorSelection"]["residentKey"] == "discouraged"
    assert "passwordless" not in page.content.decode().lower()
    assert "Use an app instead" in page.content.decode()
    assert answer["Location"] == reverse("mfa_view_recovery_codes")
    codes = browser.get(answer["Location"], secure=True).content.decode()
    assert "They are shown now and never again" in codes
    home = browser.get("/", secure=True)
    assert home.wsgi_request.principal.proof.mfa is True
    assert "Key 1" in browser.get(reverse("mfa_list_webauthn"), secure=True).content.decode()


def test_the_password_and_the_security_key_open(password):
    _, key = with_a_key(password)
    browser = halfway_in(password)

    page = browser.get(reverse("mfa_authenticate"), secure=True).content.decode()
    touch(browser, key)

    assert "Use the security key, or type one of the recovery codes." in page
    assert web.is_signed_in(browser)
    assert browser.get("/", secure=True).wsgi_request.principal.proof.mfa is True
    assert Authenticator.objects.get(type="webauthn").last_used_at is not None


def test_another_key_or_another_site_opens_nothing(password):
    _, key = with_a_key(password)
    browser = halfway_in(password)

    for answer in (
        touch(browser, SecurityKey()),
        touch(browser, SecurityKey(known_as=key.id)),
        touch(browser, key, origin="https://daypass.example"),
    ):
        assert answer.status_code == 200
        assert "This is not a security key of this account." in answer.content.decode()
        assert not web.is_signed_in(browser)


def test_what_a_key_answered_once_opens_nothing_later(password):
    _, key = with_a_key(password)
    one, other = halfway_in(password), halfway_in(password)
    sent = {"credential": key.used(one.get(reverse("mfa_authenticate"), secure=True))}

    one.post(reverse("mfa_authenticate"), sent, secure=True)
    other.get(reverse("mfa_authenticate"), secure=True)
    again = other.post(reverse("mfa_authenticate"), sent, secure=True)

    assert web.is_signed_in(one)
    assert again.status_code == 200
    assert not web.is_signed_in(other)


def test_a_key_is_asked_for_only_of_an_account_that_has_one(password):
    browser = web.browser()
    log_in(browser, password)
    enrol(browser)
    other = halfway_in(password)

    page = other.get(reverse("mfa_authenticate"), secure=True).content.decode()
    answer = touch(other, SecurityKey())

    assert "security key" not in page
    assert "six digits" in page
    assert answer.status_code == 200
    assert not web.is_signed_in(other)


NONSENSE = [
    "",
    "{",
    "null",
    "[]",
    "7",
    '"x"',
    "{}",
    '{"id": "AAAA"}',
    '{"id": "AAAA", "rawId": "BBBB"}',
    '{"rawId": 3, "response": 4}',
    '{"rawId": "AAAA", "response": {}}',
    '{"rawId": "!", "response": {"clientDataJSON": "AAAA"}}',
]
SHORTENED = ["rawId", "clientDataJSON", "attestationObject", "authenticatorData", "signature"]


def spoiled(answer: str) -> list[str]:
    """The answer of a key, each time with one part cut short, of another kind, or away."""
    found = []
    for name in SHORTENED:
        for other in ("AA", "oA", "e30", 7, None):
            said = json.loads(answer)
            place = said if name in said else said["response"]
            if name in place:
                place[name] = other
                said.pop("id")
                found.append(json.dumps(said))
    return found


def test_nonsense_instead_of_a_key_is_refused_in_words(password, settings):
    settings.ACCOUNT_RATE_LIMITS = {"login_failed": "1000/m/key", "reauthenticate": "1000/m/user"}
    browser, key = with_a_key(password)
    other = halfway_in(password)

    for client, name, spoil in (
        (browser, "mfa_add_webauthn", key.added),
        (browser, "mfa_reauthenticate_webauthn", key.used),
        (other, "mfa_authenticate", key.used),
    ):
        address = reverse(name)
        for credential in [*NONSENSE, *spoiled(spoil(client.get(address, secure=True)))]:
            client.get(address, secure=True)
            answer = client.post(address, {"credential": credential}, secure=True)

            assert answer.status_code == 200, credential
            assert 'class="notice error" role="alert">' in answer.content.decode(), credential
    assert Authenticator.objects.filter(type="webauthn").count() == 1
    assert not web.is_signed_in(other)


def test_a_form_sent_without_a_key_says_so(password):
    browser = web.browser()
    log_in(browser, password)

    answer = browser.post(reverse("mfa_add_webauthn"), {"name": "Mine"}, secure=True)

    assert "No key has answered." in answer.content.decode()
    assert 'value="Mine"' in answer.content.decode()


def test_a_key_confirms_a_change_and_another_does_not(password):
    browser, key = with_a_key(password)
    long_ago(browser)
    add = reverse("mfa_add_webauthn")

    asked = browser.get(add, secure=True, follow=True)
    refused = touch(browser, SecurityKey(), "mfa_reauthenticate_webauthn")
    still_asked = browser.get(add, secure=True)
    touch(browser, key, "mfa_reauthenticate_webauthn")
    let = browser.get(add, secure=True)

    assert "Use the security key instead" in asked.content.decode()
    assert refused.status_code == 200
    assert "This is not a security key of this account." in refused.content.decode()
    assert still_asked.status_code == 302
    assert let.status_code == 200


def test_a_key_is_renamed(password):
    browser, _ = with_a_key(password)
    address = reverse("mfa_edit_webauthn", args=[Authenticator.objects.get(type="webauthn").pk])

    page = browser.get(address, secure=True).content.decode()
    answer = browser.post(address, {"name": "In the <vault>"}, secure=True, follow=True)

    assert "Rename the security key" in page
    assert "In the &lt;vault&gt;" in answer.content.decode()
    assert "Not used yet." in answer.content.decode()


def test_before_a_key_goes_it_is_said_what_is_left(password):
    browser, _ = with_a_key(password)
    address = reverse("mfa_remove_webauthn", args=[Authenticator.objects.get(type="webauthn").pk])

    alone = browser.get(address, secure=True).content.decode()
    second = add_key(browser, "Another")
    with_another = browser.get(address, secure=True).content.decode()
    browser.post(address, secure=True)

    assert "the account opens nothing until it has a new second factor" in alone
    assert "opens nothing until" not in with_another
    other = halfway_in(password)
    touch(other, second)
    assert web.is_signed_in(other)


def test_without_its_last_key_the_account_opens_nothing(password):
    browser, _ = with_a_key(password)
    address = reverse("mfa_remove_webauthn", args=[Authenticator.objects.get(type="webauthn").pk])

    answer = browser.post(address, secure=True, follow=True)

    assert "None is set up." in answer.content.decode()
    assert not Authenticator.objects.exists()
    assert browser.get("/", secure=True)["Location"] == reverse("mfa_activate_totp")


def factors_recorded() -> list[tuple[str, str, str]]:
    return [
        (event.actor, event.address or "", event.data["after"]["second_factor"])
        for event in AuditEvent.objects.filter(kind="admin.changed").order_by("seq")
        if event.data["after"].get("second_factor") not in (None, "not set")
    ]


def test_every_change_of_the_second_factor_is_recorded(password):
    browser, _ = with_a_key(password)
    browser.post(reverse("mfa_generate_recovery_codes"), secure=True)
    key = Authenticator.objects.get(type="webauthn")
    browser.post(reverse("mfa_remove_webauthn", args=[key.pk]), secure=True)
    enrol(browser)

    recorded = factors_recorded()

    assert [what for _, _, what in recorded] == [
        "security key added",
        "recovery codes added",
        "recovery codes removed",
        "recovery codes added",
        "security key removed",
        "recovery codes removed",
        "authenticator app added",
        "recovery codes added",
    ]
    assert {(who, address) for who, address, _ in recorded} == {("break-glass", "127.0.0.1")}


@pytest.fixture
def nothing_recorded(password, monkeypatch):
    """A browser whose account has a security key, from when on the audit log takes nothing."""
    browser, _ = with_a_key(password)

    def full(*_: object, **__: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("accounts.services.second_factors.announce_changed", full)
    return browser


def test_a_second_factor_whose_removal_cannot_be_recorded_stays(nothing_recorded):
    key = Authenticator.objects.get(type="webauthn")

    with pytest.raises(OSError, match="disk"):
        nothing_recorded.post(reverse("mfa_remove_webauthn", args=[key.pk]), secure=True)

    assert Authenticator.objects.filter(pk=key.pk).exists()


def test_a_second_factor_that_cannot_be_recorded_is_not_added(nothing_recorded):
    before = set(Authenticator.objects.values_list("pk", flat=True))

    with pytest.raises(OSError, match="disk"):
        add_key(nothing_recorded, "At home")
    with pytest.raises(OSError, match="disk"):
        enrol(nothing_recorded)
    with pytest.raises(OSError, match="disk"):
        nothing_recorded.post(reverse("mfa_generate_recovery_codes"), secure=True)

    assert set(Authenticator.objects.values_list("pk", flat=True)) == before


def test_an_app_is_set_up_beside_a_key_in_words_of_its_own(password):
    browser, _ = with_a_key(password)

    page = browser.get(reverse("mfa_activate_totp"), secure=True).content.decode()

    assert "Set up an authenticator app" in page
    assert "opens nothing" not in page
    assert "Cancel" in page
