"""An upgrade that changes what Daypass overrides or relies on in its libraries stops here, until somebody read it.

The fingerprints say that something changed; the tests after them try the promises that the code could not say, above
all of libraries that are compiled.
"""

from __future__ import annotations

import ast
import base64
import json
import textwrap
import uuid
from pathlib import Path

import jwt
import pytest
import xmlsec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.contrib.auth import get_user
from django.middleware.csrf import CsrfViewMiddleware
from django.test import RequestFactory
from lxml import etree

from tests.accounts.web import browser, is_signed_in, saml_sign_in
from tests.libraries import fingerprint, record, table
from tests.libraries.fingerprint import Gone, take
from tests.libraries.overrides import overridden


def test_the_libraries_are_what_they_were_when_they_were_read():
    news = record.changes()

    assert not news, news


def test_every_watched_function_has_a_reason():
    overriding = {name for names in overridden().values() for name in names}

    assert overriding == set(table.OVERRIDDEN_BY)
    assert all(why.strip() for why in record.watched().values())
    assert all(len(why) > 40 for why, _ in table.RELIED_ON)


def test_nothing_is_watched_twice():
    listed = [target for _, targets in table.RELIED_ON for target in targets.split()]

    assert len(listed) == len(set(listed))


# --- The watch itself


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A library of which a test writes one release after the other; answers the fingerprint of `door`."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def written(source: str) -> fingerprint.Print:
        name = f"library_{uuid.uuid4().hex}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        return take(f"{name}:Gate.door")

    return written


BEFORE = '''
    class Gate:
        @guarded
        def door(self, key, *, tries=3):
            """Let in."""
            return key in self.keys and tries > 0
'''


@pytest.mark.parametrize(
    "change",
    [
        ('"""Let in."""', '"""Whoever has the key."""'),
        ('"""Let in."""', "# said otherwise"),
        ("key, *, tries=3", "key: str, *, tries: int = 3"),
        ("return key in", "return  key   in"),
    ],
)
def test_comments_layout_and_annotations_are_no_change(library, change):
    assert library(BEFORE) == library(BEFORE.replace(*change))


@pytest.mark.parametrize(
    "change",
    [
        ("and", "or"),
        ("> 0", ">= 0"),
        ("tries=3", "tries=30"),
        ("@guarded", ""),
        ("key in self.keys", "True"),
        ("return", "yield"),
    ],
)
def test_what_a_function_does_and_its_guards_are_a_change(library, change):
    assert library(BEFORE) != library(BEFORE.replace(*change))


def test_a_changed_call_is_seen_in_the_signature(library):
    assert library(BEFORE).signature == "(self, key, *, tries=3)"
    assert library(BEFORE.replace("key, *", "key, who, *")).signature != "(self, key, *, tries=3)"


def test_a_renamed_function_is_gone(library):
    with pytest.raises(Gone):
        library(BEFORE.replace("def door", "def gate"))


def test_a_property_is_all_its_parts(library):
    whole = """
        class Gate:
            @property
            def door(self): return self._door
            @door.setter
            def door(self, value): self._door = value
    """

    assert library(whole) != library(whole.replace("= value", "= value + 1"))


def test_the_print_does_not_depend_on_the_version_of_python():
    """Fields that only some versions of Python write are left out, and no more than those."""
    tree = ast.parse("def door(a: int = 1) -> str: return f'{a}'").body[0]

    assert "annotation" not in fingerprint._text(tree)
    assert "type_params" not in fingerprint._text(tree)
    assert "returns" not in fingerprint._text(tree)
    assert fingerprint._text(tree).startswith("FunctionDef(name='door'")
    assert "defaults=" in fingerprint._text(tree)


def test_a_change_is_told_with_versions_reason_and_what_to_do(monkeypatch):
    was = record.recorded()
    changed = "allauth.socialaccount.internal.statekit:unstash_state"
    was["functions"][changed] = {**was["functions"][changed], "source": "another"}
    was["functions"]["allauth.account.adapter:DefaultAccountAdapter.old_hook"] = {}
    was["versions"] |= {"django-allauth": "65.0.0", "lxml": "5.0.0"}
    monkeypatch.setattr(record, "recorded", lambda: was)

    news = record.changes()

    assert "django-allauth 65.0.0 -> " in news
    assert f"{changed}\n      does something else than it did." in news
    assert "lives in the session of the browser that began it" in news
    assert "old_hook\n      is not overridden any more" in news
    assert "lxml is compiled" in news
    assert "python -m tests.libraries --record" in news


# --- lxml: what is parsed reaches nothing and stays small


