"""A security key, and the browser that it is plugged into: what they answer to what a page asks."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2.cose import ES256
from fido2.utils import websafe_encode
from fido2.webauthn import (
    AttestationObject,
    AttestedCredentialData,
    AuthenticatorData,
    CollectedClientData,
)

from tests.accounts.web import ORIGIN

TOUCHED = AuthenticatorData.FLAG.UP


class SecurityKey:
    def __init__(self, *, known_as: bytes = b"") -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.id = known_as or os.urandom(32)

    def added(self, page: Any, *, origin: str = ORIGIN) -> str:
        """The answer to a page that adds a key."""
        options = page.context["js_data"]["creation_options"]["publicKey"]
        attested = AttestedCredentialData.create(
            bytes(16), self.id, ES256.from_cryptography_key(self.private.public_key())
        )
        data = AuthenticatorData.create(
            hashlib.sha256(options["rp"]["id"].encode()).digest(),
            TOUCHED | AuthenticatorData.FLAG.AT,
            0,
            attested,
        )
        client = CollectedClientData.create("webauthn.create", options["challenge"], origin)
        attestation = AttestationObject.create("none", data, {})
        return self._said(client, {"attestationObject": websafe_encode(attestation)})

    def used(self, page: Any, *, origin: str = ORIGIN) -> str:
        """The answer to a page that asks for a key."""
        options = page.context["js_data"]["request_options"]["publicKey"]
        data = AuthenticatorData.create(
            hashlib.sha256(options["rpId"].encode()).digest(), TOUCHED, 1
        )
        client = CollectedClientData.create("webauthn.get", options["challenge"], origin)
        signature = self.private.sign(data + client.hash, ec.ECDSA(hashes.SHA256()))
        return self._said(
            client,
            {"authenticatorData": websafe_encode(data), "signature": websafe_encode(signature)},
        )

    def _said(self, client: CollectedClientData, response: dict[str, str]) -> str:
        return json.dumps(
            {
                "type": "public-key",
                "id": websafe_encode(self.id),
                "rawId": websafe_encode(self.id),
                "response": response | {"clientDataJSON": websafe_encode(client)},
                "clientExtensionResults": {},
            }
        )
