"""Assertions that are encrypted for us: AES-GCM under a content key that RSA-OAEP wraps (threats.md R32).

The private key never comes here. The wrapped key goes out through `unwrap`, a content key comes back, and if it was not
the right one (whatever the reason) the authentication tag of AES-GCM does not fit: every failure looks like that one.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from xml.sax.saxutils import quoteattr

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from lxml import etree

from accounts.confined import gate
from accounts.confined.grammar import GCM, MASKS, OAEP11, OAEP_DIGESTS
from accounts.confined.text import (
    MESSAGE,
    algorithm,
    alone,
    build,
    check_bounds,
    check_text,
    inside,
)
from accounts.confined.values import DS, XENC, XENC11, Wrapped, refused

Unwrap = Callable[[Wrapped], bytes]

_NONCE, _TAG = 12, 16


def decrypt(encrypted: etree._Element, unwrap: Unwrap) -> tuple[etree._Element, str]:
    """The assertion inside an EncryptedAssertion whose shape was checked, and how it was encrypted, in words.

    The plaintext passes the same rules about bytes and structure as a plain assertion. Raises SignInRefused.
    """
    data = inside(encrypted, f"{{{XENC}}}EncryptedData")
    length = GCM[algorithm(inside(data, f"{{{XENC}}}EncryptionMethod"))]
    wrapped = _wrapped(inside(encrypted, f".//{{{XENC}}}EncryptedKey"), length)
    sealed = _cipher_value(data)
    if len(sealed) <= _NONCE + _TAG:
        raise refused("The encrypted assertion is empty.")
    try:
        plaintext = AESGCM(unwrap(wrapped)).decrypt(sealed[:_NONCE], sealed[_NONCE:], None)
    except (InvalidTag, ValueError):
        raise refused(
            "The assertion cannot be decrypted.",
            "Give the provider the certificate for encryption from Daypass's metadata again.",
        ) from None
    assertion = _read(plaintext, {k or "": v for k, v in encrypted.nsmap.items()})
    gate.check_assertion(assertion)
    words = f"AES-{8 * wrapped.length}-GCM, key by RSA-OAEP with {wrapped.digest.upper()}"
    return assertion, words


def _wrapped(key: etree._Element, length: int) -> Wrapped:
    method = inside(key, f"{{{XENC}}}EncryptionMethod")
    digests = [algorithm(one) for one in method.iter(f"{{{DS}}}DigestMethod")]
    masks = [algorithm(one) for one in method.iter(f"{{{XENC11}}}MGF")]
    if len(digests) > 1 or len(masks) > 1 or (masks and algorithm(method) != OAEP11):
        raise refused("The encrypted key names its hashes in a way that is not accepted.")
    # xmlenc-core1 section 5.5.2: SHA-1 where nothing is said, and always for the mask of rsa-oaep-mgf1p
    return Wrapped(
        ciphertext=_cipher_value(key),
        digest=OAEP_DIGESTS[digests[0]] if digests else "sha1",
        mgf=MASKS[masks[0]] if masks else "sha1",
        length=length,
    )


def _cipher_value(parent: etree._Element) -> bytes:
    text = parent.findtext(f"{{{XENC}}}CipherData/{{{XENC}}}CipherValue") or ""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise refused("What is encrypted is not base64.") from None


def _read(plaintext: bytes, visible: Mapping[str, str]) -> etree._Element:
    """One element, which may use prefixes that were declared around the EncryptedAssertion (xmlenc section 4.3).

    It has to be one document by itself before it is put among those declarations, so that it cannot close them.
    """
    body = check_text(plaintext)
    check_bounds(body, MESSAGE)
    declared = "".join(
        f" xmlns{':' if prefix else ''}{prefix}={quoteattr(uri)}" for prefix, uri in visible.items()
    )
    around = build(f"<around{declared}>{body}</around>")
    if len(around) != 1 or (around.text or "").strip() or (around[0].tail or "").strip():
        raise refused("What was encrypted is not one assertion.")
    return alone(around[0])
