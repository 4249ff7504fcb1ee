"""AWS on loopback for these tests."""

from tests.aws.servers import (  # noqa: F401  (fixtures)
    _signin_server,
    _sts_server,
    aws,
    moto,
    signin_stand_in,
    sts_stand_in,
)