def parsed(xml: str) -> etree._Element:
    """As Daypass parses."""
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, encoding="utf-8"
    )
    return etree.fromstring(xml.encode(), parser)


def test_lxml_opens_no_file_for_an_entity(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("in no tree")

    root = parsed(f'<!DOCTYPE a [<!ENTITY e SYSTEM "file://{secret}">]><a>&e;</a>')

    assert "in no tree" not in "".join(root.itertext())


def test_lxml_does_not_multiply_entities():
    bomb = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 20}">' for n in range(1, 8))

    try:
        root = parsed(f'<!DOCTYPE a [<!ENTITY e0 "lol">{bomb}]><a>&e7;</a>')
    except etree.XMLSyntaxError:
        return
    assert len("".join(root.itertext())) < 10_000


def test_lxml_refuses_huge_text_and_depth():
    for huge in ("<a>" + "x" * 10_000_001 + "</a>", "<a>" * 300 + "</a>" * 300):
        with pytest.raises(etree.XMLSyntaxError):
            parsed(huge)


def test_lxml_and_xmlsec_speak_of_the_same_libxml2():
    assert etree.LIBXML_COMPILED_VERSION[:2] == xmlsec.get_libxml_compiled_version()[:2]


# --- xmlsec: a signature is of these very bytes, by this very key


def signed(text: str = "ada") -> tuple[etree._Element, rsa.RSAPrivateKey]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    root = etree.fromstring(f'<a ID="one"><b>{text}</b></a>')
    node = xmlsec.template.create(
        root, xmlsec.constants.TransformExclC14N, xmlsec.constants.TransformRsaSha256, ns="ds"
    )
    root.append(node)
    reference = xmlsec.template.add_reference(node, xmlsec.constants.TransformSha256, uri="#one")
    xmlsec.template.add_transform(reference, xmlsec.constants.TransformEnveloped)
    xmlsec.template.add_transform(reference, xmlsec.constants.TransformExclC14N)
    xmlsec.tree.add_ids(root, ["ID"])
    context = xmlsec.SignatureContext()
    context.key = _for_xmlsec(key)
    context.sign(node)
    return root, key


def _for_xmlsec(key: rsa.RSAPrivateKey) -> xmlsec.Key:
    from cryptography.hazmat.primitives import serialization

    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return xmlsec.Key.from_memory(pem, xmlsec.constants.KeyDataFormatPem, None)


def verified(root: etree._Element, key: rsa.RSAPrivateKey) -> None:
    xmlsec.tree.add_ids(root, ["ID"])
    context = xmlsec.SignatureContext()
    context.key = _for_xmlsec(key)
    context.verify(root.find("{http://www.w3.org/2000/09/xmldsig#}Signature"))


def test_xmlsec_verifies_what_was_signed_and_raises_for_anything_else():
    root, key = signed()
    again = etree.fromstring(etree.tostring(root))
    verified(again, key)

    tampered = etree.fromstring(etree.tostring(root))
    tampered.find("b").text = "eve"
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    with pytest.raises(xmlsec.Error):
        verified(tampered, key)
    with pytest.raises(xmlsec.Error):
        verified(etree.fromstring(etree.tostring(root)), stranger)


# --- PyJWT: one key, one algorithm


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _unsigned(header: dict) -> str:
    parts = (json.dumps(part).encode() for part in (header, {"sub": "ada"}))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


