"""allauth's extension points: accounts stays in charge of who somebody is."""

from __future__ import annotations

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter


class AccountAdapter(DefaultAccountAdapter):
    """Local accounts: only the break-glass superuser, and nobody signs up."""


class SocialAccountAdapter(DefaultSocialAccountAdapter):
    """People vouched for by an identity provider."""


class MfaAdapter(DefaultMFAAdapter):
    """The second factor of the break-glass account."""
