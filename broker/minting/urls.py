"""Where AWS finds our documents: below the issuer's own path, as far as it is on this origin."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings
from django.urls import URLPattern, path

from broker.minting import views


def issuer_path(issuer: str, origin: str) -> str:
    """The issuer's path on this origin without its first slash ("" or "a/b/").

    An issuer elsewhere has its documents here at the root, from where they are published to where it is.
    """
    if origin and issuer.startswith(f"{origin}/"):
        return urlsplit(issuer).path.strip("/") + "/"
    return ""


def routes(issuer: str, origin: str) -> list[URLPattern]:
    below = issuer_path(issuer, origin)
    return [
        path(
            f"{below}.well-known/openid-configuration",
            views.openid_configuration,
            name="openid_configuration",
        ),
        path(f"{below}.well-known/jwks.json", views.jwks, name="jwks"),
        path("aws/saml/metadata", views.saml_metadata, name="aws_saml_metadata"),
    ]


urlpatterns = routes(settings.DAYPASS_ISSUER, settings.DAYPASS_ORIGIN)
