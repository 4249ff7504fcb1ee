"""A signing key whose private half is in AWS KMS, in the shape that the signing libraries know.

It signs and does nothing else: what would take the private key out, or use it otherwise, raises.
"""

from __future__ import annotations

from typing import Any, NoReturn

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from broker.aws import kms
from broker.errors import KeyUnavailable


def load(arn: str) -> KmsPrivateKey | KmsCurveKey:
    """The key at this ARN, with its public half as KMS tells it. Raises KeyUnavailable."""
    return handle(arn, serialization.load_der_public_key(kms.public_key(arn)))


def handle(arn: str, public: object) -> KmsPrivateKey | KmsCurveKey:
    """The key at this ARN, of which the public half is known. Raises KeyUnavailable for a kind that does not sign."""
    if isinstance(public, rsa.RSAPublicKey):
        return KmsPrivateKey(arn, public)
    if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1):
        return KmsCurveKey(arn, public)
    raise KeyUnavailable(cause=f"The KMS key {arn} is neither an RSA key nor one of P-256.")


class KmsPrivateKey(rsa.RSAPrivateKey):
    """An RSA private key of which we hold the address only."""

    def __init__(self, arn: str, public: rsa.RSAPublicKey) -> None:
        self._arn = arn
        self._public = public

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
            raise ValueError("an RSA key in KMS signs with RSASSA-PKCS1-v1_5 and SHA-256 only")
        return kms.sign(self._arn, bytes(data), kms.RSA)

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


class KmsCurveKey(ec.EllipticCurvePrivateKey):
    """A private key on P-256 of which we hold the address only."""

    def __init__(self, arn: str, public: ec.EllipticCurvePublicKey) -> None:
        self._arn = arn
        self._public = public

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """ES256 only, in DER. Raises KeyUnavailable when KMS does not sign, ValueError for another hash."""
        if not isinstance(signature_algorithm.algorithm, hashes.SHA256):
            raise ValueError("a P-256 key in KMS signs with SHA-256 only")
        return kms.sign(self._arn, bytes(data), kms.EC)

    def __repr__(self) -> str:
        return f"KmsCurveKey({self._arn})"

    def __copy__(self) -> KmsCurveKey:
        return self

    def __deepcopy__(self, memo: object) -> KmsCurveKey:
        return self

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        raise TypeError("a signing key agrees on nothing")

    def private_numbers(self) -> NoReturn:
        raise TypeError("the private half of a key in KMS never leaves it")

    def private_bytes(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError("the private half of a key in KMS never leaves it")


def _is_rs256(chosen: object, algorithm: object) -> bool:
    return isinstance(chosen, padding.PKCS1v15) and isinstance(algorithm, hashes.SHA256)
