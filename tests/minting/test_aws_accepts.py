"""STS as moto plays it takes what we mint, in unsigned calls, and gives keys for the role that was named.

moto checks neither signature nor trust; the other tests of this folder do. What it shows is that the messages have the
form that STS reads.
"""

from __future__ import annotations

import pytest
from django.utils import timezone

from broker.minting.oidc import mint_web_identity_token
from broker.minting.saml import mint_saml_response
from tests.minting.claims import PROVIDER, assertion, web_identity

# Without a path: AWS drops it from the session's ARN, moto does not.
ROLE = "arn:aws:iam::111122223333:role/Developer"
SESSION = "arn:aws:sts::111122223333:assumed-role/Developer/alice-7Q2M"

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("signing_keys")]


def test_a_token_is_exchanged_for_keys_of_its_role(sts):
    token = mint_web_identity_token(web_identity(role_arn=ROLE), now=timezone.now())

    answer = sts.assume_role_with_web_identity(
        RoleArn=ROLE, RoleSessionName="alice-7Q2M", WebIdentityToken=token.reveal()
    )

    assert answer["AssumedRoleUser"]["Arn"] == SESSION
    assert answer["Credentials"]["AccessKeyId"].startswith("ASIA")


def test_an_assertion_is_exchanged_for_keys_of_its_role(sts):
    claims = assertion(role_arn=ROLE, session_seconds=1800)
    token = mint_saml_response(claims, now=timezone.now())

    answer = sts.assume_role_with_saml(
        RoleArn=ROLE, PrincipalArn=PROVIDER, SAMLAssertion=token.reveal()
    )

    assert answer["AssumedRoleUser"]["Arn"] == SESSION
    assert answer["Credentials"]["AccessKeyId"].startswith("ASIA")
    left = (answer["Credentials"]["Expiration"] - timezone.now()).total_seconds()
    assert 1700 < left <= 1800
