"""Clients for what Daypass reads with a borrowed role: IAM and Organizations. One client for each loan, then gone.

Throttling is met by botocore's own back-off, which spreads the retries; every failure ends here as one of ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import boto3
import botocore.session
from botocore import exceptions as boto
from botocore.config import Config
from django.views.decorators.debug import sensitive_variables

from broker.arns import PARTITIONS
from broker.aws.credentials import Credentials
from broker.errors import AwsError, AwsUnavailable

CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 10.0
TRIES = 6
"""With growing pauses: IAM and Organizations allow few calls a second to a whole account."""

Answer = TypeVar("Answer")


@sensitive_variables()
def client(
    service: Literal["iam", "organizations"],
    credentials: Credentials,
    *,
    partition: str,
    endpoint: str,
) -> Any:
    """A boto3 client with these credentials and nothing of the process's own. endpoint "": AWS's."""
    core = botocore.session.Session(
        session_vars={
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
    )
    revealed = credentials.reveal()
    session = boto3.session.Session(
        botocore_session=core,
        region_name=PARTITIONS[partition].home_region,
        aws_access_key_id=revealed.access_key_id,
        aws_secret_access_key=revealed.secret_access_key,
        aws_session_token=revealed.session_token,
    )
    return session.client(
        service,
        endpoint_url=endpoint or None,
        config=Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            retries={"total_max_attempts": TRIES, "mode": "standard"},
            user_agent="Daypass",
            ignore_configured_endpoint_urls=True,  # type: ignore[call-arg]  # newer than its types
        ),
    )


def ask(what: str, call: Callable[[], Answer], *, missing: str = "") -> Answer | None:
    """The answer; None when AWS says that there is no such thing (its code `missing`). what: the call's name in IAM.

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
    except boto.BotoCoreError as error:
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
        remedy=f"Allow the discovery role {what}.",
    )
