"""AWS Organizations, as far as Daypass reads it with a borrowed role: the accounts that there are.

Specification: AWS Organizations API reference. Needs organizations:ListAccounts, in the management account or in one
that it delegated this to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings

from broker.aws.credentials import Credentials
from broker.aws.reading import ask, client


@dataclass(frozen=True, slots=True)
class OrganisationAccount:
    """One account. active: not suspended, closed or about to be, and not still being made."""

    account_id: str
    arn: str
    name: str
    active: bool


def accounts(credentials: Credentials, *, partition: str) -> Iterator[OrganisationAccount]:
    """Every account of the organisation, page by page. Raises AwsError, AwsUnavailable."""
    organizations = client(
        "organizations",
        credentials,
        partition=partition,
        endpoint=settings.DAYPASS_ORGANIZATIONS_ENDPOINT,
    )
    token: dict[str, str] = {}
    while True:
        page = ask(
            "organizations:ListAccounts",
            lambda: organizations.list_accounts(**token),  # noqa: B023
            besides="AWS answers this in the organisation's management account and in those that it delegated it to, "
            "and in no other: elsewhere switch “lists the organisation” off on the account's page.",
        )
        assert page is not None
        for row in page["Accounts"]:
            yield OrganisationAccount(
                account_id=row["Id"],
                arn=row["Arn"],
                name=str(row.get("Name") or row["Id"]),
                # State takes the place of Status, which AWS retired on 9 September 2026.
                active=(row.get("State") or row.get("Status") or "ACTIVE") == "ACTIVE",
            )
        if not page.get("NextToken"):
            return
        token = {"NextToken": page["NextToken"]}
