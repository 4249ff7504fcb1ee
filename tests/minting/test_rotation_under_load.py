"""A client that issues all the time sees no failure while the keys change, at an AWS that keeps what it once fetched.

The clock is compressed: a week passes in seconds. AWS is tests/strict_sts: it keeps a key set for 23 hours without a
second look, and holds the SAML metadata that an administrator uploads some days after being told.
"""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from django.core.management import call_command

from broker.arns import PARTITIONS
from broker.audit.services import Actor
from broker.minting import keys
from broker.minting.models import SigningKey
from broker.minting.oidc import mint_web_identity_token
from broker.minting.saml import mint_saml_response
from broker.upkeep import queries, services
from tests import factories as make
from tests.minting.claims import assertion, web_identity
from tests.strict_sts import Published, StrictRole, StrictSts
from tests.upkeep.conftest import ACCOUNT, OIDC_PROVIDER, PROVIDER, trusting

OIDC, SAML = SigningKey.Purpose.OIDC, SigningKey.Purpose.SAML
DAY = timedelta(days=1)
BOB = Actor(id="b0b", name="bob")
WEB_ROLE = f"arn:aws:iam::{ACCOUNT}:role/Developer"
SAML_ROLE = f"arn:aws:iam::{ACCOUNT}:role/Operator"


class Aws:
    """The strict STS at a moment of our choosing, and a client without credentials in front of it."""

    def __init__(self, site: Published, issuer: str) -> None:
        self.now = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
        self.sts = StrictSts(
            issuer_urls={issuer: site.url},
            jwks_cache_seconds=23 * 3600,
            refetch_on_unknown_kid=False,
            clock=lambda: self.now,
        )
        self.sts.oidc_providers[OIDC_PROVIDER] = ["sts.amazonaws.com"]
        self.sts.roles[WEB_ROLE] = StrictRole(trust_policy=trusting("Developer", "web_identity"))
        self.sts.roles[SAML_ROLE] = StrictRole(trust_policy=trusting("Operator", "saml"))
        self.client = boto3.client(
            "sts",
            region_name="us-east-1",
            endpoint_url=self.sts.url,
            config=Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}),
        )

    def upload_metadata(self, client: Any) -> None:
        self.sts.saml_providers[PROVIDER] = client.get("/aws/saml/metadata").content

    def issue(self) -> tuple[str, str]:
        """One of each way in; the keys that signed. Raises what AWS or Daypass says."""
        token = mint_web_identity_token(web_identity(role_arn=WEB_ROLE), now=self.now)
        self.client.assume_role_with_web_identity(
            RoleArn=WEB_ROLE, RoleSessionName="alice-7Q2M", WebIdentityToken=token.reveal()
        )
        claims = assertion(
            role_arn=SAML_ROLE,
            saml_provider_arn=PROVIDER,
            recipient=PARTITIONS["aws"].saml_recipient(),
        )
        response = mint_saml_response(claims, now=self.now)
        self.client.assume_role_with_saml(
            RoleArn=SAML_ROLE, PrincipalArn=PROVIDER, SAMLAssertion=response.reveal()
        )
        return token.key_id, response.key_id


@pytest.fixture
def folder(tmp_path, settings) -> Path:
    """The issuer's documents are published elsewhere, as for a broker in a private network."""
    settings.DAYPASS_PUBLISH_TO = f"file://{tmp_path}"
    return tmp_path / ".well-known"


@pytest.fixture
def aws(folder, settings, db, client) -> Any:
    names = ("openid-configuration", "jwks.json")
    documents = {f"/.well-known/{name}": (folder / name).read_bytes for name in names}
    with Published(documents) as site:
        aws = Aws(site, settings.DAYPASS_ISSUER)
        keys.ensure_keys(aws.now)
        services.publish_copy(now=aws.now)
        aws.upload_metadata(client)
        yield aws
        aws.sts.stop()


def beat(aws: Aws) -> None:
    """What Celery does every ten minutes."""
    services.turn_keys(now=aws.now)
    services.publish_copy(now=aws.now)


