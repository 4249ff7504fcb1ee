"""Every address of Daypass. Each stage lists its own."""

from __future__ import annotations

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("accounts.urls")),
    path("", include("broker.minting.urls")),
    path("", include("broker.awssso.urls")),
    path("", include("broker.portal.urls")),
    path("admin/", admin.site.urls),
]

handler400 = "broker.portal.errors.bad_request"
handler403 = "broker.portal.errors.permission_denied"
handler404 = "broker.portal.errors.not_found"
handler500 = "broker.portal.errors.server_error"
