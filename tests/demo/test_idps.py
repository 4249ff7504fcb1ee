"""The demo's identity providers, with other people's relying parties in front: python3-saml and joserfc."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from joserfc import jwt
from joserfc.jwk import KeySet
from onelogin.saml2.auth import OneLogin_Saml2_Auth
from onelogin.saml2.idp_metadata_parser import OneLogin_Saml2_IdPMetadataParser
from onelogin.saml2.settings import OneLogin_Saml2_Settings

from broker.demo.cast import PASSWORD
from broker.demo.stage import set_stage
from tests.servers import ROOT, free_port

PATIENCE = 60
"""Seconds for one answer: on a machine that has much else to do."""


class Idps:
    """The running providers, and a service provider whose metadata is where Daypass's would be."""

    def __init__(self, stage, key: str, certificate: str):
        self.stage, self.key, self.certificate = stage, key, certificate

    def settings(self, **changes) -> dict:
        origin = f"{self.stage.origin}/saml/northwind"
        sp = {
            "entityId": f"{origin}/metadata/",
            "assertionConsumerService": {"url": f"{origin}/acs/"},
            "singleLogoutService": {"url": f"{origin}/sls/"},
            "x509cert": self.certificate,
            "privateKey": self.key,
        }
        security = {
            "authnRequestsSigned": True,
            "logoutRequestSigned": True,
            "wantAssertionsSigned": True,
            "wantMessagesSigned": True,
            "rejectDeprecatedAlgorithm": True,
        }
        return {"strict": True, "sp": sp, "security": security, **changes}

    def auth(self, path: str = "acs", get=None, post=None, **changes) -> OneLogin_Saml2_Auth:
        metadata = requests.get(f"{self.stage.idp}/saml/metadata", timeout=PATIENCE).content
        idp = OneLogin_Saml2_IdPMetadataParser.parse(metadata)["idp"]
        where = {
            "https": "off",
            "http_host": f"localhost:{self.stage.port}",
            "script_name": f"/saml/northwind/{path}/",
            "get_data": get or {},
            "post_data": post or {},
        }
        return OneLogin_Saml2_Auth(where, {**self.settings(**changes), "idp": idp})

    def sign_in(self, browser: requests.Session, url: str, login: str, *, mfa=False):
        """Follow the way of a browser until something is posted back or the visitor is sent away."""
        page = browser.get(url, timeout=PATIENCE)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        form = {
            "csrfmiddlewaretoken": token[1],
            "next": url.removeprefix(self.stage.idp),
            "login": login,
            "password": PASSWORD,
            **({"mfa": "on"} if mfa else {}),
        }
        answer = browser.post(page.url, data=form, allow_redirects=False, timeout=PATIENCE)
        return browser.get(
            f"{self.stage.idp}{answer.headers['Location']}", allow_redirects=False, timeout=PATIENCE
        )


@pytest.fixture(scope="module")
def idps(tmp_path_factory):
    with ExitStack() as ending:
        yield start(tmp_path_factory, ending)


