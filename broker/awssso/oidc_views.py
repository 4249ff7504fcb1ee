"""AWS's service `sso-oidc` (2019-06-10): a client registers itself, and gets tokens once a person has let it in.

https://docs.aws.amazon.com/singlesignon/latest/OIDCAPIReference/Welcome.html
"""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.urls import URLPattern, path
from django.views.decorators.debug import sensitive_variables

from broker.awssso import registrations, services
from broker.awssso.doors import Call, door, gently, in_oidc_words
from broker.awssso.registrations import Registration
from broker.awssso.services import Tokens
from broker.awssso.wire import Answer, Failure, Fault, WireError

REGISTRATIONS, STARTS, TOKENS = 120, 60, 600
"""How many of each a network may ask for in a minute; a whole office may sit behind one address."""

STARTS_OF_ALL = 5000
"""Device codes that may be asked for in ten minutes, by everybody: each is a row, and one more to guess."""


@door("POST", words=in_oidc_words)
@sensitive_variables()
def register_client(call: Call) -> Answer:
    """RegisterClient. Nothing is stored."""
    gently("sso-register", call.request, most=REGISTRATIONS)
    registration, secret = registrations.register(call.body, now=call.now)
    return Answer(
        {
            "clientId": registration.id,
            "clientSecret": secret,
            "clientIdIssuedAt": int(registration.issued_at.timestamp()),
            "clientSecretExpiresAt": int(registration.expires_at.timestamp()),
        }
    )


@door("POST", words=in_oidc_words)
@sensitive_variables()
def start_device_authorization(call: Call) -> Answer:
    """StartDeviceAuthorization. `startUrl` may be any: clients send what they resolved it to."""
    gently("sso-start", call.request, most=STARTS)
    services.room_for_device(most=STARTS_OF_ALL)
    registration = _client(call)
    _may(registration, registrations.DEVICE_CODE)
    started = services.start_device(registration, call.asker, now=call.now)
    page = f"{settings.DAYPASS_ORIGIN}/device"
    return Answer(
        {
            "deviceCode": started.device_code,
            "userCode": started.user_code,
            "verificationUri": page,
            # Without the code: who was sent a link has not seen the terminal that shows it (threats.md R20).
            "verificationUriComplete": page,
            "expiresIn": started.expires_in,
            "interval": started.interval,
        }
    )


@door("POST", words=in_oidc_words)
@sensitive_variables()
def create_token(call: Call) -> Answer:
    """CreateToken, by one of three grants."""
    gently("sso-token", call.request, most=TOKENS)
    grant = call.text("grantType", most=100)
    if grant not in _GRANTS:
        raise WireError(
            Failure(
                Fault.UNSUPPORTED_GRANT_TYPE,
                f"Daypass gives tokens for the grants {', '.join(_GRANTS)}.",
            )
        )
    registration = _client(call)
    _may(registration, grant)
    tokens = _GRANTS[grant](call, registration)
    return Answer(
        {
            "accessToken": tokens.access,
            "tokenType": "Bearer",
            "expiresIn": tokens.expires_in,
            "refreshToken": tokens.refresh,
        }
    )


@sensitive_variables()
def _by_device_code(call: Call, registration: Registration) -> Tokens:
    return services.exchange_device_code(
        call.text("deviceCode"),
        client_digest=registration.digest,
        asker=call.asker,
        now=call.now,
    )


@sensitive_variables()
def _by_code(call: Call, registration: Registration) -> Tokens:
    return services.exchange_code_for_tokens(
        call.text("code"),
        client_digest=registration.digest,
        redirect_uri=call.text("redirectUri"),
        verifier=call.text("codeVerifier"),
        asker=call.asker,
        now=call.now,
    )


@sensitive_variables()
def _by_refresh_token(call: Call, registration: Registration) -> Tokens:
    return services.refresh(
        call.text("refreshToken"), client_digest=registration.digest, now=call.now
    )


_GRANTS: dict[str, Callable[[Call, Registration], Tokens]] = {
    registrations.DEVICE_CODE: _by_device_code,
    registrations.AUTHORIZATION_CODE: _by_code,
    registrations.REFRESH_TOKEN: _by_refresh_token,
}


@sensitive_variables()
def _client(call: Call) -> Registration:
    return registrations.verified(call.text("clientId"), call.text("clientSecret"), now=call.now)


def _may(registration: Registration, grant: str) -> None:
    if grant not in registration.grants:
        raise WireError(
            Failure(
                Fault.UNAUTHORIZED_CLIENT,
                f"This client did not register for the grant {grant}.",
            )
        )


urlpatterns: list[URLPattern] = [
    path("aws/client/register", register_client, name="sso_register_client"),
    path("aws/device_authorization", start_device_authorization, name="sso_start_device"),
    path("aws/token", create_token, name="sso_create_token"),
]
