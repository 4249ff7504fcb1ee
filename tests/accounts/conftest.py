"""Providers of both protocols, connected as an administrator would connect them."""

from __future__ import annotations

import pytest

from accounts import services
from tests.accounts.idp_saml import SamlIdp

BY = services.By(id="task:test", name="test")


@pytest.fixture(scope="session")
def idp() -> SamlIdp:
    return SamlIdp()


@pytest.fixture
def saml_row(db, idp):
    """An enabled SAML provider from pasted metadata."""
    return services.create_provider_from_metadata(
        slug="acme", name="Acme", metadata_xml=idp.metadata, by=BY, enabled=True
    )
