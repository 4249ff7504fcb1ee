"""SAML messages by themselves: what is turned away before any signature is looked at, and logout signatures."""

from __future__ import annotations

import base64
from copy import deepcopy
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from accounts import saml
from accounts.confined import gate
from accounts.confined.text import inflate, parse
from broker.errors import SignInRefused
from tests.accounts.idp_saml import DS, SAML, SAMLP, Request
from tests.accounts.signing import sign

SP = saml.ServiceProvider(slug="acme", origin="https://daypass.test")
EC14N = "http://www.w3.org/2001/10/xml-exc-c14n#"


@pytest.fixture(scope="session")
def provider(idp):
    return saml.Provider(idp.entity_id, idp.sso_url, idp.slo_url, (idp.certificate,))


@pytest.fixture(scope="session")
def good(idp):
    request = Request("_r", SP.entity_id, SP.acs, None, False, b"", "")
    signed = idp.sign(idp.build(request, attributes={"groups": ["a"]}))
    return etree.fromstring(signed)


def reason(call) -> str:
    with pytest.raises(SignInRefused) as refusal:
        call()
    return refusal.value.cause


def first(root, name, namespace=DS):
    return next(root.iter(f"{{{namespace}}}{name}"))


def test_a_good_response_passes_the_gate(good, provider):
    gate.check_response(deepcopy(good), provider)


def _second_assertion_inside(root):
    first(root, "Subject", SAML).append(deepcopy(first(root, "Assertion", SAML)))


def _no_assertion(root):
    root.remove(first(root, "Assertion", SAML))


def _encrypted(root):
    etree.SubElement(root, f"{{{SAML}}}EncryptedAssertion")


def _same_id(root):
    for signature in root.iter(f"{{{DS}}}Signature"):
        signature.set("Id", "_same")


def _foreign_id(root):
    first(root, "Subject", SAML).set("{urn:x}id", "x")


def _lower_id(root):
    first(root, "Subject", SAML).set("Id", "x")


def _extensions(root):
    etree.SubElement(root, f"{{{SAMLP}}}Extensions")


def _second_signature(root):
    root.append(deepcopy(first(root, "Signature")))


def _signature_elsewhere(root):
    first(root, "Subject", SAML).append(deepcopy(first(root, "Signature")))


def _loose_parts(root):
    etree.SubElement(root, f"{{{DS}}}KeyInfo")


def _manifest(root):
    etree.SubElement(first(root, "Signature"), f"{{{DS}}}Object")


def _retrieval(root):
    etree.SubElement(first(root, "KeyInfo"), f"{{{DS}}}RetrievalMethod", URI="file:///etc/passwd")


def _cipher(root):
    etree.SubElement(
        first(root, "KeyInfo"),
        "{http://www.w3.org/2001/04/xmlenc#}CipherReference",
        URI="file:///x",
    )


def _whole_document(root):
    first(root, "Reference").set("URI", "")


def _elsewhere(root):
    first(root, "Reference").set("URI", "https://evil.example/")


def _no_transforms(root):
    first(root, "Reference").remove(first(root, "Transforms"))


def _xpath(root):
    first(root, "Transform").set("Algorithm", "http://www.w3.org/TR/1999/REC-xpath-19991116")


def _xslt(root):
    etree.SubElement(
        first(root, "Transforms"),
        f"{{{DS}}}Transform",
        Algorithm="http://www.w3.org/TR/1999/REC-xslt-19991116",
    )


def _with_comments(root):
    list(root.iter(f"{{{DS}}}Transform"))[1].set("Algorithm", EC14N + "WithComments")


def _inclusive(root):
    first(root, "CanonicalizationMethod").set(
        "Algorithm", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
    )


def _hmac(root):
    first(root, "SignatureMethod").set("Algorithm", DS + "hmac-sha1")


def _md5(root):
    first(root, "DigestMethod").set("Algorithm", "http://www.w3.org/2001/04/xmldsig-more#md5")


def _old_version(root):
    root.set("Version", "1.1")


