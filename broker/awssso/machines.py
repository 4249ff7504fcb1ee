"""Keys by one plain HTTP request, for programs that speak no sign-in protocol: with a script token from the portal.

/api/process answers what a `credential_process` prints, /api/container what the container credentials provider of
every SDK reads (AWS_CONTAINER_CREDENTIALS_FULL_URI). Errors are JSON with `code` and `message`, never a page.

https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html
https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.views.decorators.debug import sensitive_variables

from broker.awssso import api, services
from broker.awssso.api_views import LONGEST_TOKEN, STRANGERS, account_of
from broker.awssso.doors import Call, door, gently, in_sso_faults, in_sso_words
from broker.awssso.models import TerminalToken
from broker.awssso.services import Bearer
from broker.awssso.wire import Answer, Failure, Fault, WireError
from broker.handover.machines import MachineKeys
from broker.handover.rules import expiration

View = Callable[..., HttpResponse]


def _coded(view: View) -> View:
    """An error's body as readers of these addresses know it: `code` and `message`."""

    @wraps(view)
    def coded(request: HttpRequest, **named: Any) -> HttpResponse:
        response = view(request, **named)
        fault = response.headers.get("x-amzn-ErrorType")
        if fault:
            told = json.loads(response.content)
            response.content = json.dumps({"code": fault, "message": told["message"]}).encode()
            response["Content-Length"] = str(len(response.content))
            if response.status_code == 401:
                response["WWW-Authenticate"] = "Bearer"
        return response

    return coded


@_coded
@door("GET", words=in_sso_words, dialect=in_sso_faults)
@sensitive_variables()
def process(call: Call) -> Answer:
    """What a credential_process prints, version 1."""
    keys = _keys(call)
    return Answer(
        {
            "Version": 1,
            "AccessKeyId": keys.access_key_id,
            "SecretAccessKey": keys.secret_access_key,
            "SessionToken": keys.session_token,
            "Expiration": expiration(keys.expires_at),
            "AccountId": keys.role.account_id,
        }
    )


@_coded
@door("GET", words=in_sso_words, dialect=in_sso_faults)
@sensitive_variables()
def container(call: Call) -> Answer:
    """What the container credentials provider reads."""
    keys = _keys(call)
    return Answer(
        {
            "AccessKeyId": keys.access_key_id,
            "SecretAccessKey": keys.secret_access_key,
            "Token": keys.session_token,
            "Expiration": expiration(keys.expires_at),
            "AccountId": keys.role.account_id,
        }
    )


@sensitive_variables()
def _keys(call: Call) -> MachineKeys:
    bearer = _bearer(call)
    return api.keys(bearer, call, account_of(call, "account"), call.parameter("role"))


@sensitive_variables()
def _bearer(call: Call) -> Bearer:
    scheme, _, token = str(call.request.headers.get("Authorization", "")).partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > LONGEST_TOKEN:
        raise WireError(
            Failure(
                Fault.UNAUTHORIZED,
                "The request needs the header Authorization: Bearer, with a script token of Daypass.",
            )
        )
    try:
        return services.bearer(token, [TerminalToken.Kind.SCRIPT], call.asker, now=call.now)
    except WireError:
        gently("sso-strangers", call.request, most=STRANGERS, fault=Fault.TOO_MANY_REQUESTS)
        raise


urlpatterns: list[URLPattern] = [
    path("api/process", process, name="machine_process"),
    path("api/container", container, name="machine_container"),
]
