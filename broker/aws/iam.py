"""IAM, as far as Daypass reads it with a borrowed role: roles with their trust, and identity providers.

Specification: IAM API reference. Needs iam:GetRole, iam:ListRoles, iam:GetOpenIDConnectProvider,
iam:ListOpenIDConnectProviders, iam:GetSAMLProvider, iam:ListSAMLProviders and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from django.conf import settings

from broker.aws.credentials import Credentials
from broker.aws.reading import ask, client

MISSING = "NoSuchEntity"


@dataclass(frozen=True, slots=True)
class IamRole:
    """A role as IAM shows it. trust_policy: JSON."""

    arn: str
    name: str
    path: str
    trust_policy: str
    max_seconds: int
    description: str = ""


@dataclass(frozen=True, slots=True)
class OidcProvider:
    """An OpenID Connect provider of the account."""

    arn: str
    client_ids: tuple[str, ...]
    thumbprints: tuple[str, ...]


class Iam:
    """IAM of one account. Every method raises AwsError and AwsUnavailable."""

    def __init__(self, credentials: Credentials, *, partition: str) -> None:
        self._client = client(
            "iam", credentials, partition=partition, endpoint=settings.DAYPASS_IAM_ENDPOINT
        )

    def role(self, name: str) -> IamRole | None:
        """By its name, which is unique in an account whatever its path; None when there is none."""
        found = ask("iam:GetRole", lambda: self._client.get_role(RoleName=name), missing=MISSING)
        return _role(found["Role"]) if found else None

    def roles(self) -> Iterator[IamRole]:
        """Every role of the account, page by page, but for those that AWS itself keeps."""
        marker: dict[str, str] = {}
        while True:
            page = ask(
                "iam:ListRoles",
                lambda: self._client.list_roles(MaxItems=200, **marker),  # noqa: B023
            )
            assert page is not None
            yield from (
                _role(row)
                for row in page["Roles"]
                if not row["Path"].startswith(("/aws-service-role/", "/aws-reserved/"))
            )
            if not page.get("IsTruncated"):
                return
            marker = {"Marker": page["Marker"]}

    def oidc_provider(self, arn: str) -> OidcProvider | None:
        found = ask(
            "iam:GetOpenIDConnectProvider",
            lambda: self._client.get_open_id_connect_provider(OpenIDConnectProviderArn=arn),
            missing=MISSING,
        )
        if found is None:
            return None
        return OidcProvider(
            arn, tuple(found.get("ClientIDList", ())), tuple(found.get("ThumbprintList", ()))
        )

    def oidc_provider_arns(self) -> tuple[str, ...]:
        found = ask("iam:ListOpenIDConnectProviders", self._client.list_open_id_connect_providers)
        return tuple(row["Arn"] for row in (found or {}).get("OpenIDConnectProviderList", ()))

    def saml_metadata(self, arn: str) -> str | None:
        """The metadata that was uploaded to a SAML provider; None when there is no such provider."""
        found = ask(
            "iam:GetSAMLProvider",
            lambda: self._client.get_saml_provider(SAMLProviderArn=arn),
            missing=MISSING,
        )
        return str(found["SAMLMetadataDocument"]) if found else None

    def saml_provider_arns(self) -> tuple[str, ...]:
        found = ask("iam:ListSAMLProviders", self._client.list_saml_providers)
        return tuple(row["Arn"] for row in (found or {}).get("SAMLProviderList", ()))


def _role(row: Mapping[str, Any]) -> IamRole:
    policy = row.get("AssumeRolePolicyDocument") or {}
    # botocore reads the document where it can; what it cannot read is handed on as it came.
    text = unquote(policy) if isinstance(policy, str) else json.dumps(policy, ensure_ascii=False)
    return IamRole(
        arn=row["Arn"],
        name=row["RoleName"],
        path=row["Path"],
        trust_policy=text,
        max_seconds=int(row.get("MaxSessionDuration") or 3600),
        description=str(row.get("Description") or ""),
    )
