"""Addresses of the demo company's identity providers."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path

from broker.demo.idp import oidc, saml, views

urlpatterns: list[URLPattern | URLResolver] = [
    path("", views.home, name="home"),
    path("sign-in/", views.sign_in, name="account_login"),
    path("sign-in/again/", views.sign_in, name="account_reauthenticate"),
    path("sign-out/", views.sign_out, name="account_logout"),
    path("saml/metadata", saml.metadata, name="saml_metadata"),
    path("saml/sso", saml.single_sign_on, name="saml_sso"),
    path("saml/slo", saml.single_logout, name="saml_slo"),
    # Before allauth's own: both add how and when the person proved who they are.
    path("identity/o/authorize", oidc.authorize),
    path("identity/o/api/token", oidc.token),
    path("", include("allauth.idp.urls")),
]
