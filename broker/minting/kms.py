"""A signing key whose private half is in AWS KMS, in the shape that the signing libraries know.

It signs and does nothing else: what would take the private key out, or use it otherwise, raises.
"""

from __future__ import annotations

from typing import Any, NoReturn

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from broker.aws import kms
from broker.errors import KeyUnavailable


class KmsPrivateKey(rsa.RSAPrivateKey):
    """An RSA private key of which we hold the address only."""

    def __init__(self, arn: str, public: rsa.RSAPublicKey) -> None:
        self._arn = arn
        self._public = public

    @classmethod
    def load(cls, arn: str) -> KmsPrivateKey:
        """The key at this ARN, with its public half as KMS tells it. Raises KeyUnavailable."""
        public = serialization.load_der_public_key(kms.public_key(arn))
        if not isinstance(public, rsa.RSAPublicKey):
            raise KeyUnavailable(cause=f"The KMS key {arn} is not an RSA key.")
        return cls(arn, public)

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def sign(
        self,
        data: Any,
        padding: padding.AsymmetricPadding,
        algorithm: Prehashed | hashes.HashAlgorithm | Any,
    ) -> bytes:
        """RS256 only. Raises KeyUnavailable when KMS does not sign, ValueError for another algorithm."""
        if not _is_rs256(padding, algorithm):
            raise ValueError("a key in KMS signs with RSASSA-PKCS1-v1_5 and SHA-256 only")
        return kms.sign(self._arn, bytes(data))

    def __repr__(self) -> str:
        return f"KmsPrivateKey({self._arn})"

    def __copy__(self) -> KmsPrivateKey:
        return self

    def __deepcopy__(self, memo: object) -> KmsPrivateKey:
        return self

    def decrypt(self, ciphertext: bytes, padding: padding.AsymmetricPadding) -> NoReturn:
        raise TypeError("a signing key does not decrypt")

    def private_numbers(self) -> NoReturn:
        raise TypeError("the private half of a key in KMS never leaves it")

    def private_bytes(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("the private half of a key in KMS never leaves it")


def _is_rs256(chosen: object, algorithm: object) -> bool:
    return isinstance(chosen, padding.PKCS1v15) and isinstance(algorithm, hashes.SHA256)
