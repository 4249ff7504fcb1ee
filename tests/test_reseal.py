"""After a reseal the earlier sealing key can be dropped: nothing that lasts is sealed under it any more."""

from __future__ import annotations

import ast
import base64
import re
from io import StringIO
from pathlib import Path

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from accounts.models import IdentityProvider, Person, ServiceProviderKey
from accounts.services import By
from accounts.services.own_keys import prepare_key
from accounts.services.providers import client_secret, set_client_secret
from broker.audit.models import AuditEvent
from broker.minting import keys
from broker.minting.models import SigningKey
from broker.sealing import sealed_under_current_key
from tests import factories as make

ROOT = Path(__file__).resolve().parent.parent
EARLIER = base64.urlsafe_b64encode(b"e" * 32).decode()
CURRENT = base64.urlsafe_b64encode(b"c" * 32).decode()

SEALED_HERE = {
    "broker/minting/keys.py": "resealed",
    "accounts/services/providers.py": "resealed",
    "accounts/services/keys.py": "resealed",
    "accounts/services/own_keys.py": "resealed",
    "accounts/services/second_factors.py": "resealed",
    "accounts/adapters.py": "resealed: second factors",
    "accounts/views/oidc.py": "hours: in a browser's session, for its sign-out",
    "accounts/services/relaying.py": "minutes: as long as what is relayed is valid",
    "accounts/views/relay.py": "minutes: until the browser comes to fetch it",
}


def test_every_place_that_seals_is_known_and_resealed_unless_it_is_soon_gone():
    found = set()
    for path in [*(ROOT / "broker").rglob("*.py"), *(ROOT / "accounts").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("seal", "sealing.seal"):
                found.add(str(path.relative_to(ROOT)))

    assert found == set(SEALED_HERE)


def everything_kept() -> str:
    """Every text in the database, as a thief of a backup would read it."""
    texts = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            texts += [str(value) for row in cursor.fetchall() for value in row]
    return "\n".join(texts)


def sealed_under(key: str, settings) -> list[str]:
    """What is sealed under this key, wherever it is kept: words of base64url that begin with version 1 and its id."""
    settings.DAYPASS_SEALING_KEYS = [key]
    words = re.findall(r"(?<![\w-])A[Q-Za-f][\w-]{40,}={0,2}", everything_kept())
    return [word for word in words if sealed_under_current_key(word)]


@pytest.mark.django_db
def test_nothing_in_the_database_needs_the_earlier_sealing_key_afterwards(settings):
    settings.DAYPASS_SEALING_KEYS = [EARLIER]
    keys.ensure_keys(timezone.now())
    provider = make.provider("okta")
    set_client_secret(provider, "a client secret")
    IdentityProvider.objects.filter(pk=provider.pk).update(
        client_secret_sealed=provider.client_secret_sealed
    )
    now = timezone.now()
    prepare_key(ServiceProviderKey.Purpose.SIGNING, by=By(id="b0b", name="bob"), now=now)
    person = Person.objects.create_superuser("emergency", "correct horse battery staple")
    TOTP.activate(person, "JBSWY3DPEHPK3PXP")
    RecoveryCodes.activate(person)
    codes = RecoveryCodes(Authenticator.objects.get(type="recovery_codes")).get_unused_codes()
    before = sealed_under(EARLIER, settings)
    assert len(before) >= 6

    settings.DAYPASS_SEALING_KEYS = [CURRENT, EARLIER]
    call_command("reseal", stdout=StringIO())
    settings.DAYPASS_SEALING_KEYS = [CURRENT]
    keys.forget_opened_keys()

    assert sealed_under(EARLIER, settings) == []
    assert len(sealed_under(CURRENT, settings)) == len(before)
    assert keys.signing_key(SigningKey.Purpose.OIDC, now=now).kid
    assert client_secret(IdentityProvider.objects.get(pk=provider.pk)) == "a client secret"
    totp = Authenticator.objects.get(type="totp")
    assert TOTP(totp).instance.data["secret"] not in before
    assert (
        RecoveryCodes(Authenticator.objects.get(type="recovery_codes")).get_unused_codes() == codes
    )
    assert AuditEvent.objects.filter(data__icontains="sealed anew").count() == 2