@pytest.mark.parametrize(
    ("bend", "told"),
    [
        (_second_assertion_inside, "2 assertions"),
        (_no_assertion, "0 assertions"),
        (_encrypted, "encrypted"),
        (_same_id, "same id"),
        (_foreign_id, "the attribute id, which has no place"),
        (_lower_id, "the attribute Id, which has no place"),
        (_extensions, "extensions"),
        (_second_signature, "where none belongs"),
        (_signature_elsewhere, "does not cover exactly"),
        (_loose_parts, "KeyInfo in Response stands where none belongs"),
        (_manifest, "Object in Signature stands where none belongs"),
        (_retrieval, "RetrievalMethod in KeyInfo stands where none belongs"),
        (_cipher, "CipherReference in KeyInfo stands where none belongs"),
        (_whole_document, "does not cover exactly"),
        (_elsewhere, "does not cover exactly"),
        (_no_transforms, "has no Transforms"),
        (_xpath, "Algorithm of Transform is not one"),
        (_xslt, "Transform in Transforms stands where none belongs"),
        (_with_comments, "Algorithm of Transform is not one"),
        (_inclusive, "Algorithm of CanonicalizationMethod is not one"),
        (_hmac, "SignatureMethod is 'hmac-sha1'"),
        (_md5, "DigestMethod is 'md5'"),
        (_old_version, "not a SAML 2.0 response"),
    ],
)
def test_another_shape_is_turned_away_before_any_cryptography(good, provider, bend, told):
    root = deepcopy(good)
    bend(root)

    assert told in reason(lambda: gate.check_response(root, provider))


@pytest.mark.parametrize(
    ("xml", "told"),
    [
        (b"\xff", "UTF-8"),
        ("<a>ü</a>".encode("latin-1"), "UTF-8"),
        ("<a/>".encode("utf-16"), "UTF-8"),
        (
            b'<?xml version="1.0" encoding="utf-7"?><a>+ADw-</a>',
            "something else than XML 1.0 in UTF-8",
        ),
        (b'<?xml version="1.1"?><a/>', "something else than XML 1.0"),
        (b'<?xml version="1.0"?><?xml version="1.0"?><a/>', "processing instruction"),
        (b"\xef\xbb\xbf<a/>", "U+FEFF"),
        ("<a>x\ufeffy</a>".encode(), "U+FEFF"),
        ("<a>x\x85y</a>".encode(), "U+0085"),
        (b"<!DOCTYPE a><a/>", "DOCTYPE"),
        (b"<a><!-- x --></a>", "comment"),
        (b"<a><![CDATA[x]]></a>", "CDATA"),
        (b"<a><?x y?></a>", "processing instruction"),
        (b"<a>" + b"<b/>" * 25000 + b"</a>", "too many elements"),
        (b"<a>" * 60 + b"</a>" * 60, "nested too deeply"),
        (b"<a>&x;</a>", "not XML"),
        (b"<a", "not XML"),
        (b"<a/><b/>", "not XML"),
        (b"<a>\x00</a>", "U+0000"),
        (b"", "not XML"),
        (b"<a " + b" ".join(b'a%d=""' % n for n in range(20)) + b"/>", "too many attributes"),
        (b"<a>" + b'<b c="" d="" e=""/>' * 4_500 + b"</a>", "too many attributes"),
        (b"<a b='" + b"x" * 5_000 + b"'/>", "too long"),
        (b"<a>" + b'<b xmlns="u:1" xmlns:c="u:2"/>' * 2_100 + b"</a>", "too many namespaces"),
        (b"<a>" + b"x" * 300_000 + b"</a>", "too long"),
    ],
)
def test_text_that_could_be_read_in_two_ways_or_is_too_large_is_turned_away(xml, told):
    assert told in reason(lambda: parse(xml))


