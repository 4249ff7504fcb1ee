"""After a day of issuing, no secret is anywhere but in the one answer that it was for.

The real pages, with debug logging, against an STS whose every secret is marked; then the database file, every decoded
browser session, every key of Valkey, the queue and the logs are searched, in the clear and in usual encodings.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

from tests.aws.servers import SECRET as SAME_SECRET
from tests.aws.servers import TOKEN as SAME_TOKEN
from tests.aws.servers import (  # noqa: F401  (fixtures)
    Answer,
    Request,
    _signin_server,
    _sts_server,
    signin_stand_in,
    sts_answer,
    sts_error,
    sts_stand_in,
)
from tests.product import Product
from tests.servers import start_valkey

ROUNDS = 6

A_DAY = f"""
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from django.conf import settings
from django.contrib.sessions.models import Session as BrowserSession
from django.core.cache import cache
from django.test import override_settings
from django.utils import timezone
from accounts import services
from broker.celery import app
from broker.minting.keys import ensure_keys
from tests import factories as make
from tests.portal.conftest import sign_in

plain = {{{{"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}}}
override_settings(STORAGES={{{{**settings.STORAGES, "staticfiles": plain}}}}).enable()
ensure_keys(timezone.now())
alice = make.person("alice", groups=[make.group("developers")])
account = make.account("Payments", account_id="123456789012", region="eu-west-1")
roles = [
    make.role("Web", of=account),
    make.role("Saml", of=account, trust="saml"),
    make.role("Own", of=account, trust="assume_role"),
    make.role("Form", of=account, trust="saml", console="saml_form"),
    make.role("Relayed", of=account, trust="relayed_token", relay_provider=alice.provider),
]
make.mapping(alice.memberships.get().group, *roles)
browser = sign_in(alice, raise_request_exception=False)
noted = services.note_session(
    alice, alice.provider, browser.session.session_key, subject=alice.subject, index="",
    expires=timezone.now() + timedelta(hours=8), now=timezone.now(),
)
id_token = "eyJ" + token_hex(40) + "." + token_hex(200) + "." + token_hex(80)
services.keep_token(noted, id_token, expires=timezone.now() + timedelta(hours=1), now=timezone.now())
answers = Path({{answers!r}}).open("a")
for turn in range({ROUNDS}):
    for role in roles:
        for door in ("console", "keys"):
            answer = browser.post(f"/{{{{door}}}}/{{{{role.id}}}}/")
            print(answer.status_code, answer.get("Location", ""), answer.content.decode(), file=answers)
    browser.get("/")
    browser.get("/sessions/")
    app.send_task("broker.sessions.tasks.expire_due")
cache.set("canary control", "in the cache", 60)
for row in BrowserSession.objects.all():
    print(row.get_decoded(), file=Path({{sessions!r}}).open("a"))
print("the day is over")
"""


class MarkedSts:
    """Answers as STS does, every time with other secrets, and now and then badly, with the secrets in it."""

    def __init__(self) -> None:
        self.secrets: list[str] = []
        self.calls = 0

    def __call__(self, request: Request) -> Answer:
        self.calls += 1
        secret, token = f"Sek{secrets.token_hex(18)}+/", f"Tok{secrets.token_hex(60)}=="
        body = sts_answer(request).body.decode()
        body = body.replace(SAME_SECRET, secret).replace(SAME_TOKEN, token)
        self.secrets += [secret, token]
        for field in ("WebIdentityToken", "SAMLAssertion"):
            if field in request.form:
                self.secrets.append(request.form[field])
        match self.calls % 11:
            case 3:
                return Answer(
                    200, body[:-30].encode()
                )  # cut off: botocore quotes what it cannot read
            case 5:
                return Answer(200, body.replace("<Expiration>", "<Expiry>").encode())
            case 7:
                return sts_error("ValidationError", f"Value '{token}{token}' failed to satisfy")
            case 9:
                return Answer(502, body.encode(), "text/html")
            case _:
                return Answer(200, body.encode())


class MarkedSignin:
    def __init__(self) -> None:
        self.secrets: list[str] = []
        self.calls = 0

    def __call__(self, request: Request) -> Answer:
        self.calls += 1
        token = f"Sig{secrets.token_hex(40)}"
        self.secrets.append(token)
        body = json.dumps({"SigninToken": token}).encode()
        return Answer(503, body) if self.calls % 4 == 0 else Answer(200, body)


def encodings(secret: str) -> set[bytes]:
    """The secret as it may turn up: plain, in a URL, in JSON, and inside base64 at any alignment."""
    raw = secret.encode()
    forms = {raw, quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode()}
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + raw)
        forms.add(encoded[4:-4])
    core = max(re.findall(r"[A-Za-z0-9_-]+", secret), key=len)
    forms.add(core[len(core) // 4 : -len(core) // 4 or None].encode())
    return forms


def everything_kept(product: Product, store: redis.Redis) -> dict[str, bytes]:
    """Every byte that stays after the requests, by where it was found."""
    kept = {
        str(path.relative_to(product.folder)): path.read_bytes()
        for path in product.folder.rglob("*")
        if path.is_file() and path.name != "answers"
    }
    dump = product.rows("SELECT name FROM sqlite_master WHERE type = 'table'")
    for (table,) in dump:
        kept[f"table {table}"] = repr(product.rows(f'SELECT * FROM "{table}"')).encode()
    for key in store.keys("*"):
        readable = {
            b"string": lambda key: store.get(key),
            b"list": lambda key: repr(store.lrange(key, 0, -1)).encode(),
            b"hash": lambda key: repr(store.hgetall(key)).encode(),
            b"zset": lambda key: repr(store.zrange(key, 0, -1)).encode(),
            b"set": lambda key: repr(store.smembers(key)).encode(),
        }[store.type(key)](key)
        kept[f"valkey {key.decode()}"] = key + b"\n" + readable
    return kept


@pytest.fixture
def product(tmp_path, sts_stand_in, signin_stand_in):  # noqa: F811
    valkey = start_valkey()
    made = Product(
        tmp_path,
        redis_url=valkey.url,
        DAYPASS_STS_ENDPOINT=sts_stand_in.url,
        DAYPASS_SIGNIN_ENDPOINT=signin_stand_in.url,
        DAYPASS_LOG_LEVEL="DEBUG",
        DAYPASS_STATIC_ROOT=str(tmp_path / "static"),
        AWS_ACCESS_KEY_ID="AKIAAMBIENT",
        AWS_SECRET_ACCESS_KEY="ambient-secret-of-the-process",
    )
    yield made
    made.stop()
    valkey.stop()


def test_after_a_day_of_issuing_no_secret_is_kept_anywhere(product, sts_stand_in, signin_stand_in):  # noqa: F811
    sts, signin = MarkedSts(), MarkedSignin()
    sts_stand_in.will(*[sts] * 2000)
    signin_stand_in.will(*[signin] * 2000)
    answers = product.folder / "answers"

    said = product.python(
        A_DAY.format(answers=str(answers), sessions=str(product.folder / "browser-sessions"))
    )
    kept = everything_kept(product, redis.Redis.from_url(product.environment["REDIS_URL"]))

    marked = [*sts.secrets, *signin.secrets, "ambient-secret-of-the-process"]
    found = {
        (where, secret[:12])
        for secret in marked
        for form in encodings(secret)
        for where, text in kept.items()
        if form in text
    }
    assert found == set()

    # Controls: it did issue, the relayed token went to AWS, the people got theirs, and the search sees each store.
    assert any(re.fullmatch(r"eyJ[0-9a-f]+(\.[0-9a-f]+){2}", secret) for secret in sts.secrets)
    assert "the day is over" in said
    given = answers.read_text()
    assert sum(secret in given for secret in sts.secrets) > ROUNDS
    assert sum(secret in given for secret in signin.secrets) > ROUNDS
    states = dict(product.rows("SELECT state, count(*) FROM broker_session GROUP BY state"))
    assert states["active"] > 3 * ROUNDS and states["failed"] >= 1
    assert b"session.issued" in kept["table broker_auditevent"]
    assert any(
        b"in the cache" in text for where, text in kept.items() if where.startswith("valkey")
    )
    assert any(b"expire_due" in text for where, text in kept.items() if where.startswith("valkey"))
    assert b"session failed" in kept["log"]
    assert b"alice" in kept["browser-sessions"] or b"provider_name" in kept["browser-sessions"]


def test_the_search_finds_a_secret_in_any_encoding():
    """A control of the search itself."""
    secret = "Sek" + "0123456789abcdef" * 2 + "+/"

    for kept in (
        f"x{secret}y",
        quote(f"a={secret}", safe=""),
        json.dumps({"it": secret}),
        *(base64.b64encode(b"p" * n + secret.encode() + b"tail").decode() for n in range(3)),
    ):
        assert any(form in kept.encode() for form in encodings(secret))


def test_nothing_of_the_product_may_log_at_a_level_that_prints_requests(settings):
    loggers = settings.LOGGING["loggers"]

    for name in ("boto3", "botocore", "urllib3", "requests"):
        assert loggers[name]["level"] == "WARNING"
    assert Path(settings.BASE_DIR).is_dir()
