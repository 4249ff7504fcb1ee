"""What a browser session is worth: limits, re-checks on every request, deep links, signing out."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from html import unescape
from uuid import uuid4

import pytest
from django.contrib.sessions.models import Session
from django.urls import reverse
from django.utils import timezone
from lxml import etree

from accounts import places, services
from accounts.models import Membership, Person
from broker.audit.models import AuditEvent
from tests.accounts import web
from tests.accounts.conftest import BY
from tests.accounts.idp_saml import SAML

SLS = "https://daypass.test/saml/acme/sls/"
HOME = "/"


@pytest.fixture
def ada(saml_row, idp):
    """A browser in which Ada is signed in."""
    browser = web.browser()
    web.saml_sign_in(browser, idp, attributes={"uid": ["ada"], "groups": ["readers"]})
    return browser


def get(browser, path=HOME):
    return browser.get(path, secure=True)


def age(browser, **changes):
    """Turn the session's clock back."""
    session = browser.session
    kept = session["daypass"]
    for name, span in changes.items():
        kept[name] = (timezone.now() - span).timestamp()
    session["daypass"] = kept
    session.save()


def ended_because(handle="ada"):
    return list(
        AuditEvent.objects.filter(kind="sign_in.ended", actor=handle).values_list(
            "data__how", flat=True
        )
    )


def test_the_principal_says_who_is_asking(ada):
    principal = get(ada).wsgi_request.principal

    assert principal.handle == "ada"
    assert principal.proof.method == "saml"
    assert principal.proof.provider_name == "Acme"
    (group,) = principal.groups
    assert group.key == "readers"
    assert group.fresh_until > timezone.now() + timedelta(hours=7)


def test_nobody_is_asking_without_a_session(db):
    answer = get(web.browser())

    assert answer.status_code == 302
    assert answer["Location"] == "/sign-in/"


def test_a_stale_membership_stays_visible_with_the_time_it_went_stale(ada):
    Membership.objects.update(confirmed_at=timezone.now() - timedelta(hours=9))

    (group,) = get(ada).wsgi_request.principal.groups

    assert group.fresh_until < timezone.now()


def test_a_membership_kept_by_scim_does_not_grow_stale(ada):
    Membership.objects.update(source="scim")

    (group,) = get(ada).wsgi_request.principal.groups

    assert group.fresh_until is None


def test_a_sign_in_opens_a_session_with_a_new_id(saml_row, idp):
    browser = web.browser()
    url = web.start(browser, "acme")
    before = browser.session.session_key

    web.post_answer(browser, "acme", idp.answer(url))

    assert browser.session.session_key != before
    assert not Session.objects.filter(session_key=before).exists()


@pytest.mark.parametrize(
    ("clock", "span", "why"),
    [
        ("seen", timedelta(hours=2, minutes=1), "idle"),
        ("began", timedelta(hours=10, minutes=1), "absolute"),
        ("ends", timedelta(seconds=1), "provider"),
    ],
)
def test_a_session_ends_at_its_limits_and_the_place_is_kept(ada, clock, span, why):
    age(ada, **{clock: span})

    answer = get(ada, "/sessions/?page=2")

    assert answer.status_code == 302
    assert f"over={why}" in answer["Location"]
    to = web.query(answer["Location"])["to"]
    assert places.find(to) == "/sessions/?page=2"
    assert not web.is_signed_in(ada)
    assert ended_because() == [why]


@pytest.mark.parametrize("clock", ["began", "seen"])
def test_a_session_from_the_future_is_over(ada, clock):
    """The clock was set back by an hour: nothing may live for an hour longer because of it."""
    age(ada, **{clock: timedelta(hours=-1)})

    answer = get(ada)

    assert answer.status_code == 302
    assert answer["Location"].startswith("/sign-in/")
    assert not web.is_signed_in(ada)


def test_clocks_that_differ_a_little_end_no_session(ada):
    age(ada, began=timedelta(seconds=-20), seen=timedelta(seconds=-20))

    assert get(ada).status_code == 200


def test_use_keeps_a_session_from_being_idle(ada):
    age(ada, seen=timedelta(hours=1, minutes=55))
    get(ada)

    assert timezone.now().timestamp() - ada.session["daypass"]["seen"] < 60


