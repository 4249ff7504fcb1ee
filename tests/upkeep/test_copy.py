"""The published copy: what AWS reads elsewhere is what Daypass would say, and no key signs that it does not hold."""

from __future__ import annotations

import io
import json
import os
import stat
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from moto.server import ThreadedMotoServer

from broker.audit.models import AuditEvent
from broker.audit.services import Actor
from broker.aws import s3
from broker.errors import AwsError, AwsUnavailable, BadInput, DaypassError
from broker.minting import keys
from broker.minting.models import SigningKey
from broker.upkeep import queries, services, tasks
from broker.upkeep.models import Publication
from broker.upkeep.places import Bucket, Document, Folder, NotPublished, place
from tests import factories as make
from tests.aws.servers import Answer, StandIn
from tests.servers import free_port

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)
OIDC = SigningKey.Purpose.OIDC
BOB = Actor(id="b0b", name="bob")

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder(tmp_path, settings, signing_keys) -> Path:
    settings.DAYPASS_PUBLISH_TO = f"file://{tmp_path}/issuer"
    settings.DAYPASS_ISSUER = "https://issuer.example.com"
    return tmp_path / "issuer"


@pytest.fixture(scope="module")
def moto() -> Any:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(moto, settings, monkeypatch, signing_keys) -> Any:
    """A bucket in S3 as moto plays it over HTTP."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    settings.DAYPASS_S3_ENDPOINT = moto
    settings.DAYPASS_ISSUER = "https://my-issuer.s3.eu-west-1.amazonaws.com/daypass"
    settings.DAYPASS_PUBLISH_TO = "s3://my-issuer/daypass?region=eu-west-1"
    client = boto3.client("s3", region_name="eu-west-1", endpoint_url=moto)
    client.create_bucket(
        Bucket="my-issuer", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    yield client
    for listed in client.list_objects_v2(Bucket="my-issuer").get("Contents", []):
        client.delete_object(Bucket="my-issuer", Key=listed["Key"])
    client.delete_bucket(Bucket="my-issuer")


def served(client, path: str) -> dict[str, Any]:
    return json.loads(client.get(path).content)


def in_copy(folder: Path) -> list[str]:
    return [
        key["kid"] for key in json.loads((folder / ".well-known/jwks.json").read_text())["keys"]
    ]


def break_folder(folder: Path) -> None:
    """As when the volume is gone: a file stands where the directory was (root may write anywhere else)."""
    folder.rename(folder.with_name("away"))
    folder.write_text("in the way")


def mend_folder(folder: Path) -> None:
    folder.unlink()
    folder.with_name("away").rename(folder)


def test_the_folder_holds_what_daypass_serves_itself(folder, client):
    services.publish_copy(now=NOW)

    for name in ("openid-configuration", "jwks.json"):
        kept = folder / ".well-known" / name
        assert json.loads(kept.read_text()) == served(client, f"/.well-known/{name}")
        assert stat.S_IMODE(kept.stat().st_mode) == 0o644
    discovery = json.loads((folder / ".well-known/openid-configuration").read_text())
    assert discovery["issuer"] == "https://issuer.example.com"
    assert discovery["jwks_uri"] == "https://issuer.example.com/.well-known/jwks.json"


def test_a_web_server_of_another_user_reads_it_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        Folder(tmp_path / "srv" / "issuer").put(Document(".well-known/jwks.json", b"{}", 300))
    finally:
        os.umask(before)

    for made in ("srv", "srv/issuer", "srv/issuer/.well-known"):
        assert stat.S_IMODE((tmp_path / made).stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "srv/issuer/.well-known/jwks.json").stat().st_mode) == 0o644


def test_a_reader_never_sees_a_part_of_a_file(tmp_path):
    """Two bodies, written in turn by one and read by another: each reading is one of them, whole."""
    bodies = (b"a" * 200_000, b"b" * 200_000)
    target = Folder(tmp_path)
    target.put(Document("jwks.json", bodies[0], 300))
    done = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not done.is_set():
            seen.add((tmp_path / "jwks.json").read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(100):
        target.put(Document("jwks.json", bodies[number % 2], 300))
    done.set()
    reader.join()

    assert seen <= set(bodies)
    assert os.listdir(tmp_path) == ["jwks.json"]


def test_the_bucket_holds_what_daypass_serves_itself_ready_for_caches(bucket, client):
    services.publish_copy(now=NOW)

    for name, seconds in (("openid-configuration", 3600), ("jwks.json", 300)):
        found = bucket.get_object(Bucket="my-issuer", Key=f"daypass/.well-known/{name}")
        # The issuer has a path, but not on this origin: here its documents stand at the root.
        assert json.load(found["Body"]) == served(client, f"/.well-known/{name}")
        assert found["ContentType"] == "application/json"
        assert found["CacheControl"] == f"public, max-age={seconds}"


def test_what_was_changed_or_deleted_there_is_put_right_by_the_schedule(bucket):
    tasks.publish_copy()
    bucket.put_object(Bucket="my-issuer", Key="daypass/.well-known/jwks.json", Body=b"{}")
    bucket.delete_object(Bucket="my-issuer", Key="daypass/.well-known/openid-configuration")

    tasks.publish_copy()

    found = bucket.get_object(Bucket="my-issuer", Key="daypass/.well-known/jwks.json")
    assert len(json.load(found["Body"])["keys"]) == 1
    assert bucket.get_object(Bucket="my-issuer", Key="daypass/.well-known/openid-configuration")


def test_a_bucket_that_is_not_there_is_told_with_its_remedy(bucket, settings):
    settings.DAYPASS_PUBLISH_TO = "s3://another-bucket?region=eu-west-1"

    with pytest.raises(AwsError) as caught:
        services.publish_copy(now=NOW)

    assert "There is no bucket another-bucket" in caught.value.cause
    kept = Publication.objects.get()
    assert "There is no bucket another-bucket" in kept.problem
    assert kept.held == {}


@pytest.mark.parametrize(
    ("region", "arn"),
    [
        ("eu-west-1", "arn:aws:s3:::my-issuer/*"),
        ("us-gov-east-1", "arn:aws-us-gov:s3:::my-issuer/*"),
        ("cn-north-1", "arn:aws-cn:s3:::my-issuer/*"),
        ("eusc-de-east-1", "arn:aws-eusc:s3:::my-issuer/*"),
    ],
)
def test_a_refused_copy_is_told_with_the_bucket_as_its_partition_names_it(
    bucket, settings, region, arn
):
    settings.DAYPASS_PUBLISH_TO = f"s3://my-issuer/daypass?region={region}"
    refusing = StandIn(
        lambda _: Answer(403, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
    )
    settings.DAYPASS_S3_ENDPOINT = refusing.url

    with pytest.raises(AwsError) as caught:
        services.publish_copy(now=NOW)

    refusing.stop()
    assert f"s3:PutObject on {arn}." in caught.value.remedy


def test_an_s3_that_does_not_answer_is_told(bucket, settings, monkeypatch):
    monkeypatch.setattr(s3, "TRIES", 1)
    settings.DAYPASS_S3_ENDPOINT = f"http://127.0.0.1:{free_port()}"

    with pytest.raises(AwsUnavailable) as caught:
        services.publish_copy(now=NOW)

    assert "did not answer" in caught.value.cause


@pytest.mark.parametrize(
    ("target", "read"),
    [
        ("file:///srv/issuer", Folder(Path("/srv/issuer"))),
        ("file:///srv/my%20issuer", Folder(Path("/srv/my issuer"))),
        ("s3://b/p/q?region=eu-west-1", Bucket("b", "p/q/", "eu-west-1")),
        ("s3://my.issuer/?region=eu-west-1", Bucket("my.issuer", "", "eu-west-1")),
    ],
)
def test_places_are_read(target, read):
    assert place(target) == read


@pytest.mark.parametrize(
    "target",
    [
        "/srv/issuer",
        "file://host/srv",
        "file:",
        "s3://b/p",
        "s3:///p?region=x",
        "https://b.example",
    ],
)
def test_what_is_no_place_is_refused(target):
    with pytest.raises(BadInput, match="DAYPASS_PUBLISH_TO"):
        place(target)


def test_without_a_place_nothing_is_written(signing_keys, settings):
    assert services.publish_copy(now=NOW) is None
    assert not Publication.objects.exists()


def test_the_schedule_takes_a_key_through_its_whole_life(folder, settings):
    first = SigningKey.objects.get(purpose=OIDC).kid
    began = SigningKey.objects.get(purpose=OIDC).signing_since
    states = []
    now = began
    while now < began + 93 * DAY:
        services.turn_keys(now=now)
        services.publish_copy(now=now)
        state = SigningKey.objects.get(kid=first).state
        if not states or states[-1][0] != state:
            states.append((state, now - began))
        now += timedelta(hours=6)

    assert states == [
        ("signing", timedelta()),
        ("retired", 90 * DAY),
        ("removed", 91 * DAY),
    ]
    following = SigningKey.objects.get(purpose=OIDC, state="signing")
    assert in_copy(folder) == [following.kid]
    assert SigningKey.objects.get(kid=first).private_sealed == ""
    assert {event.actor for event in AuditEvent.objects.filter(kind="key.state_changed")} == {
        "turn_keys"
    }


def test_a_key_does_not_sign_while_the_copy_cannot_be_written(folder):
    services.publish_copy(now=NOW)
    old = SigningKey.objects.get(purpose=OIDC, state="signing").kid
    new = keys.publish_next(OIDC, now=NOW, actor=BOB).kid
    break_folder(folder)

    for hours in range(0, 72, 6):
        with pytest.raises(NotPublished):
            services.publish_copy(now=NOW + timedelta(hours=hours))
        services.turn_keys(now=NOW + timedelta(hours=hours))
    with pytest.raises(BadInput, match="could not be written"):
        services.rotate(OIDC, now=NOW + 3 * DAY, actor=BOB)

    assert SigningKey.objects.get(kid=old).state == "signing"
    mend_folder(folder)
    services.publish_copy(now=NOW + 3 * DAY)
    services.turn_keys(now=NOW + 4 * DAY - timedelta(minutes=1))
    assert SigningKey.objects.get(kid=old).state == "signing"
    services.turn_keys(now=NOW + 4 * DAY)
    assert SigningKey.objects.get(kid=new).state == "signing"


def test_a_failure_is_recorded_once_however_long_it_lasts(folder):
    services.publish_copy(now=NOW)
    break_folder(folder)
    for _ in range(3):
        with pytest.raises(DaypassError):
            services.publish_copy(now=NOW)

    assert AuditEvent.objects.filter(kind="keys.not_published").count() == 1
    assert AuditEvent.objects.filter(kind="keys.published").count() == 1


def test_another_place_begins_its_day_anew(folder, settings, tmp_path):
    services.publish_copy(now=NOW)
    new = keys.publish_next(OIDC, now=NOW, actor=BOB).kid
    services.publish_copy(now=NOW)
    settings.DAYPASS_PUBLISH_TO = f"file://{tmp_path}/elsewhere"
    services.publish_copy(now=NOW + timedelta(hours=23))

    [planned] = queries.plan(OIDC)

    assert planned.kid == new
    assert planned.at == NOW + timedelta(hours=47)


def test_a_revoked_key_is_gone_from_the_copy_as_soon_as_it_is_written(folder):
    services.publish_copy(now=NOW)
    stolen = SigningKey.objects.get(purpose=OIDC).kid

    services.revoke(stolen, now=NOW, actor=BOB)
    services.publish_copy(now=NOW)

    assert stolen not in in_copy(folder)
    assert stolen not in Publication.objects.get().held


def test_the_command_that_revokes_does_not_leave_the_copy_to_the_worker(folder):
    services.publish_copy(now=NOW)
    stolen = SigningKey.objects.get(purpose=OIDC).kid

    call_command("signing_keys", "revoke", stolen, stdout=io.StringIO())

    assert stolen not in in_copy(folder)


def test_a_key_is_revoked_and_the_accounts_chores_told_although_the_copy_cannot_be_written(folder):
    make.role("Developer")
    services.publish_copy(now=NOW)
    stolen = SigningKey.objects.get(purpose=OIDC).kid
    break_folder(folder)
    out, err = io.StringIO(), io.StringIO()

    call_command("signing_keys", "revoke", stolen, stdout=out, stderr=err)

    assert "It is still in" in err.getvalue()
    assert "--role-name Developer" in out.getvalue()
    assert SigningKey.objects.get(kid=stolen).state == "revoked"


def test_a_key_that_is_revoked_while_the_older_set_is_written_does_not_come_back(
    folder, monkeypatch
):
    """Somebody else revokes it, and publishes that, between our reading and our writing."""
    stolen = SigningKey.objects.get(purpose=OIDC).kid
    put, writings = Folder.put, []

    def put_late(self: Folder, document: Document) -> None:
        if not writings:
            keys.revoke(stolen, now=NOW, actor=BOB)
        writings.append(document.path)
        put(self, document)

    monkeypatch.setattr(Folder, "put", put_late)

    services.publish_copy(now=NOW)

    assert in_copy(folder) == [SigningKey.objects.get(purpose=OIDC, state="signing").kid]
    assert len(writings) == 4


@pytest.mark.django_db(transaction=True)
def test_every_change_of_keys_has_the_copy_written_by_celery(folder, settings):
    from broker.celery import app

    app.conf.task_always_eager = True
    try:
        keys.publish_next(OIDC, now=timezone.now(), actor=BOB)
    finally:
        app.conf.task_always_eager = False

    assert len(in_copy(folder)) == 2


@pytest.fixture
def issuer_site(folder) -> Any:
    """A web server that serves the folder, as the company's does. `status`: what it answers with."""

    class Site(BaseHTTPRequestHandler):
        status = 200

        def do_GET(self) -> None:
            kept = folder / self.path.lstrip("/")
            body = kept.read_bytes() if kept.exists() else b""
            self.send_response(type(self).status if body else 404)
            self.send_header("Location", "https://elsewhere.example")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", Site
    server.shutdown()
    server.server_close()


