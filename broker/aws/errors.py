"""What AWS's failures mean: for the employee, for the administrator, and whether trying again helps.

botocore's exceptions end here. The employee gets one or two plain sentences; the administrator the likely cause, what
AWS said, and the remedy. docs/aws-errors.md lists the same table for reading; a test keeps the two together.
Specification: the error sections of the STS API reference and of "Troubleshoot SAML federation" in the IAM user guide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from broker.errors import AwsError, AwsUnavailable

Action = Literal[
    "AssumeRoleWithWebIdentity",
    "AssumeRoleWithSAML",
    "AssumeRole",
    "getSigninToken",
    "RelayedToken",
    "RelayedAssertion",
    "GetFederationToken",
]
"""RelayedToken, RelayedAssertion: AssumeRoleWithWebIdentity and AssumeRoleWithSAML, with what a company's own provider
made."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of AWS, as far as it explains a refusal. Never a token, an assertion or a key.

    trusted: who the role's trust policy has to name: the issuer URL, the SAML provider's ARN, "" for AssumeRole.
    audience: for whom a relayed token was made, which is what the provider in the account has to list; who made a
    relayed assertion.
    """

    action: Action
    role_arn: str
    region: str = ""
    seconds: int = 0
    trusted: str = ""
    tag_keys: tuple[str, ...] = ()
    source_identity: bool = False
    external_id: bool = False
    session_policy: bool = False
    audience: str = ""


@dataclass(frozen=True, slots=True)
class Meaning:
    """One row of the table.

    code: Daypass's stable code. message: for the employee. cause, remedy: for the administrator; {role}, {region},
    {seconds}, {trusted}, {audience}, {actions} and {percent} are filled in. retry: whether the employee may simply try
    again. again: whether Daypass itself tries again at once. elsewhere: whether another region may answer. silent:
    whether that region itself did not answer, so that others ask it last for a while.
    """

    code: str
    message: str
    cause: str
    remedy: str
    retry: bool = False
    again: bool = False
    elsewhere: bool = False
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Explained:
    """A failure in our words, and what the caller may do about it by itself."""

    problem: AwsError
    again: bool
    elsewhere: bool
    silent: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """Which failures a meaning is for: these AWS codes, for these actions (none: all), with these words (none: any)."""

    aws_codes: frozenset[str]
    meaning: Meaning
    actions: frozenset[str] = frozenset()
    says: re.Pattern[str] | None = None


_ASK = "An administrator has to look at it; the audit log tells them what AWS said."
_SOON = "Try again in a moment."
_NOT_LET_IN = f"AWS does not let Daypass into this role. Trying again will not help. {_ASK}"
_NOT_RIGHT = (
    f"AWS did not accept how Daypass asked for this role. Trying again will not help. {_ASK}"
)


def _words(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


def _rule(codes: str, meaning: Meaning, *, actions: str = "", says: str = "") -> Rule:
    return Rule(
        frozenset(codes.split()),
        meaning,
        frozenset(actions.split()),
        _words(says) if says else None,
    )


_DENIED = "AccessDenied AccessDeniedException"
_WEB = "AssumeRoleWithWebIdentity"
_SAML = "AssumeRoleWithSAML"
_PLAIN = "AssumeRole"
_FEDERATION = "GetFederationToken"
_RELAYED = "RelayedToken"
_ASSERTED = "RelayedAssertion"

RULES: tuple[Rule, ...] = (
    # A token that the company's own provider made: what is wrong is between that provider and the account.
    _rule(
        _DENIED,
        Meaning(
            "aws_relayed_token_denied",
            _NOT_LET_IN,
            "The trust policy of {role} does not let in this person's ID token of {trusted}.",
            "Check, in this order: (1) the role exists under exactly this ARN; (2) its trust policy has a statement "
            "with Principal Federated = the OIDC provider of {trusted} in the same account; (3) that statement allows "
            "{actions}; (4) its condition on :aud, if it has one, lists {audience}, and those on :sub or :email are "
            "true of this person; (5) it demands no source identity and no tags, which Daypass cannot add to another's "
            "token; (6) no service control policy denies it.",
        ),
        actions=_RELAYED,
    ),
    _rule(
        "InvalidIdentityToken InvalidIdentityTokenException",
        Meaning(
            "aws_relayed_audience_wrong",
            _NOT_LET_IN,
            "The provider for {trusted} in the account of {role} does not list Daypass's client id.",
            "Add {audience} to the audiences (client ids) of the IAM OIDC provider: it is for whom {trusted} makes the "
            "ID tokens that Daypass gets. Where a token has an azp, AWS reads that in place of the audience.",
        ),
        actions=_RELAYED,
        says=r"audience",
    ),
    _rule(
        "InvalidIdentityToken InvalidIdentityTokenException",
        Meaning(
            "aws_relayed_keys_unreachable",
            f"AWS could not check with your company's sign-in service just now. {_SOON}",
            "AWS could not fetch the public keys of {trusted} in time.",
            "Open {trusted}/.well-known/openid-configuration and the key set it names from outside your network; look "
            "at the provider's status page.",
            retry=True,
            again=True,
        ),
        actions=_RELAYED,
        says=r"retrieve verification key",
    ),
    _rule(
        "IDPCommunicationError IDPCommunicationErrorException",
        Meaning(
            "aws_relayed_keys_unreachable",
            f"AWS could not check with your company's sign-in service just now. {_SOON}",
            "AWS could not reach {trusted}.",
            "Open {trusted}/.well-known/openid-configuration from outside your network; look at the provider's status "
            "page.",
            retry=True,
            again=True,
        ),
        actions=_RELAYED,
    ),
    _rule(
        "ExpiredToken ExpiredTokenException",
        Meaning(
            "aws_relayed_token_expired",
            "Your sign-in is too long ago for AWS. Sign in again, then it works.",
            "AWS found the ID token of {trusted} expired, although Daypass thought that it had time left.",
            "If it is often: synchronise the clock of the broker's machine (NTP) and look at the provider's.",
        ),
        actions=_RELAYED,
    ),
    _rule(
        _DENIED,
        Meaning(
            "aws_relayed_assertion_denied",
            _NOT_LET_IN,
            "The trust policy of {role} does not let in the assertion of the company's own AWS application.",
            "Check, in this order: (1) the role exists under exactly the ARN that the application's Role attribute "
            "says; (2) its trust policy has a statement with Principal Federated = {trusted}; (3) that statement "
            "allows {actions}, and sts:TagSession and sts:SetSourceIdentity where the assertion carries tags or a "
            "source identity; (4) its condition on SAML:aud lists the Recipient of the assertion; (5) no service "
            "control policy denies it.",
        ),
        actions=_ASSERTED,
    ),
    _rule(
        "ExpiredToken ExpiredTokenException",
        Meaning(
            "aws_relayed_assertion_expired",
            "What your company's sign-in service said is too old for AWS. Open the role once more.",
            "AWS takes an assertion for five minutes from its issue, and found this one of {audience} older.",
            "If it is often: synchronise the clocks of the provider and of the broker's machine (NTP).",
        ),
        actions=_ASSERTED,
    ),
    _rule(
        "InvalidIdentityToken InvalidIdentityTokenException AuthSamlInvalidSamlResponseException",
        Meaning(
            "aws_relayed_assertion_refused",
            _NOT_LET_IN,
            "AWS refused the assertion of {audience} for {role}.",
            "Compare the SAML provider {trusted} with the company's AWS application: the metadata that was uploaded "
            "there has to be its current one, the audience AWS's, and the attribute RoleSessionName 2 to 64 letters, "
            "digits and _+=,.@-",
        ),
        actions=_ASSERTED,
    ),
    _rule(
        _DENIED,
        Meaning(
            "aws_tag_session_denied",
            _NOT_LET_IN,
            "The trust policy of {role} does not allow sts:TagSession, and this mapping sends session tags.",
            "Add sts:TagSession to the actions of the trust statement for Daypass, or take the session tags off the "
            "mapping.",
        ),
        says=r"perform:? sts:TagSession",
    ),
    _rule(
        _DENIED,
        Meaning(
            "aws_source_identity_denied",
            _NOT_LET_IN,
            "The trust policy of {role} does not allow sts:SetSourceIdentity.",
            "Add sts:SetSourceIdentity to the actions of the trust statement for Daypass. It is what names the person "
            "in CloudTrail.",
        ),
        says=r"perform:? sts:SetSourceIdentity",
    ),
    _rule(
        _DENIED,
        Meaning(
            "aws_access_denied",
            _NOT_LET_IN,
            "The trust policy of {role} does not let Daypass in.",
            "Check, in this order: (1) the role exists under exactly this ARN; (2) its trust policy has a statement "
            "with Principal Federated = the OIDC provider of {trusted} in the same account; (3) that statement allows "
            "{actions}; (4) its conditions on :aud and :sub match the trust policy that Daypass shows for the role; "
            "(5) no service control policy denies it. A role or provider made in the last minute needs a moment.",
        ),
        actions=_WEB,
    ),
    _rule(
        _DENIED,
        Meaning(
            "aws_access_denied",
            _NOT_LET_IN,
            "The trust policy of {role} does not let Daypass in.",
            "Check, in this order: (1) the role exists under exactly this ARN; (2) its trust policy has a statement "
            "with Principal Federated = {trusted}; (3) that statement allows {actions}; (4) its condition on SAML:aud "
            "lists the sign-in address that Daypass uses, regional one included; (5) no service control policy denies "
            "it. A role or provider made in the last minute needs a moment.",
        ),
        actions=_SAML,
    ),
    _rule(
        _DENIED,
        Meaning(
            "aws_access_denied",
            _NOT_LET_IN,
            "The broker's own AWS role may not assume {role}.",
            "Check, in this order: (1) the role exists under exactly this ARN; (2) its trust policy names the role "
            "that Daypass runs as, and was saved again if that role was ever recreated; (3) trust policy and the "
            "broker's own policy allow {actions}; (4) sts:ExternalId in the trust policy equals the external id "
            "registered in Daypass; (5) no service control policy denies it.",
        ),
        actions=_PLAIN,
    ),
    _rule(
        _DENIED,
        Meaning(
            "aws_federation_needs_user",
            _NOT_RIGHT,
            "The broker runs with temporary credentials, such as a role's. AWS gives federation tokens only to the "
            "long-term keys of an IAM user.",
            "Let the broker run with the access key of an IAM user, or, better, make a role for {role} that trusts "
            "Daypass by web identity, and give people that.",
        ),
        actions=_FEDERATION,
        says=r"session credentials",
    ),
    _rule(
        _DENIED,
        Meaning(
            "aws_access_denied",
            _NOT_LET_IN,
            "The broker's own IAM user may not get federation tokens.",
            "Check, in this order: (1) the policy of the broker's IAM user allows {actions} on "
            "arn:*:sts::*:federated-user/*; (2) its permissions boundary allows the same; (3) no service control "
            "policy denies it.",
        ),
        actions=_FEDERATION,
    ),
    _rule(
        "InvalidIdentityToken InvalidIdentityTokenException",
        Meaning(
            "aws_cannot_fetch_keys",
            f"AWS could not check Daypass's signature just now. {_SOON}",
            "AWS could not fetch Daypass's public keys from {trusted} within about five seconds.",
            "Open {trusted}/.well-known/openid-configuration from outside your network: a firewall, a redirect, a rate "
            "limit or a slow answer in front of the key set is the usual cause. Put a cache in front of it.",
            retry=True,
            again=True,
            elsewhere=True,
        ),
        says=r"retrieve verification key",
    ),
    _rule(
        "IDPCommunicationError IDPCommunicationErrorException",
        Meaning(
            "aws_cannot_fetch_keys",
            f"AWS could not check Daypass's signature just now. {_SOON}",
            "AWS could not reach Daypass's published documents at {trusted}.",
            "Open {trusted}/.well-known/openid-configuration from outside your network and look for a firewall, a "
            "redirect or a slow answer.",
            retry=True,
            again=True,
            elsewhere=True,
        ),
    ),
    _rule(
        "InvalidIdentityToken InvalidIdentityTokenException",
        Meaning(
            "aws_provider_missing",
            _NOT_LET_IN,
            "The account of {role} has no OIDC provider for exactly {trusted}.",
            "Create the IAM OIDC provider in that account with this very URL: capital letters and a slash at the end "
            "count.",
        ),
        says=r"No OpenIDConnect provider",
    ),
    _rule(
        "InvalidIdentityToken InvalidIdentityTokenException AuthSamlManifestNotFoundException",
        Meaning(
            "aws_provider_missing",
            _NOT_LET_IN,
            "The account of {role} has no SAML provider {trusted}.",
            "Create the IAM SAML provider in that account with Daypass's metadata, or correct its name on the page of "
            "the account in Daypass.",
        ),
        says=r"provider doesn't exist|Manifest not found",
    ),
    _rule(
        "InvalidIdentityToken InvalidIdentityTokenException",
        Meaning(
            "aws_relayed_token_refused",
            _NOT_RIGHT,
            "AWS refused the ID token of {trusted} for {role}.",
            "AWS takes tokens signed with RS256 to RS512 or ES256 to ES512 by a key that has a kid, with one audience, "
            "and with whole seconds in iat and exp. Compare the IAM OIDC provider's URL with {trusted}, to the last "
            "slash.",
        ),
        actions=_RELAYED,
    ),
    _rule(
        "InvalidIdentityToken InvalidIdentityTokenException",
        Meaning(
            "aws_thumbprint_wrong",
            _NOT_LET_IN,
            "The TLS certificate in front of {trusted} leads to no authority that AWS trusts, and its "
            "thumbprint is not "
            "the one of the OIDC provider.",
            "Take a certificate of a public authority, or put the thumbprint of the present one into the provider "
            "(UpdateOpenIDConnectProviderThumbprint).",
        ),
        says=r"thumbprint",
    ),
    _rule(
        "InvalidIdentityToken InvalidIdentityTokenException",
        Meaning(
            "aws_audience_wrong",
            _NOT_LET_IN,
            "The provider in the account of {role} does not list the audience that Daypass uses.",
            "Add the value of DAYPASS_AUDIENCE to the provider's client ids, or, for SAML, upload Daypass's metadata "
            "to a provider of the account's own partition.",
        ),
        says=r"audience",
    ),
    _rule(
        "InvalidIdentityToken InvalidIdentityTokenException",
        Meaning(
            "aws_role_not_in_token",
            _NOT_RIGHT,
            "AWS says that the token does not name {role}.",
            "Compare the registered ARN, path and capital letters included, with the role's page in IAM.",
        ),
        says=r"roles claim",
    ),
    _rule(
        "InvalidIdentityToken InvalidIdentityTokenException AuthSamlInvalidSamlResponseException",
        Meaning(
            "aws_issuer_unknown",
            _NOT_LET_IN,
            "The SAML provider {trusted} holds metadata with another entity id.",
            "Upload Daypass's current metadata to the SAML provider (UpdateSAMLProvider).",
        ),
        says=r"Issuer not present",
    ),
    _rule(
        "InvalidIdentityToken InvalidIdentityTokenException",
        Meaning(
            "aws_signature_refused",
            _NOT_LET_IN,
            "AWS does not know the key that Daypass signed with, as far as the account of {role} is concerned.",
            "For SAML upload Daypass's current metadata to {trusted}; for web identity see that AWS can fetch the "
            "current key set and that no old copy is cached in front of it.",
        ),
        says=r"signature",
    ),
    _rule(
        "InvalidIdentityToken InvalidIdentityTokenException AuthSamlInvalidSamlResponseException",
        Meaning(
            "aws_token_refused",
            _NOT_RIGHT,
            "AWS refused the token or assertion that Daypass signed for {role}.",
            "Compare the provider in the account with the page of the role in Daypass: issuer, audience and metadata "
            "have to be the same.",
        ),
    ),
    _rule(
        "IDPRejectedClaim IDPRejectedClaimException",
        Meaning(
            "aws_claim_rejected",
            _NOT_RIGHT,
            "AWS was told that the identity provider rejects this claim.",
            "Look at the message of AWS and at the role's trust conditions.",
        ),
    ),
    _rule(
        "ExpiredToken ExpiredTokenException",
        Meaning(
            "aws_own_credentials_expired",
            f"The broker's own AWS access had just expired. {_SOON}",
            "The AWS credentials of the broker itself had expired.",
            "If it stays: look at the instance, task or pod role of the broker, and for stale AWS_* variables in its "
            "environment.",
            retry=True,
            again=True,
        ),
        actions=f"{_PLAIN} {_FEDERATION}",
    ),
    _rule(
        "ExpiredToken ExpiredTokenException",
        Meaning(
            "aws_clock",
            _NOT_RIGHT,
            "AWS found a token too old that was made a moment before: the broker's clock is wrong.",
            "Synchronise the clock of the broker's machine (NTP).",
        ),
    ),
    _rule(
        "RequestExpired RequestTimeTooSkewed SignatureDoesNotMatch",
        Meaning(
            "aws_clock",
            _NOT_RIGHT,
            "AWS does not accept the signature of the broker's own credentials; most often its clock is wrong.",
            "Synchronise the clock of the broker's machine (NTP), then check its credentials.",
        ),
    ),
    _rule(
        "InvalidClientTokenId UnrecognizedClientException MissingAuthenticationToken AuthFailure",
        Meaning(
            "aws_own_credentials_refused",
            _NOT_RIGHT,
            "AWS does not know the broker's own credentials in {region}.",
            "Check the role that the broker runs as: wrong partition, a region that the account has not enabled, or "
            "stale AWS_* variables.",
        ),
    ),
    _rule(
        "PackedPolicyTooLarge PackedPolicyTooLargeException",
        Meaning(
            "aws_policy_too_large",
            f"Your details and limits for this role are together too long for AWS. Trying again will not help. {_ASK}",
            "The session policy and session tags of this mapping are too large for AWS together{percent}.",
            "AWS compresses both into one small space, far below the limits of each. Use fewer or shorter tags, or "
            "managed policy ARNs in place of the inline session policy.",
        ),
    ),
    _rule(
        "MalformedPolicyDocument MalformedPolicyDocumentException",
        Meaning(
            "aws_policy_malformed",
            _NOT_RIGHT,
            "AWS does not accept the session policy of this mapping.",
            "Check the mapping's session policy with the policy validator in the IAM console.",
        ),
    ),
    _rule(
        "ValidationError ValidationException",
        Meaning(
            "aws_duration_too_long",
            _NOT_RIGHT,
            "{seconds} seconds are more than the MaxSessionDuration of {role}.",
            "Raise the role's MaxSessionDuration in IAM, or lower the role's longest session in Daypass to what IAM "
            "says.",
        ),
        says=r"MaxSessionDuration",
    ),
    _rule(
        "ValidationError ValidationException",
        Meaning(
            "aws_chained_too_long",
            _NOT_RIGHT,
            "A role that is assumed by another role lives for one hour at most; {seconds} seconds were asked for.",
            "Use web identity or SAML trust for sessions longer than an hour.",
        ),
        says=r"role chaining",
    ),
    _rule(
        "ValidationError ValidationException InvalidParameterValue InvalidParameterCombination MissingParameter",
        Meaning(
            "aws_invalid_request",
            _NOT_RIGHT,
            "AWS found a value in the request for {role} that it does not take.",
            "Look at the mapping's session policy, policy ARNs and session tags, and at the role's external id.",
        ),
    ),
    _rule(
        "RegionDisabledException RegionDisabled",
        Meaning(
            "aws_region_disabled",
            _NOT_LET_IN,
            "STS is switched off in {region} for the account of {role}: a region that the account has not opted in to, "
            "or STS deactivated there.",
            "Choose a region for the account in Daypass that is always on. Or enable {region} in the account (Account, "
            "AWS Regions); if it is enabled already, activate STS in it (IAM, Account settings, Security Token "
            "Service).",
        ),
    ),
    _rule(
        "Throttling ThrottlingException RequestLimitExceeded TooManyRequestsException RequestThrottled "
        "RequestThrottledException SlowDown BandwidthLimitExceeded PriorRequestNotComplete",
        Meaning(
            "aws_throttled",
            f"AWS is answering too many requests right now. {_SOON}",
            "AWS throttled the call.",
            "If it is often: see which programs fetch keys again and again, and ask AWS for a higher quota.",
            retry=True,
            again=True,
            elsewhere=True,
        ),
    ),
    _rule(
        "ServiceUnavailable ServiceUnavailableException InternalFailure InternalError InternalServerError "
        "RequestTimeout RequestTimeoutException HTTP5xx",
        Meaning(
            "aws_internal",
            f"AWS has a problem of its own right now. {_SOON}",
            "AWS answered with an internal error.",
            "See AWS's health page for {region}.",
            retry=True,
            again=True,
            elsewhere=True,
            silent=True,
        ),
    ),
    _rule(
        "OptInRequired SubscriptionRequiredException",
        Meaning(
            "aws_account_not_ready",
            _NOT_LET_IN,
            "The account of {role} is not fully set up at AWS, or is suspended.",
            "Finish its registration, or look at its state in AWS Organizations.",
        ),
    ),
    # What botocore raises before or without an answer.
    _rule(
        "NoCredentialsError PartialCredentialsError",
        Meaning(
            "aws_no_own_credentials",
            _NOT_RIGHT,
            "The way into {role} takes AWS credentials of the broker's own, and it runs without any.",
            "Give the broker an instance, task or pod role (for a federation token the keys of an IAM user), or set "
            "the role's trust to web identity, which needs none.",
        ),
    ),
    _rule(
        "CredentialRetrievalError TokenRetrievalError MetadataRetrievalError ProfileNotFound ConfigParseError "
        "InvalidConfigError UnauthorizedSSOTokenError SSOTokenLoadError RefreshWithMFAUnsupportedError",
        Meaning(
            "aws_own_credentials_unreadable",
            _NOT_RIGHT,
            "The broker's own AWS credentials could not be read.",
            "Look at the broker's AWS_* variables and configuration files, or at its instance, task or pod role.",
        ),
    ),
    _rule(
        "ConnectTimeoutError EndpointConnectionError ConnectionError",
        Meaning(
            "aws_unreachable",
            f"AWS cannot be reached right now. {_SOON}",
            "No connection to STS or the sign-in service in {region} could be made.",
            "Check the broker's way out to AWS in that region (DNS, firewall, proxy variables, VPC endpoint), and "
            "AWS's health page.",
            retry=True,
            again=True,
            elsewhere=True,
            silent=True,
        ),
    ),
    _rule(
        "ReadTimeoutError ConnectionClosedError HTTPClientError ResponseStreamingError IncompleteReadError",
        Meaning(
            "aws_no_answer",
            f"AWS did not answer in time. {_SOON}",
            "STS or the sign-in service in {region} took the request and did not answer.",
            "See AWS's health page for {region}, and any proxy between the broker and AWS.",
            retry=True,
            again=True,
            elsewhere=True,
            silent=True,
        ),
    ),
    _rule(
        "ProxyConnectionError",
        Meaning(
            "aws_proxy",
            f"AWS cannot be reached right now. {_SOON}",
            "The proxy in front of the broker did not let it through to AWS.",
            "Check HTTPS_PROXY and NO_PROXY, and the proxy's own rules.",
            retry=True,
            again=True,
            elsewhere=True,
        ),
    ),
    _rule(
        "SSLError",
        Meaning(
            "aws_tls",
            f"Daypass could not make a secure connection to AWS. {_ASK}",
            "The certificate that answered for AWS is not trusted: something between broker and AWS opens TLS, or the "
            "CA bundle is old.",
            "If a proxy opens TLS on purpose, name its CA in AWS_CA_BUNDLE.",
        ),
    ),
    _rule(
        "ResponseParserError",
        Meaning(
            "aws_unreadable",
            f"AWS answered with something that is not an answer. {_SOON}",
            "What answered in {region} is not STS: a proxy's error page, or a failing endpoint.",
            "Check proxy variables and VPC endpoint of the broker.",
            retry=True,
            again=True,
            elsewhere=True,
            silent=True,
        ),
    ),
    _rule(
        "UnusableAnswer",
        Meaning(
            "aws_federation_elsewhere",
            _NOT_RIGHT,
            "What AWS answered is not a federated user of the account of {role}.",
            "Register the federation token in the account of the broker's own IAM user, which is where it comes from.",
        ),
        actions=_FEDERATION,
    ),
    _rule(
        "UnusableAnswer",
        Meaning(
            "aws_unreadable",
            f"AWS answered with something that is not an answer. {_SOON}",
            "The answer lacks a credential or names another role than {role}.",
            "Check that nothing between the broker and AWS changes answers.",
            retry=True,
        ),
    ),
    _rule(
        "ParamValidationError UnknownRegionError InvalidRegionError NoRegionError UnknownEndpointError "
        "EndpointVariantError EndpointProviderError EndpointResolutionError",
        Meaning(
            "aws_invalid_request",
            _NOT_RIGHT,
            "The registered values of {role} or its region {region} cannot be sent to AWS.",
            "Check role ARN, region, policy ARNs and session tags in Daypass.",
        ),
    ),
    # The federation endpoint says 400 and no more.
    _rule(
        "HTTP400",
        Meaning(
            "aws_signin_refused",
            f"AWS did not open the console for these credentials. {_ASK}",
            "The sign-in service refused the credentials of {role}; it does not say why.",
            "Usual causes: the sign-in service of another partition, a region that the account has not enabled, a role "
            "that denies signin actions, a wrong clock. Keys for the same role show whether the role itself works.",
        ),
        actions="getSigninToken",
    ),
)

_UNKNOWN = Meaning(
    "aws_failed",
    f"AWS did not issue the credentials. {_ASK}",
    "AWS refused with a code that Daypass has no explanation for.",
    "Look the code up in the STS API reference; CloudTrail of the account may show the refused call.",
)


class UnusableAnswer(Exception):
    """AWS said yes, but what it sent cannot be used. Raised in broker.aws only, and translated there."""


class SigninRefused(Exception):
    """The federation endpoint answered with this HTTP status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