def test_the_providers_own_end_of_session_is_kept(saml_row, idp):
    from tests.accounts.idp_saml import stamp

    def bend(root):
        statement = next(root.iter(f"{{{SAML}}}AuthnStatement"))
        statement.set("SessionNotOnOrAfter", stamp(timezone.now() + timedelta(minutes=30)))

    browser = web.browser()
    web.saml_sign_in(browser, idp, bend=bend)

    left = browser.session["daypass"]["ends"] - timezone.now().timestamp()
    assert 29 * 60 < left <= 30 * 60


@pytest.mark.parametrize(
    "cut_off",
    [
        lambda ada, row: services.set_person_active(ada, False, by=BY),
        lambda ada, row: Person.objects.update(epoch=ada.epoch + 1),
        lambda ada, row: type(row).objects.update(enabled=False),
        lambda ada, row: Person.objects.update(provider=None, subject=""),
    ],
    ids=["switched off", "epoch", "provider off", "no provider any more"],
)
def test_who_is_cut_off_is_out_at_the_next_request(ada, saml_row, cut_off):
    cut_off(Person.objects.get(), saml_row)

    answer = get(ada)

    assert answer["Location"] == "/sign-in/"
    assert not web.is_signed_in(ada)


def test_a_session_without_a_proof_is_nobodys(ada):
    session = ada.session
    del session["daypass"]
    session.save()

    assert get(ada)["Location"].startswith("/sign-in/")
    assert not web.is_signed_in(ada)


def test_a_session_whose_proof_is_of_another_provider_is_nobodys(ada):
    """So that who is signed in was always vouched for by their own provider, wherever that is relied on."""
    session = ada.session
    session["daypass"]["proof"]["provider_id"] = str(uuid4())
    session.save()

    assert get(ada)["Location"].startswith("/sign-in/")
    assert not web.is_signed_in(ada)


def test_somebody_switched_off_cannot_sign_in_again(ada, idp, refusals):
    services.set_person_active(Person.objects.get(), False, by=BY)
    browser = web.browser()

    page = web.saml_sign_in(browser, idp, attributes={"uid": ["ada"]})

    assert page.status_code == 403
    assert not web.is_signed_in(browser)
    assert refusals()[0][0] == "person_inactive"


def test_htmx_is_told_to_move_the_whole_page(db):
    answer = web.browser().get(
        "/sessions/",
        secure=True,
        headers={"HX-Request": "true", "HX-Current-URL": "https://daypass.test/?q=prod"},
    )

    assert answer.status_code == 200
    assert places.find(web.query(answer["HX-Redirect"])["to"]) == "/?q=prod"


# --- The way back


DEEP = "/go/123456789012/Admin/?destination=https%3A%2F%2Fconsole.aws.amazon.com%2Fs3%2F%3Fa%3D1"


def test_a_deep_link_survives_sign_in_with_saml(saml_row, idp):
    browser = web.browser()
    asked = get(browser, DEEP)
    page = browser.get(asked["Location"], secure=True)
    to = page.context["to"]

    finished = web.saml_sign_in(browser, idp, to=to)

    assert finished["Location"] == DEEP


def test_a_deep_link_survives_sign_in_with_oidc(oidc_row, op):
    browser = web.browser()
    to = browser.get(get(browser, DEEP)["Location"], secure=True).context["to"]

    finished = web.oidc_sign_in(browser, op, to=to)

    assert finished["Location"] == DEEP


def test_a_deep_link_survives_a_sign_in_that_failed(saml_row, idp):
    browser = web.browser()
    page = web.saml_sign_in(browser, idp, to=places.keep(DEEP), sign_assertion=False)
    again = unescape(re.search(r'href="(/sign-in/\?[^"]+)"', page.content.decode())[1])

    to = get(browser, again).context["to"]

    assert web.saml_sign_in(browser, idp, to=to)["Location"] == DEEP


@pytest.mark.parametrize(
    "path",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "\\\\evil.example/",
        "javascript:alert(1)",
        "/a\nb",
        "",
        "sessions/",
        "/sign-in/acme/",
        "/" + "x" * 3000,
    ],
)
def test_only_pages_of_our_own_are_kept(path):
    assert places.keep(path) == ""


