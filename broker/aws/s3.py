"""Amazon S3: small public documents put where AWS can fetch them. For `broker.upkeep`.

Specification: PutObject and GetObject in the S3 API reference. Calls are signed with the process's own AWS credentials
(boto3's default chain) and end within seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from django.conf import settings

from broker.arns import partition_of
from broker.aws.clients import bounds, forget_own, own
from broker.errors import AwsError, AwsUnavailable

CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 8.0
TRIES = 3

_FAILED = "The documents could not be written to S3."
_MEANINGS = {
    "AccessDenied": (
        "The AWS role that Daypass runs as may not write to the bucket {bucket}.",
        "Allow it s3:PutObject on arn:{partition}:s3:::{bucket}/*. Use SSE-S3 there: nobody could read in public what "
        "KMS encrypts.",
    ),
    "NoSuchBucket": (
        "There is no bucket {bucket} in {region}.",
        "Create it, or mend DAYPASS_PUBLISH_TO.",
    ),
    "PermanentRedirect": (
        "The bucket {bucket} is not in {region}.",
        "Put the bucket's region into DAYPASS_PUBLISH_TO: s3://{bucket}/prefix?region=...",
    ),
    "InvalidAccessKeyId": (
        "S3 does not take the AWS credentials that Daypass runs with.",
        "Renew them, or give Daypass an AWS role instead.",
    ),
}
_MEANINGS["ExpiredToken"] = _MEANINGS["SignatureDoesNotMatch"] = _MEANINGS["InvalidAccessKeyId"]
_MEANINGS["AuthorizationHeaderMalformed"] = _MEANINGS["PermanentRedirect"]


def put(
    *, bucket: str, key: str, body: bytes, content_type: str, cache_control: str, region: str
) -> None:
    """Write one object; it is there for every reader when this returns. Raises AwsError, AwsUnavailable."""
    _call(
        bucket,
        region,
        lambda s3: s3.put_object(
            Bucket=bucket,
            Key=key,
            Body=body,
            ContentType=content_type,
            CacheControl=cache_control,
        ),
    )


def _call(bucket: str, region: str, perform: Callable[[Any], Any]) -> None:
    failure: AwsError
    try:
        perform(_client(region))
        return
    except NoCredentialsError:
        forget_own("s3")
        failure = AwsError(
            _FAILED,
            aws_code="NoCredentialsError",
            cause="Daypass found no AWS credentials of its own, which writing to S3 demands.",
            remedy="Run Daypass with an AWS role (task role, instance profile, IRSA) that may write there.",
        )
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        cause, remedy = _MEANINGS.get(code, ("S3 refused with " + (code or str(status)) + ".", ""))
        names = {"bucket": bucket, "region": region, "partition": partition_of(region).name}
        kind = AwsUnavailable if status >= 500 or code == "SlowDown" else AwsError
        failure = kind(
            _FAILED,
            aws_code=code,
            cause=cause.format(**names),
            remedy=remedy.format(**names),
        )
    except BotoCoreError as error:
        failure = AwsUnavailable(
            _FAILED,
            aws_code=type(error).__name__,
            cause=f"S3 in {region} did not answer: {type(error).__name__}.",
            remedy="Check the way from Daypass to S3 (a VPC endpoint, a proxy).",
        )
    raise failure


def _client(region: str) -> Any:
    endpoint = settings.DAYPASS_S3_ENDPOINT
    # Buckets with dots in their names have no certificate as a host of their own.
    style = {"addressing_style": "path" if endpoint else "auto"}
    config = bounds(connect=CONNECT_TIMEOUT, read=READ_TIMEOUT, tries=TRIES, s3=style)
    return own("s3", region, endpoint=endpoint, config=config)
