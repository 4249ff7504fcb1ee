"""Northwind staff: a SAML identity provider. pysaml2 reads, checks and writes the messages, signxml signs them.

It believes nothing that Daypass has not signed with the key in Daypass's own metadata, and signs both the assertion and
the response around it.
"""

from __future__ import annotations

import base64
import logging
import sys
import threading
import time
import warnings
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

import requests
from django.contrib.auth import logout
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.http import require_GET

from broker.demo.cast import CAST, PROVIDERS, STAFF
from broker.demo.idp.proof import proof_of, take_fresh
from broker.demo.stage import current_stage

log = logging.getLogger("daypass.demo.idp")

_RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
_SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
_DSIG = "http://www.w3.org/2000/09/xmldsig#"
PASSWORD_CONTEXT = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"  # noqa: S105
MFA_CONTEXT = "https://refeds.org/profile/mfa"

PATIENCE = 20
"""Seconds for Daypass's metadata: the first request of a busy machine's demo takes its time."""


class _Refused(Exception):
    """A message that the identity provider does not accept; the text says why."""


@require_GET
def metadata(request: HttpRequest) -> HttpResponse:
    import_pysaml2()
    from saml2 import md
    from saml2.metadata import do_idpsso_descriptor

    body = "".join(_certificate().splitlines()[1:-1])
    descriptor = md.EntityDescriptor(
        entity_id=_entity_id(), idpsso_descriptor=do_idpsso_descriptor(_configuration(""), body)
    )
    return HttpResponse(str(descriptor), content_type="application/samlmetadata+xml")


@require_GET
def single_sign_on(request: HttpRequest) -> HttpResponse:
    """A signed AuthnRequest by redirect -> sign-in -> a signed response that the browser posts to Daypass."""
    if not take_fresh(request):
        return redirect_to_login(request.get_full_path())
    proof = proof_of(request)
    member = next((p for p in CAST if p.login == request.user.get_username()), None)
    if proof is None or member is None or member.provider != STAFF:
        return HttpResponseBadRequest("Nobody is signed in here.")
    try:
        provider, server = _daypass()
        asked = server.parse_authn_request(request.GET["SAMLRequest"], **_message(request)).message
        where = server.response_args(asked)
    except Exception as problem:
        return _refuse(problem)
    from saml2.saml import NAMEID_FORMAT_PERSISTENT, NameID

    answer = server.create_authn_response(
        identity={
            "uid": [member.login],
            "displayName": [member.name],
            "mail": [member.email],
            "groups": list(member.groups),
            "department": [member.department],
            "costCentre": [member.cost_centre],
        },
        in_response_to=where["in_response_to"],
        destination=where["destination"],
        sp_entity_id=provider,
        name_id=NameID(
            format=NAMEID_FORMAT_PERSISTENT, sp_name_qualifier=provider, text=member.subject
        ),
        authn={
            "class_ref": MFA_CONTEXT if proof.mfa else PASSWORD_CONTEXT,
            "authn_instant": proof.at,
        },
        session_not_on_or_after=time.strftime(
            "%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 8 * 3600)
        ),
        sign_response=False,
        sign_assertion=False,
    )
    request.session["saml"] = {"provider": provider, "subject": member.subject}
    return render(
        request,
        "idp/post.html",
        {
            "action": where["destination"],
            "fields": {
                "SAMLResponse": base64.b64encode(_signed(str(answer))).decode(),
                "RelayState": request.GET.get("RelayState", ""),
            },
        },
    )


@require_GET
def single_logout(request: HttpRequest) -> HttpResponse:
    """A signed LogoutRequest by redirect -> the session here ends -> a signed LogoutResponse."""
    import_pysaml2()
    from saml2 import BINDING_HTTP_REDIRECT

    if "SAMLResponse" in request.GET:
        return render(request, "idp/home.html", {"person": "", "daypass": current_stage().origin})
    try:
        provider, server = _daypass()
        asked = server.parse_logout_request(request.GET["SAMLRequest"], **_message(request)).message
        destination = server.metadata.single_logout_service(
            provider, BINDING_HTTP_REDIRECT, "spsso"
        )[0]
        where = destination.get("response_location") or destination["location"]
        answer = server.create_logout_response(asked, [BINDING_HTTP_REDIRECT], sign=False)
    except Exception as problem:
        return _refuse(problem)
    answer.destination = where
    logout(request)
    return HttpResponseRedirect(
        _redirect(str(answer), where, "SAMLResponse", request.GET.get("RelayState", ""))
    )


def _refuse(problem: Exception) -> HttpResponse:
    log.warning("refused a SAML message: %s: %s", type(problem).__name__, problem)
    return HttpResponseBadRequest(
        f"{PROVIDERS[STAFF]} did not accept this request: {problem or type(problem).__name__}\n",
        content_type="text/plain; charset=utf-8",
    )


def _entity_id() -> str:
    return f"{current_stage().idp}/saml/metadata"


