"""IAM's SAML providers: read and replace the metadata that one holds. For `broker.upkeep`.

Specification: GetSAMLProvider and UpdateSAMLProvider in the IAM API reference. Called with credentials of a role in the
account itself, borrowed for minutes; IAM is asked in the home region of the account's partition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from django.conf import settings
from django.views.decorators.debug import sensitive_variables

from broker.aws.clients import bounds, lent
from broker.aws.credentials import Credentials
from broker.errors import AwsError, AwsUnavailable

CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 10.0
TRIES = 3

_FAILED = "The SAML provider could not be looked after."


def metadata(credentials: Credentials, provider_arn: str) -> str:
    """What the provider holds, as it was uploaded. Raises AwsError, AwsUnavailable."""
    answer = _call(
        credentials,
        provider_arn,
        "iam:GetSAMLProvider",
        lambda iam: iam.get_saml_provider(SAMLProviderArn=provider_arn),
    )
    return str(answer.get("SAMLMetadataDocument", ""))


def replace(credentials: Credentials, provider_arn: str, document: str) -> None:
    """Upload another metadata document; everything else of the provider stays. Raises AwsError, AwsUnavailable."""
    _call(
        credentials,
        provider_arn,
        "iam:UpdateSAMLProvider",
        lambda iam: iam.update_saml_provider(
            SAMLProviderArn=provider_arn, SAMLMetadataDocument=document
        ),
    )


@sensitive_variables()
def _call(
    credentials: Credentials, provider_arn: str, action: str, perform: Callable[[Any], Any]
) -> Any:
    failure: AwsError
    try:
        iam = lent(
            "iam",
            credentials,
            partition=provider_arn.split(":")[1],
            endpoint=settings.DAYPASS_IAM_ENDPOINT,
            config=bounds(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT, tries=TRIES),
        )
        return perform(iam)
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if code in ("AccessDenied", "AccessDeniedException"):
            cause = f"The role that Daypass uses there may not call {action}."
            remedy = f"Allow it {action} on {provider_arn}, or upload the metadata by hand."
        elif code == "NoSuchEntity":
            cause = f"There is no SAML provider {provider_arn}."
            remedy = "Create it with Daypass's metadata, or mend its name on the account's page."
        else:
            cause, remedy = f"IAM refused {action} with {code or status}.", ""
        kind = AwsUnavailable if status >= 500 or code.startswith("Throttling") else AwsError
        failure = kind(_FAILED, aws_code=code, cause=cause, remedy=remedy)
    except (BotoCoreError, ResponseParserError) as error:  # a proxy's page is no answer, too
        failure = AwsUnavailable(
            _FAILED,
            aws_code=type(error).__name__,
            cause=f"IAM did not answer: {type(error).__name__}.",
        )
    # Outside the handler: the exception, which holds the request, is not kept as our context.
    raise failure
