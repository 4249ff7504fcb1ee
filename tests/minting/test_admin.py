"""Signing keys in the admin are to look at, and never their private half."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.test import RequestFactory

from broker.minting.models import SigningKey


@pytest.mark.django_db
def test_a_signing_key_is_shown_without_its_sealed_half_and_cannot_be_changed(signing_keys):
    page = admin.site.get_model_admin(SigningKey)
    request = RequestFactory().get("/admin/")
    key = SigningKey.objects.first()

    shown = {
        str(field) for field in (*page.get_fields(request, key), *page.get_list_display(request))
    }

    assert "kid" in shown
    assert "private_sealed" not in shown
    assert not page.has_add_permission(request)
    assert not page.has_change_permission(request, key)
    assert not page.has_delete_permission(request, key)