@lru_cache(maxsize=1)
def _certificate() -> str:
    return (current_stage().idp_folder / "certificate.pem").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _key() -> str:
    return (current_stage().idp_folder / "key.pem").read_text(encoding="utf-8")


_importing = threading.Lock()


def import_pysaml2() -> None:
    """All of it that is used, in one go and by one thread: it takes seconds on a busy machine, and modules that import
    each other may be met half done by a second thread that does so meanwhile. Called before any other import of it."""
    with _importing, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pysaml2 still looks for a cipher mode that moved
        import saml2.config
        import saml2.md
        import saml2.metadata
        import saml2.s_utils
        import saml2.saml
        import saml2.server  # noqa: F401


def _configuration(partner: str) -> Any:
    """pysaml2's configuration; partner: Daypass's metadata as text, "" for none."""
    import_pysaml2()
    from saml2 import BINDING_HTTP_REDIRECT
    from saml2.config import IdPConfig
    from saml2.saml import NAMEID_FORMAT_PERSISTENT

    stage = current_stage()
    return IdPConfig().load(
        {
            "entityid": _entity_id(),
            # pysaml2 wants to see a binary; it is never run, because pysaml2 is never asked to sign.
            "xmlsec_binary": sys.executable,
            "key_file": str(stage.idp_folder / "key.pem"),
            "cert_file": str(stage.idp_folder / "certificate.pem"),
            "metadata": {"inline": [partner]} if partner else {},
            "service": {
                "idp": {
                    "name": PROVIDERS[STAFF],
                    "want_authn_requests_signed": True,
                    "name_id_format": [NAMEID_FORMAT_PERSISTENT],
                    "endpoints": {
                        "single_sign_on_service": [
                            (f"{stage.idp}/saml/sso", BINDING_HTTP_REDIRECT)
                        ],
                        "single_logout_service": [(f"{stage.idp}/saml/slo", BINDING_HTTP_REDIRECT)],
                    },
                    "policy": {
                        "default": {
                            "lifetime": {"minutes": 5},
                            "attribute_restrictions": None,
                            "name_form": "urn:oasis:names:tc:SAML:2.0:attrname-format:unspecified",
                        }
                    },
                }
            },
        }
    )


_servers: dict[str, Any] = {}
_servers_lock = threading.Lock()


def _server(partner: str) -> Any:
    import_pysaml2()
    from saml2.server import Server

    with _servers_lock:
        if partner not in _servers:
            _servers.clear()
            _servers[partner] = Server(config=_configuration(partner))
        return _servers[partner]


def _daypass() -> tuple[str, Any]:
    """Daypass's entity id, and a pysaml2 server that knows it and believes only what it has signed.

    Daypass's metadata is read anew each time, as its key may have changed. Raises _Refused.
    """
    address = f"{current_stage().origin}/saml/{STAFF}/metadata/"
    answer = requests.get(address, timeout=PATIENCE)
    if answer.status_code != 200:
        raise _Refused(f"{address} answers {answer.status_code}")
    server = _server(answer.text)
    (provider,) = server.metadata.keys()
    return provider, server


def _message(request: HttpRequest) -> dict[str, Any]:
    """A message in the query as pysaml2 takes it, with the signature over the query."""
    return {
        "binding": "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect",
        "relay_state": request.GET.get("RelayState"),
        "sigalg": request.GET.get("SigAlg"),
        "signature": request.GET.get("Signature"),
    }


def _redirect(message: str, where: str, name: str, relay_state: str) -> str:
    """A signed message in the query of an address (HTTP-Redirect binding)."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from saml2.s_utils import deflate_and_base64_encode

    query = {name: deflate_and_base64_encode(message)}
    if relay_state:
        query["RelayState"] = relay_state
    query["SigAlg"] = _RSA_SHA256
    key = serialization.load_pem_private_key(_key().encode(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    signature = key.sign(urlencode(query).encode(), padding.PKCS1v15(), hashes.SHA256())
    query["Signature"] = base64.b64encode(signature).decode()
    return f"{where}{'&' if '?' in where else '?'}{urlencode(query)}"


def _signed(response: str) -> bytes:
    """Assertion first, then the response around it; each refers to its own id, exclusive canonicalisation."""
    from lxml import etree

    document = etree.fromstring(response.encode())
    assertion = document.find(f"{{{_SAML}}}Assertion")
    assert assertion is not None
    document.replace(assertion, _sign(assertion))
    return bytes(etree.tostring(_sign(document)))


def _sign(element: Any) -> Any:
    """A signed copy; the signature stands where the schema wants it, right after the issuer."""
    from lxml import etree
    from signxml.algorithms import CanonicalizationMethod
    from signxml.signer import XMLSigner

    place = etree.Element(f"{{{_DSIG}}}Signature", Id="placeholder", nsmap={"ds": _DSIG})
    element.find(f"{{{_SAML}}}Issuer").addnext(place)
    signer = XMLSigner(c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0)
    return signer.sign(
        element, key=_key(), cert=_certificate(), reference_uri=f"#{element.get('ID')}"
    )
