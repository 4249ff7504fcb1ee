"""The three documents that make AWS trust us. Public, cacheable, without session, cookie or redirect."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.http import conditional_page, require_safe

from broker.errors import KeyUnavailable
from broker.minting import oidc, saml

_DISCOVERY_SECONDS = 3600
_KEYS_SECONDS = 300


@login_not_required
@require_safe
@conditional_page
def openid_configuration(request: HttpRequest) -> HttpResponse:
    """GET {issuer}/.well-known/openid-configuration"""
    return _public(lambda: JsonResponse(oidc.discovery_document()), seconds=_DISCOVERY_SECONDS)


@login_not_required
@require_safe
@conditional_page
def jwks(request: HttpRequest) -> HttpResponse:
    """GET {issuer}/.well-known/jwks.json: five minutes in caches, so that a revoked key is soon gone everywhere."""
    return _public(lambda: JsonResponse(oidc.key_set(now=timezone.now())), seconds=_KEYS_SECONDS)


@login_not_required
@require_safe
@conditional_page
def saml_metadata(request: HttpRequest) -> HttpResponse:
    """GET /aws/saml/metadata: the file to give to IAM when the SAML provider is created or updated."""

    def document() -> HttpResponse:
        return HttpResponse(
            saml.metadata(now=timezone.now()),
            content_type="application/samlmetadata+xml; charset=utf-8",
            headers={"Content-Disposition": 'inline; filename="daypass-saml-metadata.xml"'},
        )

    return _public(document, seconds=_KEYS_SECONDS)


def _public(document: Callable[[], HttpResponse], *, seconds: int) -> HttpResponse:
    try:
        response = document()
    except KeyUnavailable as error:
        return HttpResponse(
            f"{error.message}\n",
            status=503,
            content_type="text/plain; charset=utf-8",
            headers={"Cache-Control": "no-store", "Retry-After": "30"},
        )
    response["Cache-Control"] = f"public, max-age={seconds}"
    response["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response
