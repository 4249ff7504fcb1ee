"""An STS on loopback for tests that truly checks, and the few calls of IAM that go with it.

moto gives credentials to whoever asks. This one verifies what AWS verifies, with other people's libraries: tokens by
joserfc with the keys that the issuer publishes over HTTP, assertions by signxml with the uploaded metadata, signed
calls by botocore's own signer. It evaluates trust policies, and refuses in AWS's codes and words as far as they are
known. What AWS does not document (how long it keeps a key set, how it packs tags) is a knob or an estimate and says so.

    with StrictSts(issuer_urls={"https://daypass.test": documents.url}) as sts:
        sts.oidc_providers[oidc_provider_arn] = ["sts.amazonaws.com"]
        sts.roles[role_arn] = StrictRole(trust_policy={...})
        settings.DAYPASS_STS_ENDPOINT = sts.url

`sts.regional_url` has `{region}` in it, for code that asks more than one region.
"""

from __future__ import annotations

from tests.strict_sts.serving import Published
from tests.strict_sts.sts import StrictSts
from tests.strict_sts.values import (
    DROPPED,
    INTERNAL,
    THROTTLED,
    UNAVAILABLE,
    Caller,
    Given,
    Outage,
    Refusal,
    Seen,
    StrictRole,
)

__all__ = [
    "DROPPED",
    "INTERNAL",
    "THROTTLED",
    "UNAVAILABLE",
    "Caller",
    "Given",
    "Outage",
    "Published",
    "Refusal",
    "Seen",
    "StrictRole",
    "StrictSts",
]
