"""The AWS sign-in service: from temporary credentials to a link that opens the console, signed in.

Specification: "Enable custom identity broker access to the AWS console" in the IAM user guide. The token is asked for
by POST, so that no credential stands in a URL; the link itself is a bearer secret for fifteen minutes and is never
logged or kept.
"""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
from typing import Any
from urllib.parse import urlencode

from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies
from django.conf import settings
from django.views.decorators.debug import sensitive_variables

from broker.arns import Partition
from broker.aws.credentials import Masked, RevealedCredentials
from broker.aws.errors import Asked, SigninRefused, UnusableAnswer, explain, from_botocore
from broker.errors import AwsError

CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 8.0
TRIES = 3
PATIENCE = 9.0
_CONNECTIONS = 64
_LARGEST_ANSWER = 64 * 1024


class SigninToken(Masked):
    """What the sign-in service answered, and the origin that will honour it. `login_url` reads it."""

    __slots__ = ("_token", "origin")

    def __init__(self, token: str, origin: str) -> None:
        self._token = token
        self.origin = origin


def console_seconds(seconds: int, *, role_max: int, chained: bool) -> int | None:
    """The SessionDuration to send, None to send none.

    None for chained credentials (AWS refuses the parameter) and wherever the value would have to be changed to be
    taken: AWS wants less than the role's maximum, and multiples of 900 only are taken reliably. Without the parameter
    the console lasts as long as the credentials, which is what was asked for anyway, never longer.
    """
    if chained or seconds % 900 or not 900 <= seconds < role_max:
        return None
    return seconds


@sensitive_variables()
def signin_token(
    revealed: RevealedCredentials,
    *,
    partition: Partition,
    region: str,
    role_arn: str,
    seconds: int | None,
) -> SigninToken:
    """getSigninToken, by POST. `seconds`: what `console_seconds` said.

    Asks the regional host and, when that does not answer, the partition's own. A 400 is tried once more without
    SessionDuration, because AWS refuses some values now and then. Raises AwsError, AwsUnavailable.
    """
    session = json.dumps(
        {
            "sessionId": revealed.access_key_id,
            "sessionKey": revealed.secret_access_key,
            "sessionToken": revealed.session_token,
        }
    )
    origins = _origins(partition, region)
    asked = Asked(action="getSigninToken", role_arn=role_arn, region=region, seconds=seconds or 0)
    began = time.monotonic()
    for attempt in range(1, TRIES + 1):
        fields = {"Action": "getSigninToken", "Session": session}
        if seconds is not None:
            fields["SessionDuration"] = str(seconds)
        refused = False
        try:
            return SigninToken(_post(f"{origins[0]}/federation", fields), origins[0])
        except Exception as error:
            if not from_botocore(error):
                raise
            explained = explain(error, asked)
            refused = isinstance(error, SigninRefused) and error.status == 400
        problem: AwsError = explained.problem
        without_duration = refused and seconds is not None
        if attempt == TRIES or time.monotonic() - began > PATIENCE:
            raise problem
        if not explained.again and not without_duration:
            raise problem
        if without_duration:
            seconds = None
            continue
        if explained.elsewhere and len(origins) > 1:
            origins.pop(0)
        time.sleep(random.uniform(0.1, 0.4))  # noqa: S311
    raise AssertionError("every try returns or raises")


@sensitive_variables()
def login_url(token: SigninToken, *, destination: str) -> str:
    """The link that signs the browser in. Good for anybody for about 15 minutes: for one redirect, never kept."""
    query = urlencode(
        {
            "Action": "login",
            "Issuer": settings.DAYPASS_ORIGIN,
            "Destination": destination,
            "SigninToken": token._token,
        }
    )
    return f"{token.origin}/federation?{query}"


def saml_action(partition: Partition, region: str) -> str:
    """Where the browser posts a SAML response."""
    return (
        settings.DAYPASS_SIGNIN_ENDPOINT.rstrip("/") + "/saml"
        if (settings.DAYPASS_SIGNIN_ENDPOINT)
        else partition.saml_recipient(region)
    )


def _origins(partition: Partition, region: str) -> list[str]:
    if settings.DAYPASS_SIGNIN_ENDPOINT:
        return [settings.DAYPASS_SIGNIN_ENDPOINT.rstrip("/")]
    return list(dict.fromkeys([partition.signin_origin(region), partition.signin_origin()]))


@sensitive_variables()
def _post(url: str, fields: dict[str, str]) -> str:
    """The SigninToken. Raises botocore's connection errors, SigninRefused, UnusableAnswer."""
    request = AWSRequest(
        method="POST",
        url=url,
        # As bytes botocore sends head and body in one piece; as text the body would wait for a delayed ACK (40 ms).
        data=urlencode(fields).encode(),
        headers={
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
            "User-Agent": "Daypass",
        },
    ).prepare()
    answer = _http(url).send(request)
    if answer.status_code != 200:
        raise SigninRefused(answer.status_code)
    body = answer.content
    if len(body) > _LARGEST_ANSWER:
        raise UnusableAnswer
    try:
        token = json.loads(body)["SigninToken"]
    except (ValueError, KeyError, TypeError):
        raise UnusableAnswer from None
    if not isinstance(token, str) or not token:
        raise UnusableAnswer
    return token


_sessions: dict[tuple[int, str], Any] = {}
_building = threading.Lock()


def _http(url: str) -> Any:
    """One pooled HTTP client for each process and origin; proxies and CA bundle as the STS clients have them."""
    key = (os.getpid(), url)
    session = _sessions.get(key)
    if session is None:
        with _building:
            session = _sessions.get(key)
            if session is None:
                bundle = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
                session = _sessions[key] = URLLib3Session(
                    verify=bundle or True,  # type: ignore[arg-type]
                    proxies=get_environ_proxies(url),
                    timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),  # type: ignore[arg-type]
                    max_pool_connections=_CONNECTIONS,
                    socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],  # type: ignore[list-item]
                )
    return session
