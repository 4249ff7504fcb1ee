"""What has to be true through a proxy. Each trial says in a few words what it saw, or fails."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import boto3
from botocore import UNSIGNED
from botocore.config import Config

from tests.accounts.idp_saml import SamlIdp
from tests.interop.parts import node
from tests.proxies.fronts import Front
from tests.proxies.page import APACHE, HAPROXY, HOST, NGINX
from tests.proxies.site import ACCOUNT, ACS, CSRF, ORIGIN, SESSION, Site

Trial = Callable[[Site, Front], str]

HERE = Path(__file__).resolve().parent
REDIRECT = "http://127.0.0.1:39953/oauth/callback"
LARGEST = 262_000
"""Bytes of the largest form that Daypass reads, but for a few (accounts.early.MESSAGE)."""

FORGED, SMUGGLED = "203.0.113.9", "203.0.113.66"
JUNK = "SAMLResponse=junk"


def self_test(site: Site, front: Front) -> str:
    """manage.py check_terminal: the header arrives."""
    said = site.self_test()
    assert "arrives as it was sent" in said, said
    return "passes"


def _aws(site: Site, service: str) -> Any:
    return boto3.session.Session().client(
        service,
        region_name="broker",
        endpoint_url=f"{ORIGIN}/aws",
        verify=str(site.authority),
        config=Config(signature_version=UNSIGNED, retries={"max_attempts": 1}),
    )


def client_of_aws(site: Site, front: Front) -> str:
    """botocore, unmodified: registers, is let in by somebody who signed in, lists accounts and roles, signs out."""
    person = site.visitor()
    session, _ = person.sign_in()
    oidc, sso = _aws(site, "sso-oidc"), _aws(site, "sso")
    client = oidc.register_client(
        clientName="x",
        clientType="public",
        scopes=["sso:account:access"],
        grantTypes=["authorization_code", "refresh_token"],
        redirectUris=["http://127.0.0.1/oauth/callback"],
        issuerUrl=f"{ORIGIN}/start",
    )
    verifier = secrets.token_urlsafe(48)
    digest = hashlib.sha256(verifier.encode()).digest()
    asked = {
        "response_type": "code",
        "client_id": client["clientId"],
        "redirect_uri": REDIRECT,
        "state": secrets.token_hex(8),
        "code_challenge_method": "S256",
        "scopes": "sso:account:access",
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
    }
    token = secrets.token_hex(16)
    led = person.ask(
        "POST",
        f"/authorize?{urlencode(asked)}",
        [("Origin", ORIGIN)],
        form={"csrfmiddlewaretoken": token, "answer": "yes"},
        **{SESSION: session, CSRF: token},
    )
    assert led.status == 302 and led.location.startswith(REDIRECT), led.body[:1500]
    code = parse_qs(urlsplit(led.location).query)["code"][0]
    given = oidc.create_token(
        clientId=client["clientId"],
        clientSecret=client["clientSecret"],
        grantType="authorization_code",
        code=code,
        codeVerifier=verifier,
        redirectUri=REDIRECT,
    )
    access = given["accessToken"]
    site.secrets += [code, access, given["refreshToken"], client["clientSecret"]]
    accounts = sso.list_accounts(accessToken=access)["accountList"]
    assert [one["accountId"] for one in accounts] == [ACCOUNT], accounts
    roles = sso.list_account_roles(accessToken=access, accountId=ACCOUNT)["roleList"]
    assert [one["roleName"] for one in roles] == ["Developer"], roles
    sso.logout(accessToken=access)
    return "accounts and roles listed"


def start_url(site: Site, front: Front) -> str:
    """HEAD /start, which newer AWS CLIs ask, is answered by Daypass."""
    answer = site.visitor().ask("HEAD", "/start")
    assert answer.status == 302 and answer.location, (answer.status, answer.location)
    return "302 to the identifier"


CLAIMS: dict[str, list[tuple[str, str]]] = {
    "nothing": [],
    "X-Forwarded-For": [("X-Forwarded-For", FORGED)],
    "it twice": [("X-Forwarded-For", FORGED), ("x-forwarded-for", f"{FORGED}, {FORGED}")],
    "its twin with underscores": [("X_Forwarded_For", FORGED), ("X-Forwarded_For", FORGED)],
    "others of the kind": [
        ("Forwarded", f"for={FORGED}"),
        ("X-Real-IP", FORGED),
        ("X-Client-IP", FORGED),
        ("True-Client-IP", FORGED),
        ("X-Envoy-External-Address", FORGED),
        ("X-Original-Forwarded-For", FORGED),
    ],
    "that the proxy drops it": [("Connection", "close, X-Forwarded-For")],
    "that the proxy drops it, and one": [
        ("Connection", "X-Forwarded-For, keep-alive"),
        ("X-Forwarded-For", FORGED),
    ],
}
"""What a visitor says about their address."""


def address(site: Site, front: Front) -> str:
    """Daypass counts the visitor's address, whatever the visitor says it is."""
    seen, door = [], site.strange_door()
    for number, (what, headers) in enumerate(CLAIMS.items()):
        for own in (f"127.0.7.{number + 1}", "::1"):
            # Of strangers no more than five a second are recorded alone.
            time.sleep(0.3)
            answer = site.visitor(own).ask("POST", door, headers, form={"SAMLResponse": "junk"})
            if answer.status == 400 and not answer.reference:
                seen.append(f"{what}: refused by the proxy")
                continue
            assert answer.reference, f"{what}: {answer.status} {answer.body[:300]}"
            found = site.address_of(answer.reference)
            assert found == own, f"a visitor at {own} who claims {what} counts as {found!r}"
    assert FORGED not in site.addresses()
    return "; ".join(["the visitor's, by IPv4 and IPv6", *sorted(set(seen))])


