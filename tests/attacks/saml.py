"""The SAML corpus: real keys, signatures by other libraries or by hand, through the real doors.

One module for each family of attacks; importing this one fills the registry.
"""

from __future__ import annotations

from tests.attacks import (  # noqa: F401
    saml_controls,
    saml_encryption,
    saml_logout,
    saml_profile,
    saml_replay,
    saml_signatures,
    saml_text,
    saml_wrapping,
)
