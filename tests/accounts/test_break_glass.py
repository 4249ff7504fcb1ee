"""The local account for the day on which no identity provider works."""

from __future__ import annotations

import base64
import hmac
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
    assert "That is not the code of this moment." in wrong.content.decode()
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