def origin(site: Site, front: Front) -> str:
    """https and one name, in cookies, redirects and what a provider is told, whatever a visitor says."""
    lies = [
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Port", "80"),
        ("X-Forwarded-Ssl", "off"),
    ]
    person = site.visitor()
    _, url = person.begin(*lies)
    asked = SamlIdp.read(url)
    assert asked.acs == f"{ORIGIN}{ACS}", asked.acs
    _, answers = person.sign_in()
    for answer in answers:
        for name, cookie in answer.cookies.items():
            if not cookie.value:
                continue  # taken away
            assert cookie["secure"] and cookie["httponly"], f"{name} is {cookie.OutputString()}"
    page = person.ask("GET", "/sign-in/", lies)
    assert page.status == 200, page.status
    assert "max-age=" in page.headers.get("Strict-Transport-Security", ""), page.headers
    assert not page.headers.get("Alt-Svc") or "h3" in page.headers["Alt-Svc"]
    wrong = person.ask("GET", "/sign-in/", [("Host", "evil.example")])
    assert wrong.status >= 300 or "evil" not in wrong.body, wrong.status
    for host in (HOST, "evil.example"):
        plain = person.ask("GET", "/sign-in/?to=a%2Fb", [("Host", host)], plain=True)
        assert plain.status >= 301 and not plain.cookies, (host, plain.status)
        if host == HOST:
            assert plain.status in (301, 308), plain.status
            assert plain.location == f"{ORIGIN}/sign-in/?to=a%2Fb", plain.location
    return "https, secure cookies, redirect"


def forms(site: Site, front: Front) -> str:
    """Sign-in forms of all sizes arrive whole, and never by way of a disk; what is too long is refused."""
    before = front.spooled()
    for size in (0, 65_536, LARGEST):
        session, _ = site.visitor().sign_in(size=size)
        home = site.visitor().ask("GET", "/", **{SESSION: session})
        assert home.status == 200, (size, home.status, home.location)
    assert front.spooled() == before, "a form was written to a file"
    long = site.visitor("127.0.8.1").ask("POST", ACS, form={"SAMLResponse": "A" * 300_000})
    assert long.status == 413 and long.reference, (long.status, long.body[:300])
    try:
        longest = site.visitor("127.0.8.1").ask("POST", ACS, form={"SAMLResponse": "A" * 2_000_000})
        assert longest.status in (413, 502), longest.status  # 502: it ended while it was sent
    except (ConnectionError, ssl.SSLError):
        pass  # it did not wait for the rest
    return f"up to {LARGEST:,} bytes; 300 kB refused by Daypass, 2 MB refused"


