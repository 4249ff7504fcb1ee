"""AWS KMS: signatures by a private key that never leaves it. For `broker.minting`.

Specification: Sign and GetPublicKey in the KMS API reference; SIGN_VERIFY, and of its key specs those of KINDS alone.
Calls are signed with the process's own AWS credentials (boto3's default chain) and go to the region of the key's ARN.
A failure is a KeyUnavailable: whoever waits for a signature need not know where its key is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from django.conf import settings

from broker.aws.clients import bounds, forget_own, own
from broker.errors import KeyUnavailable

CONNECT_TIMEOUT = 1.5
READ_TIMEOUT = 2.5
TRIES = 2
LONGEST = TRIES * (CONNECT_TIMEOUT + READ_TIMEOUT)
"""Seconds after which a call has ended, but for the pause between two tries (far below a second)."""

RSA, EC = "RSASSA_PKCS1_V1_5_SHA_256", "ECDSA_SHA_256"
KINDS: Mapping[str, str] = {"RSA_2048": RSA, "ECC_NIST_P256": EC}
"""Key spec -> the one algorithm that we sign with."""
CREATE = "aws kms create-key --key-spec RSA_2048 --key-usage SIGN_VERIFY"
_LARGEST_MESSAGE = 4096
"""Bytes that KMS takes and hashes itself; of more it wants the digest."""

_ARN = re.compile(
    r"arn:(?P<partition>[a-z-]+):kms:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):key/[\w-]{1,256}",
    re.ASCII,
)


def region_of(key_arn: str) -> str:
    """The region that a key's ARN names. Raises KeyUnavailable for anything but the ARN of a key (not an alias)."""
    match = _ARN.fullmatch(key_arn)
    if match is None:
        raise KeyUnavailable(
            cause=f"{key_arn!r} is not the ARN of a KMS key.",
            remedy="Write it as arn:aws:kms:eu-west-1:111122223333:key/1234abcd-..., never as an alias, which could be "
            "pointed at another key.",
        )
    return match["region"]


def public_key(key_arn: str) -> bytes:
    """The public half (DER, SubjectPublicKeyInfo). Raises KeyUnavailable, also for a key of a wrong kind."""
    answer = _call(key_arn, "kms:GetPublicKey", lambda kms: kms.get_public_key(KeyId=key_arn))
    # KMS answers under both names; not everything that speaks its protocol knows the newer one.
    spec, usage = (
        answer.get("KeySpec") or answer.get("CustomerMasterKeySpec"),
        answer.get("KeyUsage"),
    )
    if usage != "SIGN_VERIFY" or KINDS.get(str(spec)) not in answer["SigningAlgorithms"]:
        raise KeyUnavailable(
            cause=f"The KMS key {key_arn} is {spec} for {usage}.",
            remedy=f"Create one with `{CREATE}`; for tokens it may be ECC_NIST_P256 as well.",
        )
    return bytes(answer["PublicKey"])


def sign(key_arn: str, message: bytes, algorithm: str = RSA) -> bytes:
    """RSASSA-PKCS1-v1_5 or ECDSA (in DER) over SHA-256 of the message.

    Raises KeyUnavailable; retry is True when a moment helps.
    """
    whole = len(message) <= _LARGEST_MESSAGE
    answer = _call(
        key_arn,
        "kms:Sign",
        lambda kms: kms.sign(
            KeyId=key_arn,
            Message=message if whole else hashlib.sha256(message).digest(),
            MessageType="RAW" if whole else "DIGEST",
            SigningAlgorithm=algorithm,
        ),
    )
    return bytes(answer["Signature"])


_SOON = "Daypass could not sign just now. Try again in a moment."
_BUSY = {
    "ThrottlingException",
    "LimitExceededException",
    "DependencyTimeoutException",
    "KMSInternalException",
    "KeyUnavailableException",
    "InternalFailure",
    "ServiceUnavailable",
}
_OWN_CREDENTIALS = {
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "ExpiredTokenException",
    "InvalidSignatureException",
    "IncompleteSignature",
    "MissingAuthenticationToken",
}


def _call(
    key_arn: str, action: str, perform: Callable[[Any], Mapping[str, Any]]
) -> Mapping[str, Any]:
    region = region_of(key_arn)
    try:
        return perform(_client(region))
    except NoCredentialsError:
        failure = KeyUnavailable(
            cause="Daypass found no AWS credentials of its own, which KMS demands.",
            remedy="Run Daypass with an AWS role (task role, instance profile, IRSA) that may use the key.",
        )
        forget_own("kms")
    except ClientError as error:
        failure = _refused(error, key_arn, action, region)
    except BotoCoreError as error:
        failure = KeyUnavailable(
            _SOON,
            retry=True,
            cause=f"KMS in {region} did not answer: {type(error).__name__}.",
            remedy="Check the way to kms."
            f"{region}.amazonaws.com (a VPC endpoint, a proxy) and the AWS Health Dashboard.",
        )
    # Outside the handler: the exception holds the request, and is not kept as our context.
    raise failure


def _refused(error: ClientError, key_arn: str, action: str, region: str) -> KeyUnavailable:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _BUSY or status >= 500:
        return KeyUnavailable(
            _SOON,
            retry=True,
            cause=f"KMS in {region} answered {code or status}.",
            remedy="When it stays: the account's request quota for asymmetric keys of this kind (Service Quotas).",
        )
    if code in _OWN_CREDENTIALS:
        forget_own("kms")
        return KeyUnavailable(
            cause=f"KMS does not take the AWS credentials that Daypass runs with: {code}.",
            remedy="Renew them, or give Daypass an AWS role instead.",
        )
    meanings = {
        "AccessDeniedException": (
            f"The AWS role that Daypass runs as may not call {action} on {key_arn}.",
            "Allow it kms:Sign and kms:GetPublicKey in the key policy or its own policy.",
        ),
        "NotFoundException": (
            f"There is no KMS key {key_arn}.",
            "Compare account, region and id with the KMS console.",
        ),
        "DisabledException": (
            f"The KMS key {key_arn} is disabled.",
            "Enable it: `aws kms enable-key`.",
        ),
        "KMSInvalidStateException": (
            f"The KMS key {key_arn} is not usable in its state, for example because it will be deleted.",
            "Cancel the deletion (`aws kms cancel-key-deletion`) and enable it, or bring in another key.",
        ),
        "InvalidKeyUsageException": (
            f"The KMS key {key_arn} is not one for signing with {' or '.join(KINDS.values())}.",
            f"Create one with `{CREATE}`.",
        ),
    }
    cause, remedy = meanings.get(
        code,
        (f"KMS refused {action} with {code or status}.", "Look it up in the KMS API reference."),
    )
    return KeyUnavailable(cause=cause, remedy=remedy)


def _client(region: str) -> Any:
    config = bounds(
        connect=CONNECT_TIMEOUT,
        read=READ_TIMEOUT,
        tries=TRIES,
        max_pool_connections=64,
        tcp_keepalive=True,
    )
    return own("kms", region, endpoint=settings.DAYPASS_KMS_ENDPOINT, config=config)