def test_an_altered_or_old_place_is_dropped(monkeypatch):
    token = places.keep("/sessions/")

    assert places.find(token) == "/sessions/"
    assert places.find(token[:-1] + ("A" if token[-1] != "A" else "B")) == ""
    monkeypatch.setattr(places, "LIFETIME", -1)
    assert places.find(token) == ""


def test_relay_state_is_never_followed(saml_row, idp):
    browser = web.browser()
    answer = idp.answer(web.start(browser, "acme"))

    finished = web.post_answer(browser, "acme", answer, RelayState="https://evil.example/")

    assert finished["Location"] == "/"


# --- The sign-in page


def test_one_provider_is_gone_to_at_once_unless_something_went_wrong(saml_row):
    at_once = get(web.browser(), "/sign-in/")
    staying = get(web.browser(), "/sign-in/?stay=1")

    assert "data-send-at-once" in at_once.content.decode()
    assert "data-send-at-once" not in staying.content.decode()


def test_of_several_providers_the_one_used_last_comes_first(saml_row, oidc_row):
    browser = web.browser()
    web.start(browser, "globex")

    page = get(browser, "/sign-in/")

    assert [row.slug for row in page.context["providers"]] == ["globex", "acme"]
    assert "data-send-at-once" not in page.content.decode()


def test_providers_stand_in_the_administrators_order(saml_row, oidc_row):
    saml_row.position = 5
    saml_row.save()

    page = get(web.browser(), "/sign-in/")

    assert [row.slug for row in page.context["providers"]] == ["globex", "acme"]


def test_looking_at_the_sign_in_page_leaves_no_session(saml_row):
    get(web.browser(), "/sign-in/?to=x&next=/sessions/")

    assert not Session.objects.exists()


def test_who_is_signed_in_does_not_see_the_sign_in_page(ada):
    to = places.keep("/sessions/")

    assert get(ada, f"/sign-in/?to={to}")["Location"] == "/sessions/"
    assert get(ada, "/sign-in/?fresh=1").status_code == 200


def test_a_sign_in_begins_with_a_form_of_our_own(saml_row):
    strict = web.Browser(headers={"host": "daypass.test"}, enforce_csrf_checks=True)

    assert strict.post("/sign-in/acme/", secure=True).status_code == 403
    assert strict.get("/sign-in/acme/", secure=True).status_code == 405


# --- Signing out


def test_signing_out_with_saml_goes_on_to_the_provider(ada, idp):
    answer = ada.post("/sign-out/", secure=True)
    url = web.destination(answer)
    request = idp.read(url)
    root = etree.fromstring(request.xml)

    assert not web.is_signed_in(ada)
    assert url.startswith(idp.slo_url)
    assert root.findtext(f"{{{SAML}}}NameID") == "u-0001"
    assert web.query(url)["Signature"]
    assert ended_because() == ["signed out"]


def test_the_providers_answer_to_it_ends_on_our_page(ada, idp):
    asked = idp.read(web.destination(ada.post("/sign-out/", secure=True)))
    message = idp.logout_response(SLS, in_response_to=asked.id)

    back = idp.redirect(SLS, "SAMLResponse", message, relay="https://evil.example/")

    assert web.call_back(ada, back)["Location"] == "/signed-out/"


def test_signing_out_with_oidc_goes_on_to_the_provider(oidc_row, op):
    tokens: list[str] = []
    op.bend_token = lambda token: tokens.append(token) or token
    browser = web.browser()
    web.oidc_sign_in(browser, op)

    url = web.destination(browser.post("/sign-out/", secure=True))
    query = web.query(url)

    assert not web.is_signed_in(browser)
    assert url.startswith(f"{op.issuer}/logout?")
    assert query["post_logout_redirect_uri"] == "https://daypass.test/signed-out/"
    assert query["client_id"] == "daypass"
    assert query["id_token_hint"] == tokens[0]


