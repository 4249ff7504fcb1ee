"""Clients for what Daypass reads with a borrowed role: IAM and Organizations. One client for each loan, then gone.

Throttling is met by botocore's own back-off, which spreads the retries; every failure ends here as one of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from broker.aws.clients import bounds, lent
from broker.aws.credentials import Credentials
from broker.errors import AwsError, AwsUnavailable

CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 10.0
TRIES = 6
"""With growing pauses: IAM and Organizations allow few calls a second to a whole account."""

Answer = TypeVar("Answer")


def client(
    service: Literal["iam", "organizations"],
    credentials: Credentials,
    *,
    partition: str,
    endpoint: str,
) -> Any:
    """A boto3 client with these credentials and nothing of the process's own. endpoint "": AWS's."""
    config = bounds(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT, tries=TRIES)
    return lent(service, credentials, partition=partition, endpoint=endpoint, config=config)


def ask(
    what: str, call: Callable[[], Answer], *, missing: str = "", besides: str = ""
) -> Answer | None:
    """The answer; None when AWS says that there is no such thing (its code `missing`). what: the call's name in IAM.
    besides: what else a refusal may come from, and the way out.

    Raises AwsError when it is not allowed or makes no sense, AwsUnavailable when trying again later helps.
    """
    try:
        return call()
    except boto.ClientError as error:
        said = error.response.get("Error", {})
        code = str(said.get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if missing and code == missing:
            return None
    except (boto.BotoCoreError, ResponseParserError) as error:  # a proxy's page is no answer, too
        code, status = type(error).__name__, 503
    if status >= 500 or "Throttl" in code or "TooManyRequests" in code:
        raise AwsUnavailable(
            code="aws_not_read",
            aws_code=code,
            cause=f"AWS did not answer {what}: {code}.",
            remedy="It is tried again at the next look.",
        )
    raise AwsError(
        "AWS does not let Daypass read this.",
        code="aws_not_read",
        aws_code=code,
        cause=f"AWS refused {what}: {code}.",
        remedy=f"Allow the discovery role {what}. {besides}".rstrip(),
    )
