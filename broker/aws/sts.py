"""AWS STS: the four calls that turn a right into temporary credentials.

AssumeRoleWithWebIdentity and AssumeRoleWithSAML are unsigned: no AWS credential of the process is read or attached,
even if there are some. AssumeRole and GetFederationToken are signed with boto3's default chain. Specification: STS API
reference.

Clients are built once for each region and shared by all threads (building one costs 30 to 60 ms of CPU, a call 1 ms).
Retries are ours: each try may sign a fresh token, goes to a second region when the first does not answer, and ends
as a whole within WHOLE seconds (broker.aws.bounded). So all of them end within LONGEST seconds, on which
sessions.services.PENDING_LIMIT is built. broker.aws.regions remembers who did not answer. Only regional endpoints are
asked: the global one's tokens fail in regions that need an opt-in.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from botocore import UNSIGNED
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from django.conf import settings
from django.views.decorators.debug import sensitive_variables

from broker.arns import PARTITIONS, endpoint_for, federated_user_arn
from broker.aws import clock, regions
from broker.aws.bounded import bound
from broker.aws.clients import NOTHING_OF_OURS, bounds, session_with
from broker.aws.credentials import Credentials
from broker.aws.errors import Action, Asked, UnusableAnswer, explain, from_botocore
from broker.errors import AwsError

CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 8.0
TRIES = 3
PATIENCE = 10.0
"""No new try begins later than this after the first."""
WHOLE = 9.0
"""Seconds of one try as a whole, however slowly its answer comes: after the first there is time for a second region."""
LONGEST = PATIENCE + WHOLE
"""Seconds after which every call has ended, one way or the other."""
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 1.0
_CONNECTIONS = 64
"""Open connections kept for each client: more than a web process has threads."""


@dataclass(frozen=True, slots=True)
class RoleCall:
    """What all calls have in common. seconds: 900 to 43200; region "": the partition's home region.

    role_arn: for a federation token the ARN under which it is registered, which AWS does not know.
    second_region: who is asked when the first does not answer; "": the partition's own choice.
    """

    role_arn: str
    partition: str
    region: str
    session_name: str
    seconds: int
    session_policy: str = ""
    policy_arns: tuple[str, ...] = ()
    second_region: str = ""


@dataclass(frozen=True, slots=True)
class StsAnswer:
    """What STS answered. packed_policy_size: percent of AWS's limit that policies and tags took; None: not told."""

    credentials: Credentials
    assumed_role_arn: str
    packed_policy_size: int | None


def with_web_identity(
    call: RoleCall,
    token: Callable[[], str],
    *,
    issuer: str,
    tag_keys: tuple[str, ...] = (),
    source_identity: bool = True,
    relayed_for: str = "",
) -> StsAnswer:
    """AssumeRoleWithWebIdentity, unsigned. `token` signs a fresh JWT for every try.

    Tags and source identity travel in the token; here they only explain a refusal. relayed_for: the token is not ours
    but `issuer`'s own, made for this client of it; likewise. Raises AwsError, AwsUnavailable,
    ClocksApart, and whatever `token` raises.
    """
    action: Action = "RelayedToken" if relayed_for else "AssumeRoleWithWebIdentity"
    asked = _asked(call, action, issuer, tag_keys, source_identity, audience=relayed_for)
    return _obtain(
        "unsigned",
        call,
        asked,
        lambda client: _send(
            client.assume_role_with_web_identity,
            RoleSessionName=call.session_name,
            WebIdentityToken=token(),
            **_common(call),
        ),
    )


def with_saml(
    call: RoleCall,
    assertion: Callable[[], str],
    *,
    provider_arn: str,
    tag_keys: tuple[str, ...] = (),
    source_identity: bool = True,
    relayed_from: str = "",
) -> StsAnswer:
    """AssumeRoleWithSAML, unsigned. `assertion` signs a fresh SAML response (base64) for every try.

    Session name, tags and source identity travel in the assertion. relayed_from: it is not ours but this issuer's own,
    which only explains a refusal. Raises AwsError, AwsUnavailable, and whatever
    `assertion` raises.
    """
    action: Action = "RelayedAssertion" if relayed_from else "AssumeRoleWithSAML"
    asked = _asked(call, action, provider_arn, tag_keys, source_identity, audience=relayed_from)
    return _obtain(
        "unsigned",
        call,
        asked,
        lambda client: _send(
            client.assume_role_with_saml,
            PrincipalArn=provider_arn,
            SAMLAssertion=assertion(),
            **_common(call),
        ),
    )