def translate(error: Exception, asked: Asked, *, now: datetime | None = None) -> AwsError:
    """Turn whatever botocore raised into ours. `now`, when given, lets a wrong clock be named with its difference."""
    return explain(error, asked, now=now).problem


def explain(error: Exception, asked: Asked, *, now: datetime | None = None) -> Explained:
    """As `translate`, and whether Daypass may try again by itself. Raises nothing; keeps nothing of `error`."""
    aws_code, said, status = _read(error)
    meaning = _find(aws_code, said, status, asked.action)
    percent = re.search(r"(\d+)\s?%", said)
    fill = {
        "role": asked.role_arn,
        "region": asked.region or "the default region",
        "seconds": str(asked.seconds),
        "trusted": asked.trusted or "the provider",
        "audience": asked.audience or "the client id",
        "actions": _actions(asked),
        "percent": f" ({percent[1]} % of it)" if percent else "",
    }
    cause = meaning.cause.format_map(fill)
    apart = _clocks_apart(error, now)
    if apart and abs(apart) >= 60:
        cause += (
            f" The broker's clock is {abs(apart)} seconds {'ahead' if apart > 0 else 'behind'}."
        )
    cause += f" AWS said: {aws_code}" + (f": {_harmless(said)}" if said else "") + "."
    kind = AwsUnavailable if meaning.retry else AwsError
    problem = kind(
        meaning.message,
        aws_code=aws_code,
        code=meaning.code,
        retry=meaning.retry,
        cause=cause,
        remedy=meaning.remedy.format_map(fill),
    )
    return Explained(
        problem, again=meaning.again, elsewhere=meaning.elsewhere, silent=meaning.silent
    )


