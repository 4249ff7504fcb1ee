"""The trust policy of a role that takes the tokens of a company's own provider. Pure.

Such a role mostly exists already, with conditions of its own that stay. This is the least that has to be in it.
"""

from __future__ import annotations

import json

from broker.arns import oidc_provider_arn

KNOWN_TO_AWS = ("accounts.google.com",)
"""Providers that trust policies name as they are, without an IAM provider in the account."""


def relayed_policy(*, account_id: str, partition: str, issuer: str, client_id: str) -> str:
    """The statement, as a policy in JSON, that takes `issuer`'s ID tokens for `client_id` and nothing else.

    It demands neither tags nor a source identity: Daypass adds nothing to another's token.
    """
    host = issuer.removeprefix("https://")
    federated = host if host in KNOWN_TO_AWS else oidc_provider_arn(partition, account_id, issuer)
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": federated},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {f"{host}:aud": client_id}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, indent=2)