def start(folders, ending: ExitStack, *, tries: int = 3) -> Idps:
    """The providers, once they answer as themselves.

    Their ports are chosen before they listen there, and on a busy machine somebody else may be quicker: then it is
    begun anew with others.
    """
    stage = set_stage(folders.mktemp("idps") / "stage", port=free_port())
    other = set_stage(folders.mktemp("other") / "stage", port=free_port())
    running = Idps(
        stage,
        (other.idp_folder / "key.pem").read_text(),
        (other.idp_folder / "certificate.pem").read_text(),
    )
    metadata = OneLogin_Saml2_Settings(running.settings(), sp_validation_only=True)
    document = metadata.get_sp_metadata()

    class Daypass(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(document if isinstance(document, bytes) else document.encode())

        def log_message(self, *_):
            pass

    with ExitStack() as started:
        # With a thread for each connection, so that nobody who connects and says nothing keeps the providers waiting.
        server = ThreadingHTTPServer(("127.0.0.1", stage.port), Daypass)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        started.callback(server.server_close)
        started.callback(server.shutdown)
        log = started.enter_context((stage.logs / "idps.log").open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-m", "broker.demo.idp"],
            cwd=ROOT,
            env=stage.environment(),
            stdout=log,
            stderr=log,
        )
        started.callback(process.wait, timeout=PATIENCE)
        started.callback(process.terminate)
        if answers(stage, process):
            ending.push(started.pop_all())
            return running
    assert tries > 1, (stage.logs / "idps.log").read_text()
    return start(folders, ending, tries=tries - 1)


def answers(stage, process) -> bool:
    """Both answer, and it is they who do; False when their process has ended."""
    until = time.monotonic() + 2 * PATIENCE
    while process.poll() is None and time.monotonic() < until:
        try:
            discovery = requests.get(
                f"{stage.idp}/.well-known/openid-configuration", timeout=PATIENCE
            )
            metadata = requests.get(f"{stage.idp}/saml/metadata", timeout=PATIENCE)
            if discovery.json()["issuer"] == stage.idp and stage.idp in metadata.text:
                return process.poll() is None
        except (requests.RequestException, ValueError, KeyError):
            pass
        time.sleep(0.1)
    return False


def posted(answer: requests.Response) -> dict[str, str]:
    return dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', answer.text))


# --- SAML


@pytest.mark.parametrize(
    ("mfa", "context"),
    [
        (False, "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"),
        (True, "https://refeds.org/profile/mfa"),
    ],
)
def test_a_person_arrives_with_all_groups_in_a_signed_response(idps, mfa, context):
    asking = idps.auth()
    url = asking.login(return_to="state-1")

    answer = idps.sign_in(requests.Session(), url, "zoe", mfa=mfa)
    assert answer.status_code == 200, answer.text
    form = posted(answer)
    receiving = idps.auth(post=form)
    receiving.process_response(request_id=asking.get_last_request_id())

    assert receiving.get_last_error_reason() is None
    assert receiving.is_authenticated()
    assert receiving.get_nameid() == "nw-1003"
    assert receiving.get_attributes()["groups"] == ["Données & Analyse <EU>"]
    assert receiving.get_attributes()["displayName"] == ["Zoë Ångström-Núñez"]
    assert receiving.get_last_authn_contexts() == [context]
    assert form["RelayState"] == "state-1"


def test_a_request_that_daypass_did_not_sign_is_refused(idps):
    unsigned = {"authnRequestsSigned": False}
    url = idps.auth(security=unsigned).login()

    answer = idps.sign_in(requests.Session(), url, "maya")

    assert answer.status_code == 400
    assert "not signed correctly" in answer.text


def test_a_request_that_was_changed_after_signing_is_refused(idps):
    url = idps.auth().login(return_to="mine")

    answer = idps.sign_in(requests.Session(), url.replace("mine", "else"), "maya")

    assert answer.status_code == 400


def test_a_contractor_is_not_vouched_for_by_the_staff_provider(idps):
    browser = requests.Session()
    url = idps.auth().login()
    page = browser.get(url, timeout=PATIENCE)

    assert "Aiko Tanaka" not in page.text
    assert "Maya Lindqvist" in page.text


def test_signing_out_at_daypass_ends_the_session_here(idps):
    browser = requests.Session()
    assert idps.sign_in(browser, idps.auth().login(), "maya").status_code == 200
    assert "signed in as Maya" in browser.get(f"{idps.stage.idp}/", timeout=PATIENCE).text

    asking = idps.auth("sls")
    url = asking.logout(name_id="nw-1001", return_to="state-2")
    answer = browser.get(url, allow_redirects=False, timeout=PATIENCE)
    query = {
        name: values[0]
        for name, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()
    }
    receiving = idps.auth("sls", get=query)
    receiving.process_slo(request_id=asking.get_last_request_id(), keep_local_session=True)

    assert not receiving.get_errors(), receiving.get_last_error_reason()
    assert query["RelayState"] == "state-2"
    assert "not signed in" in browser.get(f"{idps.stage.idp}/", timeout=PATIENCE).text


# --- OpenID Connect


def authorization(idps, verifier: str, **changes) -> str:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    query = {
        "client_id": "daypass",
        "response_type": "code",
        "redirect_uri": f"{idps.stage.origin}/oidc/contractors/callback/",
        "scope": "openid profile email groups",
        "state": "state-3",
        "nonce": "nonce-3",
        "code_challenge": challenge.decode(),
        "code_challenge_method": "S256",
        **changes,
    }
    discovered = requests.get(
        f"{idps.stage.idp}/.well-known/openid-configuration", timeout=PATIENCE
    ).json()
    return requests.Request("GET", discovered["authorization_endpoint"], params=query).prepare().url


def redeem(idps, code: str, verifier: str) -> requests.Response:
    return requests.post(
        f"{idps.stage.idp}/identity/o/api/token",
        data={
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": f"{idps.stage.origin}/oidc/contractors/callback/",
            "code_verifier": verifier,
        },
        auth=("daypass", idps.stage.secrets["DEMO_OIDC_CLIENT_SECRET"]),
        timeout=PATIENCE,
    )


@pytest.mark.parametrize(("mfa", "methods"), [(False, ["pwd"]), (True, ["pwd", "otp", "mfa"])])
def test_an_id_token_says_who_from_which_groups_and_how(idps, mfa, methods):
    verifier = secrets.token_urlsafe(48)
    url = authorization(idps, verifier)

    answer = idps.sign_in(requests.Session(), url, "aiko", mfa=mfa)
    query = parse_qs(urlsplit(answer.headers["Location"]).query)
    tokens = redeem(idps, query["code"][0], verifier).json()
    keys = KeySet.import_key_set(
        requests.get(f"{idps.stage.idp}/.well-known/jwks.json", timeout=PATIENCE).json()
    )
    claims = jwt.decode(tokens["id_token"], keys, algorithms=["RS256"]).claims

    assert query["state"] == ["state-3"]
    assert claims["iss"] == idps.stage.idp
    assert claims["aud"] == "daypass"
    assert (claims["sub"], claims["name"]) == ("ext-2002", "Aiko Tanaka")
    assert claims["groups"] == ["contractors", "web-shop-developers"]
    assert (claims["nonce"], claims["amr"]) == ("nonce-3", methods)
    assert claims["auth_time"] <= claims["iat"]


def test_a_code_is_worthless_without_the_verifier_that_asked_for_it(idps):
    url = authorization(idps, secrets.token_urlsafe(48))

    answer = idps.sign_in(requests.Session(), url, "aiko")
    code = parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]

    assert redeem(idps, code, secrets.token_urlsafe(48)).status_code == 400


def test_everybody_is_asked_at_every_sign_in(idps):
    browser = requests.Session()
    idps.sign_in(browser, authorization(idps, secrets.token_urlsafe(48)), "aiko")

    again = browser.get(authorization(idps, secrets.token_urlsafe(48)), timeout=PATIENCE)

    assert "Who are you today?" in again.text


def test_a_wrong_password_does_not_sign_in(idps):
    browser = requests.Session()
    url = authorization(idps, secrets.token_urlsafe(48))
    page = browser.get(url, timeout=PATIENCE)
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)[1]

    answer = browser.post(
        page.url,
        data={"csrfmiddlewaretoken": token, "next": "/", "login": "aiko", "password": "guess"},
        timeout=PATIENCE,
    )

    assert answer.status_code == 400
    assert "do not belong together" in answer.text
    assert "not signed in" in browser.get(f"{idps.stage.idp}/", timeout=PATIENCE).text


def test_its_cookies_are_not_daypass_s(idps):
    browser = requests.Session()
    idps.sign_in(browser, authorization(idps, secrets.token_urlsafe(48)), "carlos")

    assert {cookie.name for cookie in browser.cookies} <= {
        "northwind_idp_session",
        "northwind_idp_csrf",
        "messages",
    }
