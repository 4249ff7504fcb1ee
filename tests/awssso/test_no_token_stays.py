"""After a day of terminals, no code, token or client secret is anywhere but in the one answer that it was for.

The real doors and pages, with debug logging, against an STS whose every secret is marked; then everything that is kept
is searched as in tests/test_no_secret_stays.py.
"""

from __future__ import annotations

import json

import redis

from tests.aws.servers import (  # noqa: F401  (fixtures)
    _signin_server,
    _sts_server,
    signin_stand_in,
    sts_stand_in,
)
from tests.test_no_secret_stays import (
    MarkedSts,
    encodings,
    everything_kept,
    product,  # noqa: F401  (fixture)
)

ROUNDS = 4

A_DAY = """
import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlencode
from django.conf import settings
from django.test import Client, override_settings
from django.utils import timezone
from broker.awssso import registrations, services
from broker.awssso.models import Terminal, TerminalToken
from broker.minting.keys import ensure_keys
from tests import factories as make
from tests.awssso.conftest import REDIRECT, browser_of, let_in, pkce
from tests.portal.conftest import sign_in

plain = {{"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
override_settings(STORAGES={{**settings.STORAGES, "staticfiles": plain}}).enable()
ensure_keys(timezone.now())
alice = make.person("alice", groups=[make.group("developers")])
role = make.role("Web", of=make.account("Payments", account_id="123456789012", region="eu-west-1"))
make.mapping(alice.memberships.get().group, role)
browser = sign_in(alice)
aws = Client(headers={{"host": "daypass.test", "user-agent": "aws-cli/2.38.1"}}, raise_request_exception=False)
secrets, statuses, answers = [], [], []

def ask(path, body, *, fine=200):
    answer = aws.post(path, json.dumps(body), content_type="application/json", secure=True)
    statuses.append((path, answer.status_code, fine))
    said = answer.json()
    for name in ("clientSecret", "deviceCode", "accessToken", "refreshToken", "userCode"):
        if name in said:
            secrets.append(said[name])
    return said

def use(token):
    header = {{"HTTP_X_AMZ_SSO_BEARER_TOKEN": token}}
    for path in ("/aws/assignment/accounts", "/aws/assignment/roles?account_id=123456789012",
                 "/aws/federation/credentials?account_id=123456789012&role_name=Web"):
        answer = aws.get(path, secure=True, **header)
        statuses.append((path, answer.status_code, 200))
        answers.append(answer.content.decode())
        aws.get(path, secure=True, HTTP_X_AMZ_SSO_BEARER_TOKEN=token[:-1] + "~")

for turn in range({rounds}):
    # PKCE, by the page
    client = ask("/aws/client/register", {{"clientName": "cli", "clientType": "public",
        "grantTypes": ["authorization_code", "refresh_token"], "redirectUris": ["http://127.0.0.1/oauth/callback"]}})
    mine = {{"clientId": client["clientId"], "clientSecret": client["clientSecret"]}}
    verifier, challenge = pkce()
    page = "/authorize?" + urlencode({{"response_type": "code", "client_id": client["clientId"], "state": "s" * 36,
        "redirect_uri": REDIRECT, "code_challenge_method": "S256", "code_challenge": challenge,
        "scopes": "sso:account:access"}})
    browser.get(page, secure=True)
    answer = browser.post(page, {{"answer": "yes"}}, secure=True)
    code = parse_qs(urlsplit(answer["Location"]).query)["code"][0]
    secrets += [code, verifier]
    exchange = {{**mine, "grantType": "authorization_code", "code": code, "codeVerifier": verifier,
        "redirectUri": REDIRECT}}
    ask("/aws/token", {{**exchange, "codeVerifier": "x" * 64}}, fine=400)
    tokens = ask("/aws/token", exchange)
    use(tokens["accessToken"])
    tokens = ask("/aws/token", {{**mine, "grantType": "refresh_token", "refreshToken": tokens["refreshToken"]}})
    use(tokens["accessToken"])
    ask("/aws/token", exchange, fine=400)  # comes twice

    # by a device code
    client = ask("/aws/client/register", {{"clientName": "cli", "clientType": "public"}})
    mine = {{"clientId": client["clientId"], "clientSecret": client["clientSecret"]}}
    started = ask("/aws/device_authorization", {{**mine, "startUrl": "https://daypass.test/start"}})
    poll = {{**mine, "grantType": "urn:ietf:params:oauth:grant-type:device_code",
        "deviceCode": started["deviceCode"]}}
    ask("/aws/token", poll, fine=400)
    shown = browser.post("/device", {{"user_code": started["userCode"]}}, secure=True)
    ticket = shown.content.decode().partition('name="ticket" value="')[2].partition('"')[0]
    browser.post("/device", {{"ticket": ticket, "answer": "yes"}}, secure=True)
    tokens = ask("/aws/token", poll)
    use(tokens["accessToken"])
    aws.post("/aws/logout", secure=True, HTTP_X_AMZ_SSO_BEARER_TOKEN=tokens["accessToken"])

    # for scripts
    terminal = let_in(alice, kind="script", flow="portal", line=browser_of(browser)[0])
    script = services.give_script_token(terminal, seconds=3600, now=timezone.now())
    secrets.append(script)
    for path in ("/api/process", "/api/container"):
        answer = aws.get(path + "?account=123456789012&role=Web", secure=True, HTTP_AUTHORIZATION="Bearer " + script)
        statuses.append((path, answer.status_code, 200))
        answers.append(answer.content.decode())

# What goes wrong inside, with tokens at hand
def broken(*_, **__):
    raise RuntimeError("broken on purpose")
services.refresh, whole = broken, services.refresh
ask("/aws/token", {{**mine, "grantType": "refresh_token", "refreshToken": tokens["refreshToken"]}}, fine=500)
services.refresh = whole
Path({answers!r}).write_text(json.dumps({{"secrets": secrets, "statuses": statuses, "answers": answers}}))
"""


def test_after_a_day_of_terminals_no_token_is_kept_anywhere(product, sts_stand_in):  # noqa: F811
    sts = MarkedSts()
    sts_stand_in.will(*[sts] * 2000)
    answers = product.folder / "answers"

    product.python(A_DAY.format(answers=str(answers), rounds=ROUNDS))
    kept = everything_kept(product, redis.Redis.from_url(product.environment["REDIS_URL"]))

    said = json.loads(answers.read_text())
    user_codes = [one for one in said["secrets"] if len(one) == 9]
    tokens = [one for one in said["secrets"] if len(one) > 40]
    forms = {form for one in [*tokens, *sts.secrets] for form in encodings(one)}
    forms |= {one.encode() for one in user_codes}
    forms |= {one.replace("-", "").encode() for one in user_codes}
    found = {(where, form[:12]) for where, text in kept.items() for form in forms if form in text}
    assert found == set()

    # Controls: all of it was given, used and refused as meant, and the search sees each store.
    wrong = [(path, was) for path, was, fine in said["statuses"] if was != fine]
    assert [one for one in wrong if "credentials" not in one[0] and "/api/" not in one[0]] == []
    assert len(wrong) < len(said["statuses"]) / 4  # the answers that STS spoilt
    assert len(user_codes) == ROUNDS and len(tokens) > 10 * ROUNDS
    assert sum(secret in "".join(said["answers"]) for secret in sts.secrets) > ROUNDS
    assert b"terminal.let_in" in kept["table broker_auditevent"]
    assert b"terminal.reused" in kept["table broker_auditevent"]
    assert b"broken on purpose" in kept["log"]
    assert b"aws-cli/2.38.1" in kept["table broker_terminal"]