def long_heads(site: Site, front: Front) -> str:
    """As much as a browser may send: an address and cookies of 8 kB each, and thirty more headers."""
    headers = [(f"X-Header-{number}", "x" * 60) for number in range(30)]
    answer = site.visitor().ask(
        "GET", f"/sign-in/?x={'a' * 8000}", headers, **{"other": "c" * 8000}
    )
    assert answer.status == 200 and "Acme" in answer.body, (answer.status, answer.body[:300])
    token = "t" * 4096
    told = site.visitor().ask(
        "GET", "/aws/assignment/accounts", [("x-amz-sso_bearer_token", token)]
    )
    assert told.status == 401 and "did not arrive" not in told.body, (told.status, told.body[:300])
    return "8 kB of address and 8 kB of cookies"


def long_answers(site: Site, front: Front) -> str:
    """A provider's logout message with 5 kB that it wants back: the address of the redirect is as long."""
    session, _ = site.visitor().sign_in(name_id="u-logout")
    sls = f"{ORIGIN}/saml/acme/sls/"
    message = site.idp.logout_request(sls, name_id="u-logout", session_index="s-u-logout")
    url = site.idp.redirect(sls, "SAMLRequest", message, relay="r" * 5000)
    answer = site.visitor().ask("GET", url.removeprefix(ORIGIN))
    assert answer.status == 302 and answer.location.startswith(site.idp.slo_url), (
        answer.status,
        answer.body[:500],
    )
    assert len(answer.location) > 5000
    home = site.visitor().ask("GET", "/", **{SESSION: session})
    assert home.location.startswith("/sign-in/"), home.status
    return f"a redirect of {len(answer.location):,} bytes; a signed query arrives unchanged"


