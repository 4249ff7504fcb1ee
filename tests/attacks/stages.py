"""The stages: Daypass with two SAML providers or one OpenID Connect provider, connected as an administrator would."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from copy import copy
from datetime import timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.test import override_settings
from django.utils import timezone
from lxml import etree

from accounts import services
from accounts.models import IdentityProvider, ServiceProviderKey
from accounts.rules import PRESETS
from accounts.services import keys
from tests.accounts import web
from tests.accounts.idp_oidc import ADA, OidcIdp
from tests.accounts.idp_saml import SAML, Request, SamlIdp
from tests.attacks import dsig
from tests.attacks.dsig import Recipe
from tests.attacks.registry import Browser, Stage, stage_of

HONEST = Recipe()
BY = services.By(id="task:test", name="test")
GOOD = {
    "uid": ["ada"],
    "displayName": ["Ada Lovelace"],
    "mail": ["ada@example.com"],
    "groups": ["aws-admins", "aws-readers"],
}


def packed(message: etree._Element | bytes) -> str:
    """A message as a form carries it."""
    raw = message if isinstance(message, bytes) else etree.tostring(message)
    return base64.b64encode(raw).decode()


@cache
def company() -> SamlIdp:
    """The honest provider. Keys cost a tenth of a second each, so they are made once a process."""
    return SamlIdp()


@cache
def neighbour() -> SamlIdp:
    """Another company's provider, connected as well."""
    return SamlIdp(
        entity_id="https://other.example/metadata",
        sso_url="https://other.example/sso",
        slo_url="https://other.example/slo",
    )


@cache
def stranger() -> SamlIdp:
    """Somebody with keys of their own who calls themselves like the honest provider."""
    return SamlIdp()


@cache
def _own_key(purpose: str) -> ServiceProviderKey:
    return keys.new_key(ServiceProviderKey.Purpose(purpose), keys.State.ACTIVE, now=timezone.now())


def keep_own_keys() -> None:
    """Daypass's own keys towards SAML providers, made once a process instead of at the first need."""
    for purpose in ServiceProviderKey.Purpose.values:
        row = copy(_own_key(purpose))
        row.save(force_insert=True)


class SamlStage(Stage):
    """`row` and `idp` are the provider that is attacked, `other_row` and `other` its neighbour."""

    subject = "u-0001"

    def __init__(self) -> None:
        super().__init__()
        keep_own_keys()
        self.idp, self.other, self.stranger = company(), neighbour(), stranger()
        self.row = self._connect("acme", self.idp)
        self.other_row = self._connect("other", self.other)

    @staticmethod
    def _connect(slug: str, idp: SamlIdp) -> IdentityProvider:
        return services.create_provider_from_metadata(
            slug=slug, name=slug.title(), metadata_xml=idp.metadata, by=BY, enabled=True
        )

    def set(self, row: IdentityProvider | None = None, **fields: Any) -> None:
        """Change a provider's settings, as an administrator would, before the attack."""
        row = row or self.row
        for name, value in fields.items():
            setattr(row, name, value)
        services.save_provider(row, by=BY)
        self.settled()

    def start(self, browser: Browser, slug: str = "acme") -> Request:
        """Begin a sign-in in this browser; the request as it reaches the provider."""
        return SamlIdp.read(web.start(browser, slug))

    def ask(self, slug: str = "acme", **claims: Any) -> tuple[Browser, etree._Element]:
        """A browser that began a sign-in, and an unsigned answer of that provider to it."""
        browser = self.browser()
        idp = self.other if slug == "other" else self.idp
        claims.setdefault("attributes", GOOD)
        return browser, idp.build(self.start(browser, slug), **claims)

    def sign(
        self,
        root: etree._Element,
        *,
        assertion: Recipe | None = HONEST,
        response: Recipe | None = HONEST,
        key: Any = None,
    ) -> etree._Element:
        """Sign in place, by hand: the assertion first, then the response around it."""
        inner = root.find(f"{{{SAML}}}Assertion")
        if assertion is not None and inner is not None:
            dsig.sign(inner, key or self.idp.key, assertion)
        if response is not None:
            dsig.sign(root, key or self.idp.key, response)
        return root

    def send(self, browser: Browser, message: etree._Element | bytes, slug: str = "acme") -> Any:
        """Post a response, whatever it has become; the last answer."""
        return self.post(browser, packed(message), slug)

    def post(self, browser: Browser, answer: str, slug: str = "acme", **fields: str) -> Any:
        """Post a SAMLResponse (base64) and follow to the page that reads it; the last response."""
        return web.post_answer(browser, slug, answer, **fields)


@stage_of("saml")
def saml_stage() -> Iterator[SamlStage]:
    yield SamlStage()


@cache
def op_key() -> Any:
    """The key of every OpenID Connect stage's provider, made once a process."""
    op = OidcIdp()
    op.close()
    return op.key


class OidcStage(Stage):
    """`row` is the provider that is attacked; `op` plays it over real HTTP and can be bent (see OidcIdp).

    A worker has just refreshed it, so that nobody waits for keys.
    """

    subject = str(ADA["sub"])

    def __init__(self, op: OidcIdp) -> None:
        super().__init__()
        self.op = op
        self.row = self.connect()
        IdentityProvider.objects.update(refresh_asked_at=timezone.now() - timedelta(minutes=1))
        self.row.refresh_from_db()

    def connect(self, slug: str = "globex", op: OidcIdp | None = None, **fields: Any) -> Any:
        op = op or self.op
        fields = {
            "issuer": op.issuer,
            "client_id": op.client_id,
            "secret": op.client_secret,
            "enabled": True,
            "claim_map": PRESETS["oidc"],
        } | fields
        return services.create_oidc_provider(slug=slug, name=slug.title(), by=BY, **fields)

    def neighbour(self, slug: str = "other") -> OidcIdp:
        """Another provider, connected as well; for as long as the stage stands."""
        op = OidcIdp(ready=op_key(), client_id="daypass-there")
        self.others.append(op)
        settings.DAYPASS_PRIVATE_PROVIDERS = [
            *settings.DAYPASS_PRIVATE_PROVIDERS,
            op.authority,
        ]
        self.connect(slug, op)
        self.settled()
        return op

    def sign_in(self, browser: Browser | None = None) -> Any:
        """A whole sign-in; the last response."""
        return web.oidc_sign_in(browser or self.browser(), self.op)

    def callback(self, browser: Browser) -> str:
        """Begin a sign-in in this browser, and let the provider answer; the address that it sends the browser to."""
        return self.op.authorize(web.start(browser, "globex"))

    @property
    def others(self) -> list[OidcIdp]:
        return self.__dict__.setdefault("_others", [])


@stage_of("oidc")
def oidc_stage() -> Iterator[OidcStage]:
    op = OidcIdp(ready=op_key())
    stage = None
    try:
        with override_settings(DAYPASS_PRIVATE_PROVIDERS=[op.authority]):
            stage = OidcStage(op)
            yield stage
    finally:
        for one in (op, *(stage.others if stage else ())):
            one.close()