def assume_role(
    call: RoleCall,
    *,
    source_identity: str,
    external_id: str = "",
    session_tags: Mapping[str, str] | None = None,
    transitive_tag_keys: tuple[str, ...] = (),
) -> StsAnswer:
    """AssumeRole, signed with the process's own AWS credentials. Chained from a role: at most 3600 seconds.

    Raises AwsError, AwsUnavailable.
    """
    tags = dict(session_tags or {})
    asked = _asked(call, "AssumeRole", "", tuple(tags), bool(source_identity))
    more: dict[str, Any] = {}
    if external_id:
        more["ExternalId"] = external_id
    if source_identity:
        more["SourceIdentity"] = source_identity
    if tags:
        more["Tags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
    if transitive_tag_keys:
        more["TransitiveTagKeys"] = list(transitive_tag_keys)
    return _obtain(
        "ambient",
        call,
        asked,
        lambda client: _send(
            client.assume_role, RoleSessionName=call.session_name, **more, **_common(call)
        ),
    )


def federation_token(call: RoleCall, *, session_tags: Mapping[str, str] | None = None) -> StsAnswer:
    """GetFederationToken, signed with the process's own AWS credentials, which have to be an IAM user's.

    Without a session policy it would give all that this user may do: ValueError. Raises AwsError, AwsUnavailable.
    """
    if not (call.session_policy or call.policy_arns):
        raise ValueError("a federation token is never asked for without a session policy")
    tags = dict(session_tags or {})
    asked = _asked(call, "GetFederationToken", "", tuple(tags), False)
    more = _common(call)
    del more["RoleArn"]
    if tags:
        more["Tags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
    return _obtain(
        "ambient",
        call,
        asked,
        lambda client: _send(client.get_federation_token, Name=call.session_name, **more),
    )


def _asked(
    call: RoleCall,
    action: Action,
    trusted: str,
    tag_keys: tuple[str, ...],
    source_identity: bool,
    audience: str = "",
) -> Asked:
    return Asked(
        action=action,
        role_arn=call.role_arn,
        region=_regions(call)[0],
        seconds=call.seconds,
        trusted=trusted,
        tag_keys=tag_keys,
        source_identity=source_identity,
        audience=audience,
    )


def _common(call: RoleCall) -> dict[str, Any]:
    common: dict[str, Any] = {"RoleArn": call.role_arn, "DurationSeconds": call.seconds}
    if call.session_policy:
        common["Policy"] = call.session_policy
    if call.policy_arns:
        common["PolicyArns"] = [{"arn": arn} for arn in call.policy_arns]
    return common


def _regions(call: RoleCall) -> tuple[str, ...]:
    """The region to ask, and the one to ask when it does not answer, if that is another endpoint."""
    partition = PARTITIONS[call.partition]
    first = call.region or partition.home_region
    second = call.second_region or partition.second_region(first)
    if not second or second == first or _endpoint(second) == _endpoint(first):
        return (first,)
    return (first, second)


@sensitive_variables()
def _send(operation: Callable[..., Mapping[str, Any]], **fields: Any) -> Mapping[str, Any]:
    """One request. Whatever well-formed page answers for STS (a proxy's, say), botocore fails on it with a KeyError."""
    try:
        return operation(**fields)
    except KeyError:
        pass
    raise ResponseParserError("not an answer of STS")


# --- One call, with its tries

Kind = Literal["unsigned", "ambient"]


@sensitive_variables()
def _obtain(
    kind: Kind, call: RoleCall, asked: Asked, perform: Callable[[Any], Mapping[str, Any]]
) -> StsAnswer:
    """Try, at most TRIES times and never starting later than PATIENCE; then fail with what each region said.

    A refusal ends it, when it comes from the call's own region. One that only stands in may refuse for reasons of its
    own, such as a trust policy that names a region: then the own region is asked, or its trouble is what counts.
    Every answer says what time it is at AWS; where our clock is far from it, what was obtained is dropped.
    """
    clock.check()
    places = _regions(call)
    own = places[0]
    line = regions.in_order("sts", places)
    began = time.monotonic()
    troubles: dict[str, AwsError] = {}
    refused = False  # by the region that stands in
    for attempt in range(1, TRIES + 1):
        region = line[0]
        explained, spoke = None, False
        sent = time.time()
        try:
            answer = perform(_client(kind, region))
            regions.answered("sts", region)
            clock.note(answer, sent=sent, region=region)
            clock.check()
            return _usable(answer, call)
        except Exception as error:
            if not from_botocore(error):
                raise
            spoke = isinstance(error, ClientError)
            clock.note(getattr(error, "response", None) or {}, sent=sent, region=region)
            explained = explain(error, replace(asked, region=region), now=datetime.now(UTC))
            if explained.problem.code in _STALE_CLIENT:
                _forget(kind, region)
        # Outside the handler: the exception, which may hold the request, is not kept as our context.
        if explained.silent and len(places) > 1:
            regions.failed("sts", region, explained.problem.code)
        elif spoke:
            regions.answered("sts", region)
        if region == own and not explained.again:
            raise explained.problem
        troubles[region] = explained.problem
        refused = refused or not explained.again
        late = attempt == TRIES or time.monotonic() - began > PATIENCE
        if late or (refused and own in troubles):
            raise regions.nobody_answered(troubles, own)
        if explained.again:
            time.sleep(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**attempt) * random.uniform(0.5, 1.0))  # noqa: S311
        if explained.elsewhere or refused:
            line.append(line.pop(0))
    raise AssertionError("every try returns or raises")


@sensitive_variables()
def _usable(answer: Mapping[str, Any], call: RoleCall) -> StsAnswer:
    """Read STS's answer. Raises UnusableAnswer when a value is missing, unprintable, or for another role."""
    try:
        given = answer["Credentials"]
        user = answer.get("AssumedRoleUser") or answer["FederatedUser"]
        arn = str(user["Arn"])
        key_id, secret, session_token = (
            given[name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")
        )
        expires_at: datetime = given["Expiration"]
    except (KeyError, TypeError):
        raise UnusableAnswer from None
    if not all(_is_a_word(value) for value in (key_id, secret, session_token)):
        raise UnusableAnswer
    if expires_at.tzinfo is None:
        raise UnusableAnswer
    if not _is_session_of(arn, call):
        raise UnusableAnswer
    return StsAnswer(
        credentials=Credentials(key_id, secret, session_token, expires_at.astimezone(UTC)),
        assumed_role_arn=arn,
        packed_policy_size=answer.get("PackedPolicySize"),
    )


def _is_a_word(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[\x21-\x7e]+", value) is not None


def _is_session_of(arn: str, call: RoleCall) -> bool:
    """Whether it is a session of this very role, whose path AWS drops; or this federated user, of this account."""
    account = call.role_arn.split(":")[4]
    if ":federated-user/" in call.role_arn:
        return arn == federated_user_arn(call.partition, account, call.session_name)
    name = call.role_arn.rsplit("/", 1)[-1]
    return arn.startswith(f"arn:{call.partition}:sts::{account}:assumed-role/{name}/")


# --- Clients

_STALE_CLIENT = {
    "aws_no_own_credentials",
    "aws_own_credentials_unreadable",
    "aws_own_credentials_expired",
}
"""After these the client is built anew: one that was built without credentials would never find any."""

_AWS_OWN = "aws:"
_clients: dict[tuple[int, Kind, str, str], Any] = {}
_building = threading.Lock()


def _client(kind: Kind, region: str) -> Any:
    """The shared client of this process. Sessions are not thread-safe, so a client is built under a lock; clients are.

    The process id is part of the key: a forked child must not share its parent's sockets.
    """
    key = (os.getpid(), kind, region, _endpoint(region))
    client = _clients.get(key)
    if client is None:
        with _building:
            client = _clients.get(key)
            if client is None:
                client = _clients[key] = _build(kind, region, _endpoint(region))
    return client


def _endpoint(region: str) -> str:
    """Where STS of that region is asked: what DAYPASS_STS_ENDPOINT says for it, or AWS's own."""
    return endpoint_for(settings.DAYPASS_STS_ENDPOINT, region) or f"{_AWS_OWN}{region}"


def _forget(kind: Kind, region: str) -> None:
    _clients.pop((os.getpid(), kind, region, _endpoint(region)), None)


def _build(kind: Kind, region: str, endpoint: str) -> Any:
    config = bounds(
        connect=CONNECT_TIMEOUT,
        read=READ_TIMEOUT,
        tries=1,
        region_name=region,
        max_pool_connections=_CONNECTIONS,
        tcp_keepalive=True,
        signature_version=UNSIGNED if kind == "unsigned" else None,
    )
    answers: dict[str, Any] = {"sts_regional_endpoints": (None, None, "regional", None)}
    if kind == "unsigned":
        answers |= NOTHING_OF_OURS
    url = None if endpoint.startswith(_AWS_OWN) else endpoint
    client = session_with(answers).create_client(
        "sts", region_name=region, endpoint_url=url, config=config
    )
    return bound(client, seconds=WHOLE)