@pytest.mark.parametrize(
    "declaration",
    [
        "",
        '<?xml version="1.0"?>',
        "<?xml version='1.0' encoding='utf-8'?>",
        '<?xml version="1.0" encoding="UTF-8" standalone="no"?>\n',
    ],
)
def test_one_plain_declaration_may_stand_in_front(declaration):
    assert parse(f"{declaration}<a>ü</a>".encode()).text == "ü"


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_quietly(raw):
    with pytest.raises(SignInRefused):
        saml.in_response_to(base64.b64encode(raw).decode())


@given(st.text(max_size=200))
def test_any_text_is_refused_quietly(text):
    with pytest.raises(SignInRefused):
        saml.in_response_to(text)


def test_a_provider_without_certificates_lets_nobody_in(good, provider):
    bare = saml.Provider(provider.entity_id, provider.sso_url, provider.slo_url, ())

    told = reason(
        lambda: saml.verify_response(
            base64.b64encode(etree.tostring(good)).decode(),
            sp=SP,
            provider=bare,
            expected_request="_r",
            now=datetime.now(UTC),
        )
    )

    assert "No certificate" in told


# --- Request ids


def test_a_request_id_is_recognised_for_ten_minutes_by_the_provider_it_was_for():
    made = saml.request_id("acme", purpose="sign-in", now=1_800_000_000)

    def ours(slug="acme", purpose="sign-in", after=0):
        return saml.is_our_request_id(made, slug, purpose=purpose, now=1_800_000_000 + after)

    assert ours()
    assert ours(after=599)
    assert not ours(after=601)
    assert not ours(after=-60)
    assert not ours(slug="other")
    assert not ours(purpose="sign-out")


@pytest.mark.parametrize(
    "change", [lambda i: i[:-1] + "0", lambda i: "_" + i, lambda i: "", str.upper]
)
def test_an_altered_request_id_is_not_ours(change):
    made = "_6b49d200." + "a" * 32 + "." + "b" * 31 + "1"
    real = saml.request_id("acme", purpose="sign-in")

    assert not saml.is_our_request_id(made, "acme", purpose="sign-in")
    changed = change(real)
    assert changed == real or not saml.is_our_request_id(changed, "acme", purpose="sign-in")


def test_request_ids_are_xml_names_and_never_the_same():
    made = {saml.request_id("acme", purpose="sign-in") for _ in range(200)}

    assert len(made) == 200
    for one in made:
        etree.fromstring(f'<a xml:id="{one}"/>')


# --- Logout signatures