def test_pyjwt_takes_no_other_algorithm_than_the_given(rsa_key):
    public = rsa_key.public_key()
    good = jwt.encode({"sub": "ada"}, rsa_key, algorithm="RS256")
    assert jwt.decode(good, key=public, algorithms=["RS256"])["sub"] == "ada"

    others = [
        _unsigned({"alg": "none"}),
        jwt.encode({"sub": "ada"}, rsa_key, algorithm="RS384"),
        jwt.encode({"sub": "ada"}, rsa_key, algorithm="PS256"),
        jwt.encode({"sub": "ada"}, "secret " * 8, algorithm="HS256"),
        jwt.encode({"sub": "ada"}, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256"),
    ]

    for token in others:
        with pytest.raises(jwt.PyJWTError):
            jwt.decode(token, key=public, algorithms=["RS256"])


def test_pyjwt_raises_for_another_key_and_for_tampering(rsa_key):
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    token = jwt.encode({"sub": "ada"}, other, algorithm="RS256")
    head, _, signature = jwt.encode({"sub": "ada"}, rsa_key, algorithm="RS256").split(".")
    payload = base64.urlsafe_b64encode(b'{"sub":"eve"}').rstrip(b"=").decode()

    for forged in (token, f"{head}.{payload}.{signature}"):
        with pytest.raises(jwt.InvalidSignatureError):
            jwt.decode(forged, key=rsa_key.public_key(), algorithms=["RS256"])


# --- cryptography: what is sealed in one place opens in no other


def test_aes_gcm_refuses_another_place_and_a_changed_byte():
    cipher = AESGCM(bytes(32))
    sealed = cipher.encrypt(bytes(12), b"secret", b"place")

    for box, place in ((sealed, b"elsewhere"), (sealed[:-1] + bytes([sealed[-1] ^ 1]), b"place")):
        with pytest.raises(InvalidTag):
            cipher.decrypt(bytes(12), box, place)


# --- Django and allauth, over our own doors


def test_a_sign_in_gives_the_session_a_new_key(saml_row, idp):
    client = browser()
    client.get("/sign-in/", secure=True)
    session = client.session
    session["planted"] = "by somebody who knows the key"
    session.save()
    before = session.session_key

    saml_sign_in(client, idp)

    assert is_signed_in(client)
    assert client.session.session_key != before
    assert not type(client.session)().exists(before)


def test_a_session_of_a_changed_password_is_nobodys(saml_row, idp):
    client = browser()
    saml_sign_in(client, idp)
    request = RequestFactory().get("/")
    request.session = client.session
    person = get_user(request)
    assert person.is_authenticated

    person.set_unusable_password()
    person.save()

    assert not get_user(request).is_authenticated


@pytest.mark.parametrize("origin", ["https://evil.example", "http://daypass.test", "null"])
def test_a_foreign_origin_is_refused_even_with_the_token(origin):
    token = "a" * 32
    request = RequestFactory().post(
        "/sign-out/",
        {"csrfmiddlewaretoken": token},
        secure=True,
        headers={"host": "daypass.test", "origin": origin},
    )
    from django.conf import settings

    request.COOKIES[settings.CSRF_COOKIE_NAME] = token
    middleware = CsrfViewMiddleware(lambda request: None)
    middleware.process_request(request)

    assert middleware.process_view(request, lambda request: None, (), {}).status_code == 403


def test_a_cache_counts_in_one_step():
    from django.core.cache import cache

    cache.delete("contract")
    assert cache.add("contract", 1, timeout=5)
    assert not cache.add("contract", 1, timeout=5)
    assert cache.incr("contract") == 2


# --- kombu: JSON and nothing else


def test_a_worker_refuses_pickled_messages():
    from kombu.exceptions import ContentDisallowed
    from kombu.serialization import dumps, enable_insecure_serializers, loads

    from broker.celery import app

    accepted = app.conf.accept_content
    assert accepted == ["json"]
    enable_insecure_serializers(["pickle"])
    content_type, encoding, body = dumps({"a": 1}, serializer="pickle")
    with pytest.raises(ContentDisallowed):
        loads(body, content_type, encoding, accept={"application/json"})


# --- gunicorn: a header with an underscore is not another's twin


def test_gunicorn_drops_headers_that_wsgi_would_confuse():
    from gunicorn.config import Config
    from gunicorn.http.message import Request
    from gunicorn.http.unreader import IterUnreader

    config = Config()
    configured: dict = {}
    exec((Path(__file__).parents[2] / "gunicorn.conf.py").read_text(), configured)
    for name in ("header_map", "forwarder_headers", "forwarded_allow_ips"):
        config.set(name, configured[name])
    raw = (
        b"GET / HTTP/1.1\r\nHost: daypass.test\r\nX_Forwarded_For: 1.2.3.4\r\n"
        b"X-Forwarded-For: 5.6.7.8\r\nx-amz-sso_bearer_token: t\r\n\r\n"
    )

    request = Request(config, IterUnreader(iter([raw])), ("203.0.113.9", 1))

    names = [name for name, _ in request.headers]
    assert names.count("X-FORWARDED-FOR") == 1
    assert "X_FORWARDED_FOR" not in names
    assert "X-AMZ-SSO_BEARER_TOKEN" in names


def test_gunicorn_refuses_ambiguous_lengths():
    from gunicorn.config import Config
    from gunicorn.http.errors import ParseException
    from gunicorn.http.message import Request
    from gunicorn.http.unreader import IterUnreader

    for lines in (
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: +5\r\n",
    ):
        raw = b"POST / HTTP/1.1\r\nHost: daypass.test\r\n" + lines + b"\r\nhello"
        with pytest.raises((ParseException, OSError)):
            Request(Config(), IterUnreader(iter([raw])), ("203.0.113.9", 1))
