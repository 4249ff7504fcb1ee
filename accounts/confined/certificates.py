"""Certificates of the other side: which are good enough, and what to call them."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from broker.errors import BadInput

CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)


def read_certificate(text: str) -> tuple[str, datetime]:
    """A certificate in PEM or bare base64 -> PEM and when it expires. Raises BadInput."""
    try:
        raw = base64.b64decode(bare(text), validate=True)
        certificate = x509.load_der_x509_certificate(raw)
        key = certificate.public_key()
    except (binascii.Error, ValueError):
        raise BadInput(
            "A certificate cannot be read: paste it with its BEGIN and END lines."
        ) from None
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < 2048:
            raise BadInput(
                "A certificate's key is too short: RSA needs 2048 bits, elliptic curves 256."
            )
    elif not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, CURVES):
        raise BadInput(
            "A certificate's key is of another kind than is accepted: RSA with 2048 bits or more, or the "
            "elliptic curves P-256, P-384 and P-521."
        )
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return pem, certificate.not_valid_after_utc


@lru_cache(maxsize=256)
def family(pem: str) -> str:
    """ "rsa" or "ecdsa" for a key that may verify, "" for one that may not: too short, or of another kind."""
    try:
        read_certificate(pem)
    except BadInput:
        return ""
    key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    return "rsa" if isinstance(key, rsa.RSAPublicKey) else "ecdsa"


@lru_cache(maxsize=256)
def describe(pem: str) -> str:
    """What an administrator recognises a certificate by: its common name and the beginning of its SHA-256."""
    certificate = x509.load_pem_x509_certificate(pem.encode())
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = f"CN={str(names[0].value)[:80]}, " if names else ""
    return f"{name}SHA-256 {certificate.fingerprint(hashes.SHA256()).hex()[:16]}…"


def bare(pem: str) -> str:
    """The base64 of a certificate, without lines."""
    return "".join(re.sub(r"-----[A-Z ]+-----", "", pem).split())
