"""Addresses of sign-in. allauth's own are mounted one by one: what is not here cannot be reached."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from accounts import local, views

urlpatterns: list[URLPattern | URLResolver] = [
    path("sign-in/", views.sign_in, name="sign_in"),
    *local.urlpatterns,
    path("sign-in/test/<uuid:test_id>/", views.provider_test_result, name="provider_test_result"),
    path("sign-in/<slug:slug>/", views.sign_in_start, name="sign_in_start"),
    path("sign-in/<slug:slug>/test/", views.provider_test_start, name="provider_test_start"),
    path("sign-out/", views.sign_out, name="sign_out"),
    path("signed-out/", views.signed_out, name="signed_out"),
    path("saml/<slug:slug>/metadata/", views.saml_metadata, name="saml_metadata"),
    path("saml/<slug:slug>/acs/", views.saml_acs, name="saml_acs"),
    path("saml/<slug:slug>/acs/finish/", views.saml_acs_finish, name="saml_acs_finish"),
    path("saml/<slug:slug>/acs/confirm/", views.saml_confirm, name="saml_confirm"),
    path("saml/<slug:slug>/sls/", views.saml_sls, name="saml_sls"),
    path("saml/<slug:slug>/aws/", views.relay_aws, name="relay_aws"),
    path("saml/<slug:slug>/aws/finish/", views.relay_aws_finish, name="relay_aws_finish"),
    path("relay/<slug:slug>/", views.relay_start, name="relay_start"),
    path("oidc/<slug:slug>/callback/", views.oidc_callback, name="oidc_callback"),
    path("oidc/<slug:slug>/logout/", views.oidc_logout, name="oidc_logout"),
]