def run(*words: str) -> str:
    out = io.StringIO()
    call_command("publish_keys", *words, stdout=out)
    return out.getvalue()


def test_the_command_writes_and_sees_that_the_issuer_answers_with_the_keys_of_now(
    issuer_site, settings
):
    settings.DAYPASS_ISSUER = issuer_site[0]

    assert "answers with the keys of now" in run()


def test_the_command_tells_when_something_else_is_answered(issuer_site, settings, folder):
    url, site = issuer_site
    settings.DAYPASS_ISSUER = url
    run()
    keys.publish_next(OIDC, now=timezone.now(), actor=BOB)
    settings.DAYPASS_PUBLISH_TO = ""
    with pytest.raises(CommandError, match="other keys"):
        run()
    site.status = 301
    with pytest.raises(CommandError, match="without a redirect"):
        run()
    site.status = 200
    (folder / ".well-known/jwks.json").write_text("<html>")
    with pytest.raises(CommandError, match="not answer with JSON"):
        run()
    (folder / ".well-known/openid-configuration").write_text('{"issuer": "https://evil.example"}')
    with pytest.raises(CommandError, match="not the discovery document of Daypass"):
        run()


def test_an_issuer_that_cannot_be_reached_from_here_is_no_failure(folder, settings):
    settings.DAYPASS_ISSUER = f"http://127.0.0.1:{free_port()}"

    assert "does not answer from here" in run()
    assert "Written to" in run("--no-check")


def test_the_command_fails_when_it_cannot_write(folder):
    folder.write_text("in the way")

    with pytest.raises(CommandError, match="cannot be written"):
        run()