def test_a_long_id_token_is_not_kept_for_it(oidc_row, op):
    op.bend_claims = lambda claims: claims.update(filler="x" * 5000)
    browser = web.browser()
    web.oidc_sign_in(browser, op)

    url = web.destination(browser.post("/sign-out/", secure=True))

    assert "id_token_hint" not in web.query(url)


def test_signing_out_without_a_session_is_harmless(db):
    assert web.browser().post("/sign-out/", secure=True)["Location"] == "/signed-out/"


def test_signing_out_takes_a_post(ada):
    assert get(ada, "/sign-out/").status_code == 405
    assert web.is_signed_in(ada)


def test_the_provider_may_end_the_session_with_a_signed_request(ada, idp):
    message = idp.logout_request(SLS, name_id="u-0001")

    answer = web.call_back(ada, idp.redirect(SLS, "SAMLRequest", message, relay="r"))

    assert answer.status_code == 302
    assert answer["Location"].startswith(idp.slo_url)
    assert web.query(answer["Location"])["RelayState"] == "r"
    assert web.query(answer["Location"])["Signature"]
    assert not web.is_signed_in(ada)
    assert ended_because() == ["signed out at the provider"]


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url.split("&SigAlg")[0],
        lambda url: url.split("&Signature")[0],
        lambda url: url.replace("&SigAlg=", "&RelayState=added&SigAlg="),
        lambda url: url.replace("rsa-sha256", "rsa-sha1"),
        lambda url: url.replace("?SAMLRequest=", "?SAMLRequest=AAAA&SAMLRequest="),
        lambda url: url[:-8] + "AAAAAA%3D",
        lambda url: SLS,
        lambda url: SLS + "?SAMLRequest=junk&SigAlg=x&Signature=y",
    ],
)
def test_a_logout_request_that_is_not_signed_ends_nothing(ada, idp, change):
    url = idp.redirect(SLS, "SAMLRequest", idp.logout_request(SLS, name_id="u-0001"))

    answer = web.call_back(ada, change(url))

    assert answer.status_code == 403
    assert web.is_signed_in(ada)


def test_a_logout_request_for_somebody_else_ends_nothing(ada, idp):
    url = idp.redirect(SLS, "SAMLRequest", idp.logout_request(SLS, name_id="u-0002"))

    answer = web.call_back(ada, url)

    assert answer["Location"].startswith(idp.slo_url)
    assert web.is_signed_in(ada)


def test_a_logout_request_of_another_provider_ends_nothing(ada, idp, other_idp):
    url = other_idp.redirect(SLS, "SAMLRequest", other_idp.logout_request(SLS, name_id="u-0001"))

    assert web.call_back(ada, url).status_code == 403
    assert web.is_signed_in(ada)


def test_an_old_logout_request_ends_nothing(ada, idp):
    message = idp.logout_request(SLS, name_id="u-0001", now=timezone.now() - timedelta(minutes=20))

    assert web.call_back(ada, idp.redirect(SLS, "SAMLRequest", message)).status_code == 403
    assert web.is_signed_in(ada)


def test_a_bomb_in_a_logout_message_is_not_unpacked(ada, idp):
    url = idp.redirect(SLS, "SAMLRequest", b"<a>" + b" " * 3_000_000 + b"</a>")

    assert web.call_back(ada, url).status_code == 403


# --- What is not there


@pytest.mark.parametrize(
    "path",
    [
        "/accounts/signup/",
        "/accounts/login/",
        "/accounts/password/reset/",
        "/accounts/email/",
        "/accounts/3rdparty/",
        "/accounts/3rdparty/signup/",
        "/accounts/saml/acme/login/",
        "/accounts/oidc/globex/login/",
        "/saml/acme/login/",
        "/oidc/globex/login/",
    ],
)
def test_allauths_other_pages_do_not_exist(ada, path):
    assert get(ada, path).status_code == 404


def test_break_glass_pages_do_not_exist_for_people_of_a_provider(ada):
    assert get(ada, reverse("mfa_index")).status_code == 404
    assert get(ada, reverse("mfa_activate_totp")).status_code == 404


def test_the_session_holds_no_message(ada):
    kept = json.dumps(dict(ada.session.items()))

    assert "<saml" not in kept and "PHNhbW" not in kept
