"""The AWS sign-in service: from temporary credentials to a link that opens the console, signed in.

Specification: "Enable custom identity broker access to the AWS console" in the IAM user guide. The token is asked for
by POST, so that no credential stands in a URL; the link itself is a bearer secret for fifteen minutes and is never
logged or kept. A host that does not answer is left for another region's, and broker.aws.regions remembers it.
"""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
from dataclasses import dataclass, replace
from urllib.parse import urlencode, urlsplit

from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session
from botocore.utils import get_environ_proxies
from django.conf import settings
from django.views.decorators.debug import sensitive_variables

from broker.arns import Partition, endpoint_for
from broker.aws import regions
from broker.aws.bounded import Bounded
from broker.aws.credentials import Masked, RevealedCredentials
from broker.aws.errors import Asked, SigninRefused, UnusableAnswer, explain, from_botocore
from broker.errors import AwsError

CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 8.0
TRIES = 3
PATIENCE = 10.0
WHOLE = 9.0
"""Seconds of one try as a whole, as in broker.aws.sts."""
_CONNECTIONS = 64
_LARGEST_ANSWER = 64 * 1024
_LOOK_TIMEOUT = 3.0
_SEEN_WELL = 60.0
"""Seconds for which a sign-in host that answered is not looked at again before a browser is sent there."""


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
    second_region: str = "",
) -> SigninToken:
    """getSigninToken, by POST. `seconds`: what `console_seconds` said.

    Asks the region's host and, when that does not answer, the second region's ("": the partition's choice). A 400 is
    tried once more without SessionDuration, because AWS refuses some values now and then; it is never taken to
    another host, except from one that only stands in. Ends within PATIENCE and one more try (WHOLE). Raises
    AwsError, AwsUnavailable.
    """
    session = json.dumps(
        {
            "sessionId": revealed.access_key_id,
            "sessionKey": revealed.secret_access_key,
            "sessionToken": revealed.session_token,
        }
    )
    origins = _origins(partition, region, second_region or partition.second_region(region))
    own = next(iter(origins))
    line = regions.in_order("signin", list(origins))
    asked = Asked(action="getSigninToken", role_arn=role_arn, region=region, seconds=seconds or 0)
    began = time.monotonic()
    troubles: dict[str, AwsError] = {}
    refused = False  # by the host that stands in
    for attempt in range(1, TRIES + 1):
        host = line[0]
        fields = {"Action": "getSigninToken", "Session": session}
        if seconds is not None:
            fields["SessionDuration"] = str(seconds)
        status = 0
        try:
            token = _post(f"{origins[host]}/federation", fields)
            regions.answered("signin", host)
            return SigninToken(token, origins[host])
        except Exception as error:
            if not from_botocore(error):
                raise
            explained = explain(error, replace(asked, region=host))
            status = error.status if isinstance(error, SigninRefused) else 0
        if explained.silent and len(origins) > 1:
            regions.failed("signin", host, explained.problem.code)
        elif status:
            regions.answered("signin", host)
        late = attempt == TRIES or time.monotonic() - began > PATIENCE
        troubles[host] = explained.problem
        if status == 400 and seconds is not None and not late:
            seconds = None
            continue
        if host == own and not explained.again:
            raise explained.problem
        refused = refused or not explained.again
        if late or (refused and own in troubles):
            raise regions.nobody_answered(troubles, own)
        if explained.elsewhere or refused:
            line.append(line.pop(0))
        if explained.again:
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


@dataclass(frozen=True, slots=True)
class SamlDoor:
    """Where the browser posts a SAML response (action), and what the response calls that place (recipient)."""

    action: str
    recipient: str


def saml_door(partition: Partition, region: str, second_region: str = "") -> SamlDoor:
    """The region's door or, when its host does not answer, the second region's, or the partition's own.

    These are the addresses that the trust policy of every role lists. The browser cannot try another one by itself, so
    the host is looked at first, at most once a minute. When nobody answers us, the browser may still have more luck.
    """
    origins = _origins(partition, region, second_region)
    if not second_region and not settings.DAYPASS_SIGNIN_ENDPOINT:
        home = partition.signin_origin()
        origins.setdefault(urlsplit(home).netloc, home)
    doors = {
        host: SamlDoor(f"{origin}/saml", recipient)
        for (host, origin), recipient in zip(
            origins.items(),
            (partition.saml_recipient(region), partition.saml_recipient(second_region)),
            strict=False,
        )
    }
    own, *others = doors
    if others:
        for host in regions.not_avoided("signin", list(doors)):
            if _well(host, origins[host]):
                return doors[host]
    return doors[own]


def hosts(partition: Partition, region: str, second_region: str) -> list[str]:
    """Every sign-in host that is asked for an account with these regions, as broker.aws.regions knows them."""
    second = second_region or partition.second_region(region)
    home = urlsplit(partition.signin_origin()).netloc
    return list(dict.fromkeys([*_origins(partition, region, second), home]))


def _origins(partition: Partition, region: str, second_region: str) -> dict[str, str]:
    """Origins by host: the region's, and the second region's if there is one and it has another host."""
    named = [region, second_region] if second_region else [region]
    origins = [
        endpoint_for(settings.DAYPASS_SIGNIN_ENDPOINT, name or partition.home_region)
        or partition.signin_origin(name)
        for name in named
    ]
    return {urlsplit(origin).netloc + urlsplit(origin).path: origin for origin in origins}


_seen_well: dict[tuple[int, str], float] = {}


def _well(host: str, origin: str) -> bool:
    """Whether the host answers at all, as far as we can see; remembered either way."""
    key = (os.getpid(), origin)
    now = time.monotonic()
    if now - _seen_well.get(key, float("-inf")) < _SEEN_WELL:
        return True
    request = AWSRequest(
        method="GET",
        url=f"{origin}/static/saml-metadata.xml",
        headers={"User-Agent": "Daypass"},
    ).prepare()
    try:
        status = _http(f"{origin}/static", timeout=_LOOK_TIMEOUT).send(request).status_code
    except Exception as error:
        if not from_botocore(error):
            raise
        code = explain(error, Asked(action="getSigninToken", role_arn="", region=host)).problem.code
        regions.failed("signin", host, code)
        return False
    if status >= 500:
        regions.failed("signin", host, "aws_internal")
        return False
    _seen_well[key] = now
    regions.answered("signin", host)
    return True


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


_sessions: dict[tuple[int, str], Bounded] = {}
_building = threading.Lock()


def _http(url: str, *, timeout: float = 0) -> Bounded:
    """One pooled HTTP client for each process and origin; proxies and CA bundle as the STS clients have them.

    timeout: seconds of a read; READ_TIMEOUT when nothing is said.
    """
    timeout = timeout or READ_TIMEOUT
    key = (os.getpid(), url)
    session = _sessions.get(key)
    if session is None:
        with _building:
            session = _sessions.get(key)
            if session is None:
                bundle = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
                made = URLLib3Session(
                    verify=bundle or True,  # type: ignore[arg-type]
                    proxies=get_environ_proxies(url),
                    timeout=(CONNECT_TIMEOUT, timeout),  # type: ignore[arg-type]
                    max_pool_connections=_CONNECTIONS,
                    socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],  # type: ignore[list-item]
                )
                session = _sessions[key] = Bounded(
                    made, seconds=min(WHOLE, CONNECT_TIMEOUT + timeout)
                )
    return session