def _read(error: Exception) -> tuple[str, str, int]:
    """AWS's code (or the exception's name), its words, and the HTTP status (0: there was none)."""
    if isinstance(error, boto.ClientError):
        answer = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = str(answer.get("Code") or status)
        if code.isdigit():  # botocore's way of saying that the answer had no error in it
            code = f"HTTP{code}"
        return code, str(answer.get("Message") or ""), status
    if isinstance(error, SigninRefused):
        return f"HTTP{error.status}", "", error.status
    return type(error).__name__, "", 0


def _find(aws_code: str, said: str, status: int, action: Action) -> Meaning:
    code = "HTTP5xx" if aws_code.startswith("HTTP5") else aws_code
    for rule in RULES:
        if code not in rule.aws_codes:
            continue
        if rule.actions and action not in rule.actions:
            continue
        if rule.says and not rule.says.search(said):
            continue
        return rule.meaning
    if status >= 500:
        return _find("HTTP5xx", "", 0, action)
    if status == 429:
        return _find("Throttling", "", 0, action)
    return _UNKNOWN


def from_botocore(error: Exception) -> bool:
    """Whether this is AWS's failure, to be translated, and not a mistake of our own, to be raised as it is."""
    return isinstance(
        error,
        boto.BotoCoreError
        | boto.ClientError
        | ResponseParserError
        | UnusableAnswer
        | SigninRefused,
    )


def _actions(asked: Asked) -> str:
    wanted = [f"sts:{ {_RELAYED: _WEB, _ASSERTED: _SAML}.get(asked.action, asked.action) }"]
    if asked.tag_keys:
        wanted.append("sts:TagSession")
    if asked.source_identity:
        wanted.append("sts:SetSourceIdentity")
    return ", ".join(wanted)


def _clocks_apart(error: Exception, now: datetime | None) -> int:
    """Seconds by which our clock is ahead of AWS's, from the answer's Date header; 0 when it does not tell."""
    if now is None or not isinstance(error, boto.ClientError):
        return 0
    date = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        return int((now - parsedate_to_datetime(date)).total_seconds())
    except (TypeError, ValueError):
        return 0


_LONG_WORD = re.compile(r"[A-Za-z0-9+/=_.-]{100,}")


def _harmless(said: str) -> str:
    """AWS's words, one line, without anything that could be a token, and not longer than a screen line or three."""
    line = " ".join(said.split())
    return _LONG_WORD.sub("…", line)[:300].rstrip(".")