@pytest.mark.django_db
def test_a_client_that_never_stops_sees_no_failure_through_a_whole_rotation(aws, client, settings):
    """Every hour of eight days, with two changes of the OIDC key and one of the SAML key in them."""
    settings.DAYPASS_KEY_ROTATION_DAYS = 3
    settings.DAYPASS_SAML_KEY_ROTATION_DAYS = 16
    account = make.account("Payments", account_id=ACCOUNT)
    make.role("Operator", of=account, trust="saml")
    began = aws.now
    used: Counter[str] = Counter()
    uploaded = False
    while aws.now < began + 8 * DAY:
        beat(aws)
        used.update(aws.issue())
        waits = SigningKey.objects.filter(purpose=SAML, state="published").exists()
        # The administrator follows the admin's call two days later.
        if waits and not uploaded and aws.now > began + 4 * DAY:
            aws.upload_metadata(client)
            services.note_uploaded(account.pk, now=aws.now, actor=BOB)
            uploaded = True
        aws.now += timedelta(hours=1)

    assert aws.sts.refused() == []
    signed = dict(SigningKey.objects.filter(kid__in=used).values_list("kid", "purpose"))
    assert Counter(signed.values()) == {"oidc": 3, "saml": 2}
    assert sum(used.values()) == 2 * 8 * 24
    removed = SigningKey.objects.filter(state="removed")
    assert set(removed.values_list("purpose", flat=True)) == {"oidc", "saml"}


@pytest.mark.django_db
def test_the_same_client_does_see_a_key_that_signs_too_early(aws):
    """The verifier is strict: without it the test above would show nothing."""
    aws.issue()
    keys.rotate(OIDC, aws.now, BOB, at_once=True)
    services.publish_copy(now=aws.now)

    with pytest.raises(ClientError, match="InvalidIdentityToken"):
        aws.issue()

    aws.now += timedelta(hours=23)
    keys.rotate(SAML, aws.now, BOB, at_once=True)
    with pytest.raises(ClientError, match="AssumeRoleWithSAML"):
        aws.issue()


@pytest.mark.django_db
def test_nobody_fails_while_the_copy_cannot_be_written_for_days(aws, folder, settings):
    """The change waits: what AWS reads does not have the next key, or not for long enough."""
    settings.DAYPASS_KEY_ROTATION_DAYS = 2
    began = aws.now
    root = folder.parent
    while aws.now < began + 7 * DAY:
        away = began + DAY <= aws.now < began + 4 * DAY
        if away:
            # As a failed attempt leaves it (tests/upkeep/test_copy.py fails one for real).
            services._keep_copy(f"file://{root}", now=aws.now, problem="the disk is full")
            services.turn_keys(now=aws.now)
        else:
            beat(aws)
        aws.issue()
        aws.now += timedelta(hours=2)

    assert aws.sts.refused() == []
    first = SigningKey.objects.filter(purpose=OIDC).order_by("created_at").first()
    assert first.retired_at >= began + 5 * DAY


def test_threads_that_sign_without_pause_never_miss_a_key_while_keys_change(together, signing_keys):
    """The moments between two looks at the database: many threads sign, one changes the keys again and again."""
    stop = threading.Event()
    signed: Counter[str] = Counter()
    now = datetime.now(UTC)

    def work() -> None:
        if not stop.is_set() and threading.current_thread().name == changer.setdefault(
            "name", threading.current_thread().name
        ):
            for turn in range(6):
                moment = now + turn * 3 * DAY
                for purpose in (OIDC, SAML):
                    keys.publish_next(purpose, now=moment, actor=BOB)
                    keys.rotate(purpose, moment + DAY, BOB)
                retired = SigningKey.objects.filter(state="retired").values_list("kid", flat=True)
                for kid in list(retired):
                    keys.remove(kid, now=moment + 2 * DAY, actor=BOB)
                time.sleep(0.05)
            stop.set()
            return
        while not stop.is_set():
            signed[mint_web_identity_token(web_identity(), now=now).key_id] += 1
            signed[mint_saml_response(assertion(), now=now).key_id] += 1

    changer: dict[str, str] = {}

    assert together(work, times=4) == []
    assert len(signed) >= 4


@pytest.mark.django_db
def test_the_plan_is_told_before_it_happens(aws, settings):
    """What an operator reads on the first day is what is done on the last."""
    settings.DAYPASS_KEY_ROTATION_DAYS = 90
    [planned] = queries.plan(OIDC)

    assert (planned.deed, planned.at) == ("publish", aws.now + 89 * DAY)
    out = io.StringIO()
    call_command("signing_keys", "list", stdout=out)
    assert f"next: publish from {planned.at:%Y-%m-%d %H:%M} UTC on" in out.getvalue()
