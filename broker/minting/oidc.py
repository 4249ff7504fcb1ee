"""The broker as an OpenID Connect issuer in AWS's eyes: its two documents, and tokens for one role each.

Specification: OpenID Connect Discovery 1.0 as far as IAM reads it, RFC 7517, RFC 7519, and the claims that
AssumeRoleWithWebIdentity understands (session tags, source identity, roles).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

import jwt
from django.conf import settings

from broker.arns import RoleArn
from broker.minting import keys, rules
from broker.minting.models import SigningKey
from broker.minting.tokens import MintedToken

_LONGEST_TOKEN = 20_000

TAGS_CLAIM = "https://aws.amazon.com/tags"
SOURCE_IDENTITY_CLAIM = "https://aws.amazon.com/source_identity"
ROLES_CLAIM = "https://aws.amazon.com/roles"

Bearer = Literal["person", "task"]
"""Who a token speaks for: somebody, or a task of Daypass's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebIdentityClaims:
    """Everything a token says, and nothing else can be signed.

    subject: the person's id, or what the task is for; it becomes the last part of `sub` (see `subject_claim`).
    role_arn: the one role. source_identity: 2 to 64 characters. session_tags: key -> value. transitive_tag_keys: those
    that stay with a chained session. mfa: whether the person proved themselves with a second factor (`amr`).
    """

    subject: str
    role_arn: str
    source_identity: str
    session_tags: Mapping[str, str] = field(default_factory=dict)
    transitive_tag_keys: tuple[str, ...] = ()
    mfa: bool = False
    bearer: Bearer = "person"


def subject_claim(role: RoleArn, subject: str, bearer: Bearer = "person") -> str:
    """`role/{account id}/{role name}/person/{person id}`: the role is part of who the token speaks for.

    For Daypass itself `…/task/{purpose}`: a trust policy that lets people in does not let Daypass in, nor the reverse.

    A role's trust policy pins it (`role/111122223333/Developer/*`), so that a token for another role does not open it
    even where the roles claim is not understood. Wildcards and slashes cannot occur in either name, and the longest
    names make 218 characters of the 255 that AWS takes.
    """
    return f"role/{role.account_id}/{role.name}/{bearer}/{subject}"


def mint_web_identity_token(claims: WebIdentityClaims, *, now: datetime) -> MintedToken:
    """Sign a token for AssumeRoleWithWebIdentity: one role, one audience, five minutes.

    There is no `azp`, which AWS would take in place of the audience, and no `nbf`. The token's end does not bound
    the session in AWS; the caller asks STS for a duration. Raises BadInput for claims AWS would not take,
    KeyUnavailable when it cannot be signed.
    """
    role = rules.role(claims.role_arn, separator=";")
    subject = subject_claim(role, rules.person(claims.subject), claims.bearer)
    tags = rules.tags(claims.session_tags, claims.transitive_tag_keys)
    issued_at = int(now.timestamp())
    token_id = uuid.uuid4().hex
    payload: dict[str, object] = {
        "iss": settings.DAYPASS_ISSUER,
        "sub": subject,
        "aud": settings.DAYPASS_AUDIENCE,
        "iat": issued_at,
        "exp": issued_at + rules.TOKEN_SECONDS,
        "jti": token_id,
        SOURCE_IDENTITY_CLAIM: rules.name(claims.source_identity, what="source identity"),
        ROLES_CLAIM: str(role),
    }
    if claims.mfa:
        payload["amr"] = ["mfa"]
    if tags:
        tagging: dict[str, object] = {
            # One-element arrays: AWS does not take plain strings in this form of the claim.
            "principal_tags": {key: [value] for key, value in tags.items()}
        }
        if claims.transitive_tag_keys:
            tagging["transitive_tag_keys"] = list(claims.transitive_tag_keys)
        payload[TAGS_CLAIM] = tagging
    key = keys.signing_key(SigningKey.Purpose.OIDC, now=now)
    text = jwt.encode(
        payload, key.for_tokens, algorithm=key.algorithm, headers={"kid": key.kid, "typ": "JWT"}
    )
    if len(text) > _LONGEST_TOKEN:
        raise rules.unfit(
            f"The token is {len(text)} characters long; AWS takes {_LONGEST_TOKEN}.",
            remedy="Use fewer or shorter session tags.",
        )
    return MintedToken(
        text,
        id=token_id,
        key_id=key.kid,
        expires_at=datetime.fromtimestamp(issued_at, UTC) + timedelta(seconds=rules.TOKEN_SECONDS),
    )


def discovery_document() -> dict[str, object]:
    """What IAM reads at `{issuer}/.well-known/openid-configuration`.

    There is no authorization endpoint: nobody signs in here by OpenID Connect, AWS only verifies what we sign. It names
    the algorithms of the keys in the key set (before the first one: of the one that will be made), and RS256 always,
    as OpenID Connect Discovery demands.
    """
    issuer = settings.DAYPASS_ISSUER
    published = keys.published_keys(SigningKey.Purpose.OIDC)
    used = {key.algorithm for key in published} or {keys.next_algorithm(SigningKey.Purpose.OIDC)}
    return {
        "issuer": issuer,
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [keys.RS256, *sorted(used - {keys.RS256})],
        "scopes_supported": ["openid"],
        "claims_supported": [
            "iss",
            "sub",
            "aud",
            "iat",
            "exp",
            "jti",
            "amr",
            TAGS_CLAIM,
            SOURCE_IDENTITY_CLAIM,
            ROLES_CLAIM,
        ],
    }


def key_set(*, now: datetime) -> dict[str, object]:
    """The JWKS: every key that signs, will sign, or signed something that may still be alive; none that is revoked.

    Makes the first keys when there are none, so that IAM can be pointed here before the first token is minted.
    """
    published = keys.published_keys(SigningKey.Purpose.OIDC)
    if not published:
        keys.ensure_keys(now)
        published = keys.published_keys(SigningKey.Purpose.OIDC)
    return {"keys": [key.as_jwk() for key in published]}
