"""sso-oidc as botocore speaks it."""

from __future__ import annotations

import pytest
from django.utils import timezone

from broker.awssso import services
from tests.awssso.conftest import browser_of, principal

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


def test_a_device_is_let_in_by_botocore_s_own_client(daypass, ada):
    oidc = daypass.oidc()
    client = oidc.register_client(clientName="botocore-client-dev", clientType="public")
    mine = {"clientId": client["clientId"], "clientSecret": client["clientSecret"]}
    started = oidc.start_device_authorization(**mine, startUrl=f"{daypass.url}/start")
    ask = dict(**mine, grantType=DEVICE, deviceCode=started["deviceCode"])
    for _ in range(2):
        with pytest.raises(oidc.exceptions.AuthorizationPendingException):
            oidc.create_token(**ask)
    with pytest.raises(oidc.exceptions.SlowDownException):
        oidc.create_token(**ask)

    browser = daypass.sign_in(ada)
    line, relay, ends = browser_of(browser)
    asker = services.Asker("198.51.100.7")
    request = services.find_device(
        started["userCode"].lower(), principal(ada), asker, now=timezone.now()
    )
    services.approve_device(
        request.pk,
        principal(ada),
        asker,
        line=line,
        relay=relay,
        browser_ends=ends,
        now=timezone.now(),
    )
    tokens = oidc.create_token(**ask)
    assert tokens["tokenType"] == "Bearer" and tokens["expiresIn"] <= 3600
    again = oidc.create_token(
        **mine, grantType="refresh_token", refreshToken=tokens["refreshToken"]
    )
    assert again["refreshToken"] not in ("", tokens["refreshToken"])
    with pytest.raises(oidc.exceptions.InvalidGrantException) as refused:
        oidc.create_token(**ask)
    assert "used before" in refused.value.response["Error"]["Message"]
