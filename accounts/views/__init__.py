"""Signing in and out. Views parse, call one service and answer; whatever goes wrong ends on one quiet page.

The pages of this module and what they are given:

- `accounts/sign_in.html`: `providers` (slug, name, protocol), the one used last first; `to`, `fresh` for the forms;
  `note` ("idle", "absolute", "provider" or ""); `at_once` when there is one provider and nothing went wrong before.
- `accounts/going.html`: `name` and `url` of where the browser is going; it goes by itself.
- `accounts/problem.html`: `message`, `reference`, `again` (an address, or "" when trying again does not help);
  `leaving` when somebody was to be signed out, `relaying` when it was an answer for AWS.
- `accounts/confirm.html`: `provider`, `name` and `more` of who it says this is; `here`, the Person who is signed in
  already or None, and `same` when that is the same one.
- `accounts/signed_out.html`: nothing.
- `accounts/test_result.html`: `test`, a SignInTest; `attributes`, `userinfo` and `person_attributes` as pairs.
"""

from __future__ import annotations

from accounts.views.beginning import LAST_COOKIE, sign_in, sign_in_start
from accounts.views.leaving import sign_out, signed_out
from accounts.views.oidc import oidc_callback, oidc_logout
from accounts.views.relay import (
    RELAY_ANSWER_COOKIE,
    RELAY_COOKIE,
    relay_aws,
    relay_aws_finish,
    relay_start,
)
from accounts.views.saml import (
    ANSWER_COOKIE,
    ARRIVAL_COOKIE,
    saml_acs,
    saml_acs_finish,
    saml_confirm,
    saml_metadata,
    saml_sls,
)
from accounts.views.trials import provider_test_result, provider_test_start

__all__ = [
    "ANSWER_COOKIE",
    "ARRIVAL_COOKIE",
    "LAST_COOKIE",
    "RELAY_ANSWER_COOKIE",
    "RELAY_COOKIE",
    "oidc_callback",
    "oidc_logout",
    "provider_test_result",
    "provider_test_start",
    "relay_aws",
    "relay_aws_finish",
    "relay_start",
    "saml_acs",
    "saml_acs_finish",
    "saml_confirm",
    "saml_metadata",
    "saml_sls",
    "sign_in",
    "sign_in_start",
    "sign_out",
    "signed_out",
]