@pytest.fixture(scope="module")
def curve():
    """A provider with an elliptic-curve key."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    name = x509.Name([])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now.replace(year=now.year + 1))
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    return key, saml.Provider("https://curve", "https://curve/sso", "https://curve/slo", (pem,))


@pytest.mark.parametrize("raw", [True, False], ids=["as XML signatures", "as OpenSSL"])
def test_a_logout_signature_by_an_elliptic_curve_key_fits(curve, raw):
    key, provider = curve
    algorithm = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"
    query = f"SAMLRequest=abc&SigAlg={quote(algorithm, safe='')}"
    signature = key.sign(query.encode(), ec.ECDSA(hashes.SHA256()))
    if raw:
        signature = b"".join(n.to_bytes(32) for n in decode_dss_signature(signature))
    encoded = quote(base64.b64encode(signature).decode(), safe="")

    saml.check_redirect_signature(f"{query}&Signature={encoded}", "SAMLRequest", provider)

    told = reason(
        lambda: saml.check_redirect_signature(
            f"{query.replace('abc', 'abd')}&Signature={encoded}", "SAMLRequest", provider
        )
    )
    assert "does not fit" in told


def test_a_logout_signature_of_another_kind_of_key_does_not_fit(curve, idp, provider):
    url = idp.redirect("https://x/", "SAMLRequest", b"<a/>").partition("?")[2]

    saml.check_redirect_signature(url, "SAMLRequest", provider)
    assert "does not fit" in reason(
        lambda: saml.check_redirect_signature(url, "SAMLRequest", curve[1])
    )


@pytest.mark.parametrize("junk", ["", "***", "AAAA", "A" * 40_000])
def test_a_logout_message_that_is_not_deflated_is_refused(junk):
    with pytest.raises(SignInRefused):
        parse(inflate(junk))


def _message(idp, provider, change):
    root = etree.fromstring(idp.logout_request(SP.sls, name_id="u-1"))
    change(root)
    url = idp.redirect(SP.sls, "SAMLRequest", etree.tostring(root))
    raw = url.partition("?")[2]
    from urllib.parse import parse_qs

    return saml.verify_logout_request(
        raw, parse_qs(raw)["SAMLRequest"][0], sp=SP, provider=provider, now=datetime.now(UTC)
    )


def test_a_good_logout_request_names_whom_it_is_about(idp, provider):
    asked = _message(idp, provider, lambda root: None)

    assert (asked.name_id, asked.session_indexes) == ("u-1", ("s-1",))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: r.set("Destination", "https://evil.example/"), "another address"),
        (lambda r: r.attrib.pop("Destination"), "another address"),
        (lambda r: r.set("Version", "1.1"), "not a SAML LogoutRequest"),
        (lambda r: r.set("NotOnOrAfter", "2020-01-01T00:00:00Z"), "expired"),
        (lambda r: r.set("IssueInstant", "2020-01-01T00:00:00Z"), "too old"),
        (lambda r: r.attrib.pop("IssueInstant"), "no IssueInstant"),
        (lambda r: r.remove(r.find(f"{{{SAML}}}NameID")), "no NameID"),
        (lambda r: r.remove(r.find(f"{{{SAML}}}Issuer")), "no Issuer"),
        (lambda r: setattr(r.find(f"{{{SAML}}}Issuer"), "text", "x"), "another issuer"),
        (lambda r: r.attrib.pop("ID"), "no ID"),
    ],
)
def test_a_logout_request_that_is_not_for_us_now_is_refused(idp, provider, change, told):
    assert told in reason(lambda: _message(idp, provider, change))


def test_a_logout_response_to_nothing_of_ours_is_refused(idp, provider):
    from urllib.parse import parse_qs

    raw = idp.redirect(
        SP.sls, "SAMLResponse", idp.logout_response(SP.sls, in_response_to="_x")
    ).partition("?")[2]

    told = reason(
        lambda: saml.verify_logout_response(
            raw,
            parse_qs(raw)["SAMLResponse"][0],
            sp=SP,
            provider=provider,
            now=datetime.now(UTC),
        )
    )

    assert "no request of ours" in told


# --- Posted logout messages


def _posted(idp, change=lambda root: None, *, key=None) -> str:
    root = etree.fromstring(idp.logout_request(SP.sls, name_id="u-1"))
    change(root)
    document = etree.tostring(root)
    if key:
        document = sign(document, root.get("ID"), key=key)
    return base64.b64encode(document).decode()


def test_a_posted_logout_request_is_signed_inside(idp, provider):
    asked = saml.verify_logout_request(
        None, _posted(idp, key=idp.key), sp=SP, provider=provider, now=datetime.now(UTC)
    )

    assert asked.name_id == "u-1"


def test_a_posted_logout_request_without_the_providers_signature_is_refused(
    idp, other_idp, provider
):
    def verify(message):
        return reason(
            lambda: saml.verify_logout_request(
                None, message, sp=SP, provider=provider, now=datetime.now(UTC)
            )
        )

    assert "not signed" in verify(_posted(idp))
    assert "fits no certificate" in verify(_posted(idp, key=other_idp.key))


def test_a_logout_message_by_redirect_is_signed_outside_only(idp, provider):
    from urllib.parse import parse_qs

    document = base64.b64decode(_posted(idp, key=idp.key))
    raw = idp.redirect(SP.sls, "SAMLRequest", document).partition("?")[2]

    told = reason(
        lambda: saml.verify_logout_request(
            raw, parse_qs(raw)["SAMLRequest"][0], sp=SP, provider=provider, now=datetime.now(UTC)
        )
    )

    assert "inside as well as outside" in told
