"""AWS on loopback for these tests, and somebody to hand over to."""

import pytest
from django.utils import timezone

from broker.minting.keys import ensure_keys
from tests import factories as make
from tests.aws.servers import (  # noqa: F401  (fixtures)
    _signin_server,
    _sts_server,
    aws,
    moto,
    signin_stand_in,
    sts_stand_in,
)

MOTO = "123456789012"
"""The one account whose unsigned calls moto remembers when it is asked who the caller is."""


@pytest.fixture
def alice():
    ensure_keys(timezone.now())
    return make.person("alice", groups=[make.group("developers")])


@pytest.fixture
def role_for(alice):
    """Makes a role of alice's; fields of the role, and `of` with fields of the account."""

    def make_one(name: str = "Developer", *, of=None, **fields):
        account = {"account_id": MOTO, "region": "eu-west-1", **(of or {})}
        role = make.role(name, of=make.account("Payments", **account), **fields)
        make.mapping(alice.memberships.get().group, role)
        return role

    return make_one