def http2(site: Site, front: Front) -> str:
    """What browsers speak: HTTP/2, cookies in pieces, the same header, the same large form."""
    person = site.visitor()
    _, url = person.begin()
    form = urlencode(person.filled(url, LARGEST))
    kind = {"content-type": "application/x-www-form-urlencoded"}
    sent = {"x-amz-sso_bearer_token": "made-up"}
    asked: list[dict[str, Any]] = [
        {"headers": {":path": "/aws/header-test"}},
        {"headers": {":path": "/aws/header-test", **sent}},
        {
            "headers": {
                ":method": "POST",
                ":path": ACS,
                "content-length": str(len(form)),
                "cookie": ["a=1", "b=2"],
                **kind,
            },
            "body": form,
        },
        {"headers": {":method": "POST", ":path": ACS, **kind}, "body": JUNK},
    ]
    said = subprocess.run(
        [node(), HERE / "http2.mjs"],
        input=json.dumps(
            {"origin": ORIGIN, "host": HOST, "ca": str(site.authority), "requests": asked}
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    without, with_it, posted, unmeasured = json.loads(said.stdout)
    assert without["status"] == with_it["status"] == 200, (without, with_it)
    assert without["body"] != with_it["body"], "the header is dropped over HTTP/2"
    assert posted["status"] == 302, (posted["status"], posted["body"][:500])
    assert unmeasured["status"] in (403, 411), (unmeasured["status"], unmeasured["body"][:500])
    told = {403: "read", 411: "refused with 411"}[unmeasured["status"]]
    return f"the same; a form without a length is {told}"


def _post(door: str, *headers: str, body: str) -> str:
    """A request as it is written: these headers and no others but the usual ones."""
    usual = (f"Host: {HOST}", "Content-Type: application/x-www-form-urlencoded")
    return "\r\n".join((f"POST {door} HTTP/1.1", *usual, *headers, "", body))


def _ambiguous(door: str) -> dict[str, str]:
    """Messages whose end can be seen in two places. If what they hide arrives, its made-up address is recorded."""
    hidden = _post(door, f"X-Forwarded-For: {SMUGGLED}", f"Content-Length: {len(JUNK)}", body=JUNK)
    chunks = f"{len(JUNK):x}\r\n{JUNK}\r\n0\r\n\r\n{hidden}"
    whole = f"{JUNK}&x={hidden}"
    one_chunk = f"{len(whole):x}\r\n{whole}\r\n0\r\n\r\n"
    of_chunks, of_whole = f"Content-Length: {len(chunks)}", f"Content-Length: {len(whole)}"
    coded = "Transfer-Encoding: chunked"
    get = f"GET /sign-in/ HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(hidden)}\r\n\r\n{hidden}"
    return {
        "both lengths": _post(door, of_chunks, coded, body=chunks),
        "short, and chunked": _post(door, "Content-Length: 4", coded, body=one_chunk),
        "two lengths": _post(door, f"Content-Length: {len(JUNK)}", of_whole, body=whole),
        "a length with a sign": _post(door, f"Content-Length: +{len(JUNK)}", body=JUNK + hidden),
        "an odd coding": _post(door, of_whole, "Transfer-Encoding: xchunked", body=whole),
        "a tab": _post(door, of_chunks, "Transfer-Encoding:\tchunked", body=chunks),
        "a blank before the colon": _post(
            door, of_chunks, "Transfer-Encoding : chunked", body=chunks
        ),
        "a coding with underscores": _post(
            door, of_chunks, "Transfer_Encoding: chunked", body=chunks
        ),
        "a length with underscores": _post(door, "Content_Length: 5", of_whole, body=whole),
        "a bare line feed": _post(door, f"X-A: b\n{coded}", of_chunks, body=chunks),
        "a folded line": _post(door, f"X-A: b\r\n {coded}", of_chunks, body=chunks),
        "a length for this hop": _post(door, "Connection: Content-Length", of_whole, body=whole),
        "a GET with a body": get,
    }


def smuggling(site: Site, front: Front) -> str:
    """No message ends elsewhere for Daypass than for the proxy, and nobody is given another's answer."""
    messages = _ambiguous(site.strange_door())
    for number, (what, message) in enumerate(messages.items()):
        with site.visitor(f"127.0.9.{number + 1}").connect() as connection:
            connection.settimeout(2)
            connection.sendall(message.encode())
            try:
                while connection.recv(65536):
                    pass
            except (TimeoutError, ssl.SSLError, ConnectionError):
                pass
        for path, wanted in (("/aws/header-test", "arrived"), ("/sign-in/", "Acme")) * 2:
            answer = site.visitor().ask("GET", path)
            assert answer.status == 200 and wanted in answer.body, (what, path, answer.status)
        assert SMUGGLED not in site.addresses(), f"smuggled: {what}"
    return f"{len(messages)} messages that can be read in two ways"


def away(site: Site, front: Front) -> str:
    """While Daypass does not answer, visitors are told so; as soon as it is back, they are answered."""
    code, token, cookie = (secrets.token_urlsafe(24) for _ in range(3))
    site.secrets += [code, token, cookie]
    with site.away():
        answer = site.visitor("127.0.10.1").ask(
            "GET",
            f"/oidc/globex/callback/?code={code}",
            [("x-amz-sso_bearer_token", token)],
            **{SESSION: cookie},
        )
        posted = site.visitor("127.0.10.1").ask("POST", ACS, form={"SAMLResponse": token})
    assert answer.status in (502, 503) and posted.status in (502, 503), answer.status
    back = site.visitor().ask("GET", "/sign-in/")
    assert back.status == 200, f"{back.status} although Daypass is back"
    return f"{answer.status}, and 200 when it is back"


def nothing_written(site: Site, front: Front) -> str:
    """After everything: what the proxy wrote down has no secret and no query."""
    said = front.said()
    for secret in site.secrets:
        assert secret not in said, f"{secret[:12]}... is in what {front.written.name} wrote"
    assert "SAMLRequest" not in said and "code_challenge" not in said, "a query was written down"
    if front.written in (NGINX, APACHE, HAPROXY):
        assert f"POST {ACS}" in said and "127.0.7.1 " in said, said[:500]
        return "addresses, no query, no secret"
    return "no query, no secret"


TRIALS: dict[str, Trial] = {
    "Daypass's test of the header": self_test,
    "AWS's client": client_of_aws,
    "HEAD of the start URL": start_url,
    "whose address counts": address,
    "scheme and name": origin,
    "forms of sign-in": forms,
    "long heads": long_heads,
    "long answers": long_answers,
    "HTTP/2": http2,
    "smuggling": smuggling,
    "Daypass away for a moment": away,
    "what is written down": nothing_written,
}
