"""`aws login`: the token it gets, as botocore speaks it, and whom it is refused."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urljoin

import botocore.session
import jwt
import pytest
from botocore.credentials import _build_add_dpop_header_handler
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric import ec
from django.db import connection
from django.utils import timezone
from joserfc.jwk import ECKey

from broker.audit.models import AuditEvent
from broker.awssso import rules, services, signin
from broker.awssso.models import Terminal, TerminalPolicy, TerminalToken, UsedProof
from broker.entitlements.models import AwsRole, Mapping
from broker.sessions.models import Session
from tests import factories as make
from tests.aws.servers import SECRET, TOKEN, sts_answer, sts_error
from tests.awssso.conftest import AWS_CLI, Daypass, let_in, pkce, signed_in_terminal

crypto = pytest.importorskip("awscrt.crypto")

pytestmark = pytest.mark.usefixtures("signing_keys", "sts_stand_in")

MODEL = botocore.session.get_session().get_service_model("signin")
OPERATION = MODEL.operation_model("CreateOAuth2Token")
BACK = "http://127.0.0.1:40127/oauth/callback"
GRANTS = {"code": "authorization_code", "refreshToken": "refresh_token"}


# --- The client


def jwk_of(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    public: dict[str, str] = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    return public


@dataclass
class Client:
    """A program with a key of its own, that says what it likes. Its proofs are made by PyJWT."""

    daypass: Daypass
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    client_id: str = signin.SAME_DEVICE
    redirect_uri: str = BACK

    @property
    def thumbprint(self) -> str:
        return ECKey.import_key(jwk_of(self.key)).thumbprint()

    def proof(self, **changed: Any) -> str:
        claims = {
            "htm": "POST",
            "htu": f"{self.daypass.aws}/v1/token",
            "iat": int(timezone.now().timestamp()),
            "jti": str(uuid.uuid4()),
        } | changed
        headers = {"typ": "dpop+jwt", "jwk": jwk_of(self.key)}
        return jwt.encode(claims, self.key, algorithm="ES256", headers=headers)

    def ask(self, *, proof: str | None = None, query: str = "", **body: Any) -> Reply:
        """POST /aws/v1/token. The grant follows from what the body has."""
        whole = {"clientId": self.client_id, **body}
        for name, grant in GRANTS.items():
            if name in body:
                whole.setdefault("grantType", grant)
        if "code" in body:
            whole.setdefault("redirectUri", self.redirect_uri)
        return send(
            self.daypass,
            json.dumps({name: value for name, value in whole.items() if value is not None}),
            path=f"/aws/v1/token{query}",
            DPoP=self.proof() if proof is None else proof,
        )


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        return json.loads(self.raw)

    @property
    def told(self) -> tuple[str, str]:
        """The name of the error and its code."""
        return self.headers["x-amzn-errortype"], self.body["error"]


def send(
    daypass: Daypass,
    body: str,
    *,
    path: str = "/aws/v1/token",
    method: str = "POST",
    **headers: str,
) -> Reply:
    connection = http.client.HTTPConnection(daypass.url.removeprefix("http://"), timeout=30)
    sent = {"Content-Type": "application/json", "User-Agent": AWS_CLI, **headers}
    connection.request(method, path, body, {name: value for name, value in sent.items() if value})
    answer = connection.getresponse()
    found = Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    connection.close()
    check_fits(found)
    return found


def check_fits(reply: Reply) -> None:
    """Every answer is one of the service model: its members, lengths, patterns, numbers, and the error's status."""
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["x-amzn-requestid"]
    assert "set-cookie" not in reply.headers and "location" not in reply.headers
    if reply.status == 200:
        fits(reply.body, MODEL.shape_for("CreateOAuth2TokenResponseBody"))
        return
    name = reply.headers["x-amzn-errortype"]
    shape = next(shape for shape in OPERATION.error_shapes if shape.name == name)
    if reply.status not in (405, 413):  # plain HTTP, before it is this operation at all
        assert reply.status == shape.metadata.get("error", {}).get("httpStatusCode", 400)
    fits(reply.body, shape, extra={"error_description"})


def fits(value: Any, shape: Any, extra: frozenset[str] | set[str] = frozenset()) -> None:
    match shape.type_name:
        case "structure":
            names = {
                member.serialization.get("name", name) for name, member in shape.members.items()
            }
            assert set(value) - names - set(extra) == set()
            assert set(shape.required_members) <= set(value)
            for name, member in shape.members.items():
                if name in value:
                    fits(value[name], member)
        case "string":
            assert isinstance(value, str)
            assert shape.metadata.get("min", 0) <= len(value) <= shape.metadata.get("max", 10**6)
            assert re.fullmatch(shape.metadata.get("pattern", "(?s).*"), value)
            assert value in shape.metadata.get("enum", [value])
        case "integer":
            assert type(value) is int
            assert shape.metadata["min"] <= value <= shape.metadata["max"]
        case other:
            raise AssertionError(other)


# --- The stage


@pytest.fixture
def account(db):
    return make.account("Payments", account_id="111122223333", region="eu-west-1")


@pytest.fixture
def developer(ada, account) -> AwsRole:
    role = make.role("Developer", of=account, max_seconds=3600)
    make.mapping(ada.memberships.get().group, role)
    return role


@pytest.fixture
def client(daypass) -> Client:
    return Client(daypass)


def code_for(
    person, role: AwsRole, client: Client, *, flow: str = "browser", now=None, **more: Any
):
    """A terminal that the person let in for this role, its code, and the verifier that goes with it."""
    verifier, challenge = pkce()
    now = now or timezone.now()
    terminal = let_in(person, kind=Terminal.Kind.LOGIN, flow=flow, role_id=role.pk, now=now, **more)
    Terminal.objects.filter(pk=terminal.pk).update(client_digest=rules.digest(client.client_id))
    code = services.give_code(
        terminal, redirect_uri=client.redirect_uri, challenge=challenge, method="SHA-256", now=now
    )
    return terminal, code, verifier


def signed_in(person, role: AwsRole, client: Client, **more: Any) -> tuple[Terminal, str]:
    """A terminal that got its first keys, and its refresh token."""
    terminal, code, verifier = code_for(person, role, client, **more)
    reply = client.ask(code=code, codeVerifier=verifier)
    assert reply.status == 200, reply.raw
    return terminal, reply.body["refreshToken"]


# --- What is given


def test_a_code_gives_the_credentials_of_the_chosen_role(client, ada, developer, sts_stand_in):
    terminal, code, verifier = code_for(ada, developer, client)

    reply = client.ask(code=code, codeVerifier=verifier)

    assert reply.status == 200
    assert reply.body["accessToken"] == {
        "accessKeyId": "ASIAEXAMPLEEXAMPLE00",
        "secretAccessKey": SECRET,
        "sessionToken": TOKEN,
    }
    assert reply.body["tokenType"] == "aws_sigv4"
    asked = sts_stand_in.requests[-1].form
    assert (asked["RoleArn"], asked["DurationSeconds"]) == (developer.arn, "900")
    identity = jwt.decode(reply.body["idToken"], options={"verify_signature": False})
    assert identity["sub"] == "arn:aws:sts::111122223333:assumed-role/Developer/ada"
    kept = Terminal.objects.get(pk=terminal.pk)
    assert kept.key_thumbprint == client.thumbprint
    assert (kept.asked_from, kept.user_agent) == ("127.0.0.1", AWS_CLI)


def test_botocore_s_own_client_signs_in_and_renews(daypass, client, ada, developer):
    _, code, verifier = code_for(ada, developer, client)
    aws = daypass._client("signin", {})
    key = crypto.EC.new_generate(crypto.ECType.P_256)
    aws.meta.events.register(
        "before-call.signin.CreateOAuth2Token", _build_add_dpop_header_handler(key)
    )

    first = aws.create_o_auth2_token(
        tokenInput={
            "clientId": signin.SAME_DEVICE,
            "grantType": "authorization_code",
            "code": code,
            "codeVerifier": verifier,
            "redirectUri": BACK,
        }
    )["tokenOutput"]
    again = aws.create_o_auth2_token(
        tokenInput={
            "clientId": signin.SAME_DEVICE,
            "grantType": "refresh_token",
            "refreshToken": first["refreshToken"],
        }
    )["tokenOutput"]

    assert first["idToken"] and "idToken" not in again
    assert again["accessToken"]["secretAccessKey"] == SECRET
    assert again["refreshToken"] not in ("", first["refreshToken"])


def test_every_renewal_is_a_session_of_its_own_that_the_portal_shows(client, ada, developer):
    _, token = signed_in(ada, developer, client)
    client.ask(refreshToken=token)

    sessions = Session.objects.filter(person=ada)
    assert [one.client for one in sessions] == [AWS_CLI, AWS_CLI]
    assert {one.address for one in sessions} == {"127.0.0.1"}
    handed = AuditEvent.objects.filter(kind="hand_over.keys")
    assert handed.count() == 2


def test_the_keys_are_said_to_live_no_longer_than_they_do(client, ada, developer, sts_stand_in):
    _, code, verifier = code_for(ada, developer, client)
    sts_stand_in.will(lambda request: sts_answer(request, minutes=10))

    reply = client.ask(code=code, codeVerifier=verifier)

    assert 540 < reply.body["expiresIn"] <= 600


def test_no_secret_is_kept(client, ada, developer):
    _, code, verifier = code_for(ada, developer, client)
    reply = client.ask(code=code, codeVerifier=verifier)
    again = client.ask(refreshToken=reply.body["refreshToken"])

    kept = json.dumps(
        [
            list(rows.values())
            for rows in (
                Terminal.objects,
                TerminalToken.objects,
                AuditEvent.objects,
                Session.objects,
                UsedProof.objects,
            )
        ],
        default=str,
    )
    for secret in (
        code,
        verifier,
        SECRET,
        TOKEN,
        reply.body["refreshToken"],
        again.body["refreshToken"],
        reply.body["idToken"],
    ):
        assert secret not in kept


# --- A real session of the AWS SDKs


@pytest.fixture
def home(tmp_path, monkeypatch, daypass):
    """A home with the profile and nothing else."""
    (tmp_path / "config").write_text(
        "[profile dev]\nregion = eu-west-1\nservices = daypass\nlogin_session = {session}\n"
        f"[services daypass]\nsignin =\n  endpoint_url = {daypass.aws}\n"
    )
    for name, value in {
        "HOME": tmp_path,
        "AWS_CONFIG_FILE": tmp_path / "config",
        "AWS_SHARED_CREDENTIALS_FILE": tmp_path / "credentials",
        "AWS_LOGIN_CACHE_DIRECTORY": tmp_path / "login",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, str(value))
    return tmp_path


def leave_login(home, client: Client, reply: Reply, *, expires_in: int) -> Any:
    """What `aws login` leaves behind: the cache file, and the profile's login_session."""
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    identity = jwt.decode(reply.body["idToken"], options={"verify_signature": False})["sub"]
    config = home / "config"
    config.write_text(config.read_text().replace("{session}", identity))
    cache = home / "login" / f"{hashlib.sha256(identity.encode()).hexdigest()}.json"
    cache.parent.mkdir()
    expires = timezone.now() + timedelta(seconds=expires_in)
    cache.write_text(
        json.dumps(
            {
                "accessToken": {
                    **reply.body["accessToken"],
                    "accountId": identity.split(":")[4],
                    "expiresAt": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
                },
                "tokenType": "aws_sigv4",
                "refreshToken": reply.body["refreshToken"],
                "identityToken": reply.body["idToken"],
                "clientId": client.client_id,
                "dpopKey": client.key.private_bytes(
                    Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
                ).decode(),
            }
        )
    )
    return cache


def test_boto3_reads_a_login_and_renews_it_by_itself(home, client, ada, developer, sts_stand_in):
    import boto3

    _, code, verifier = code_for(ada, developer, client)
    reply = client.ask(code=code, codeVerifier=verifier)
    cache = leave_login(home, client, reply, expires_in=60)
    calls = len(sts_stand_in.requests)

    session = boto3.session.Session(profile_name="dev")
    keys = session.get_credentials().get_frozen_credentials()

    assert keys.secret_key == SECRET
    assert len(sts_stand_in.requests) == calls + 1
    renewed = json.loads(cache.read_text())
    assert renewed["refreshToken"] != reply.body["refreshToken"]
    assert session.get_credentials().account_id == "111122223333"


def test_boto3_tells_its_user_to_sign_in_again_when_the_login_is_over(home, client, ada, developer):
    import boto3
    from botocore.exceptions import LoginRefreshRequired

    terminal, code, verifier = code_for(ada, developer, client)
    reply = client.ask(code=code, codeVerifier=verifier)
    leave_login(home, client, reply, expires_in=60)
    services.end(
        terminal.pk,
        because=Terminal.Ended.PERSON,
        actor=services_actor(),
        now=timezone.now(),
    )

    with pytest.raises(LoginRefreshRequired, match="reauthenticate using 'aws login'"):
        boto3.session.Session(profile_name="dev").get_credentials().get_frozen_credentials()


def services_actor():
    from broker.audit.services import Actor

    return Actor.task("tests")


# --- The proof


def test_a_proof_counts_once(client, ada, developer, sts_stand_in):
    _, token = signed_in(ada, developer, client)
    proof = client.proof()
    assert client.ask(refreshToken=token, proof=proof).status == 200
    calls = len(sts_stand_in.requests)

    reply = client.ask(refreshToken=token, proof=proof)

    assert reply.told == ("ValidationException", "INVALID_REQUEST")
    assert len(sts_stand_in.requests) == calls


def test_another_key_is_refused_and_the_login_goes_on(client, ada, developer, daypass):
    _, token = signed_in(ada, developer, client)
    thief = Client(daypass)

    reply = thief.ask(refreshToken=token)

    assert reply.told == ("AccessDeniedException", "USER_CREDENTIALS_CHANGED")
    assert "another key" in reply.body["message"]
    assert client.ask(refreshToken=token).status == 200


def test_the_sdks_for_ruby_and_net_renew_though_they_sign_for_the_address_without_its_path(
    client, ada, developer, daypass
):
    _, token = signed_in(ada, developer, client)
    joined = urljoin(daypass.aws, "/v1/token")  # as Ruby's URI.join, and .NET's UriBuilder.Path

    reply = client.ask(refreshToken=token, proof=client.proof(htu=joined))

    assert joined == f"{daypass.url}/v1/token"
    assert reply.status == 200


@pytest.mark.parametrize(
    "changed",
    [
        {"htu": "https://signin.aws.amazon.com/v1/token"},
        {"htu": "http://127.0.0.1/aws/v1/token"},
        {"htu": "http://127.0.0.1/v1/token"},
        {"htm": "GET"},
        {"jti": ""},
        {"iat": 0},
    ],
)
def test_a_proof_for_something_else_gives_nothing(client, ada, developer, sts_stand_in, changed):
    _, code, verifier = code_for(ada, developer, client)

    reply = client.ask(code=code, codeVerifier=verifier, proof=client.proof(**changed))

    assert reply.told == ("ValidationException", "INVALID_REQUEST")
    assert sts_stand_in.requests == []
    assert client.ask(code=code, codeVerifier=verifier).status == 200


@pytest.mark.parametrize("proof", ["", "a.b.c", "Bearer x"])
def test_without_a_proof_nothing_is_given(client, ada, developer, sts_stand_in, proof):
    _, code, verifier = code_for(ada, developer, client)

    reply = client.ask(code=code, codeVerifier=verifier, proof=proof)

    assert reply.told == ("ValidationException", "INVALID_REQUEST")
    assert sts_stand_in.requests == []


def test_a_wrong_clock_is_said_to_be_the_reason(client, ada, developer):
    _, token = signed_in(ada, developer, client)
    old = client.proof(iat=int(timezone.now().timestamp()) - 3600)

    assert "clock" in client.ask(refreshToken=token, proof=old).body["message"]


# --- The code


@pytest.mark.parametrize(
    "changed",
    [
        {"codeVerifier": "w" * 64},
        {"redirectUri": "http://127.0.0.1:40128/oauth/callback"},
        {"redirectUri": "http://127.0.0.1:40127/oauth/callback/"},
        {"clientId": signin.CROSS_DEVICE},
        {"code": "daypass_code_guessed"},
    ],
)
def test_a_code_of_somebody_else_gives_nothing(client, ada, developer, sts_stand_in, changed):
    _, code, verifier = code_for(ada, developer, client)

    reply = client.ask(**{"code": code, "codeVerifier": verifier, **changed})

    assert reply.told == ("AccessDeniedException", "AUTHCODE_EXPIRED")
    assert sts_stand_in.requests == []
    assert client.ask(code=code, codeVerifier=verifier).status == 200


def test_a_code_is_good_for_a_minute(client, ada, developer, sts_stand_in):
    then = timezone.now() - timedelta(seconds=61)
    _, code, verifier = code_for(ada, developer, client, now=then)

    reply = client.ask(code=code, codeVerifier=verifier)

    assert reply.told == ("AccessDeniedException", "AUTHCODE_EXPIRED")
    assert sts_stand_in.requests == []


def test_a_code_that_comes_twice_ends_the_login(client, ada, developer, sts_stand_in):
    terminal, code, verifier = code_for(ada, developer, client)
    token = client.ask(code=code, codeVerifier=verifier).body["refreshToken"]
    calls = len(sts_stand_in.requests)

    reply = client.ask(code=code, codeVerifier=verifier)

    assert reply.told == ("AccessDeniedException", "AUTHCODE_EXPIRED")
    assert Terminal.objects.get(pk=terminal.pk).ended_because == Terminal.Ended.REUSED
    assert client.ask(refreshToken=token).told[1] == "TOKEN_EXPIRED"
    assert len(sts_stand_in.requests) == calls


def test_where_aws_fails_the_very_same_request_may_come_again(client, ada, developer, sts_stand_in):
    """Clients repeat a request that got a 500, with its code and its proof."""
    _, code, verifier = code_for(ada, developer, client)
    proof = client.proof()
    sts_stand_in.will(*[sts_error("AccessDenied", status=403)] * 1)

    failed = client.ask(code=code, codeVerifier=verifier, proof=proof)
    again = client.ask(code=code, codeVerifier=verifier, proof=proof)

    assert failed.told == ("InternalServerException", "server_error")
    assert again.status == 200


# --- The refresh token


def test_a_refresh_token_that_comes_late_a_second_time_ends_the_login(
    client, ada, developer, sts_stand_in
):
    terminal, token = signed_in(ada, developer, client)
    assert client.ask(refreshToken=token).status == 200
    past = timezone.now() - timedelta(seconds=61)
    TerminalToken.objects.filter(digest=rules.digest(token)).update(used_at=past)
    calls = len(sts_stand_in.requests)

    reply = client.ask(refreshToken=token)

    assert reply.told == ("AccessDeniedException", "TOKEN_EXPIRED")
    assert Terminal.objects.get(pk=terminal.pk).ended_because == Terminal.Ended.REUSED
    assert len(sts_stand_in.requests) == calls


def test_processes_side_by_side_are_all_served(client, ada, developer):
    _, token = signed_in(ada, developer, client)

    replies = [client.ask(refreshToken=token) for _ in range(4)]

    assert [reply.status for reply in replies] == [200] * 4
    assert len({reply.body["refreshToken"] for reply in replies}) == 4
    assert client.ask(refreshToken=replies[0].body["refreshToken"]).status == 200


def test_too_many_processes_at_once_are_not_told_that_the_login_is_over(
    client, ada, developer, monkeypatch
):
    _, token = signed_in(ada, developer, client)
    monkeypatch.setattr(rules, "SIBLINGS", 2)
    others = [client.ask(refreshToken=token) for _ in range(2)]

    reply = client.ask(refreshToken=token)

    assert reply.told == ("TooManyRequestsError", "rate_exceeded")
    assert "at once" in reply.body["message"]
    assert client.ask(refreshToken=others[0].body["refreshToken"]).status == 200


def test_a_renewal_that_failed_costs_the_client_nothing(client, ada, developer, sts_stand_in):
    _, token = signed_in(ada, developer, client)
    sts_stand_in.will(sts_error("AccessDenied", status=403))
    assert client.ask(refreshToken=token).status == 500

    kept = TerminalToken.objects.get(digest=rules.digest(token))
    assert kept.used_at is None
    assert client.ask(refreshToken=token).status == 200


def test_a_login_that_ends_while_aws_is_asked_gets_nothing(client, ada, developer, sts_stand_in):
    terminal, token = signed_in(ada, developer, client)
    issued = set(Session.objects.values_list("pk", flat=True))

    def end_it(request):
        Terminal.objects.filter(pk=terminal.pk).update(
            ended_at=timezone.now(), ended_because="person"
        )
        connection.close()
        return sts_answer(request)

    sts_stand_in.will(end_it)

    reply = client.ask(refreshToken=token)

    assert (reply.status, reply.body["error"]) == (400, "TOKEN_EXPIRED")
    assert SECRET not in json.dumps(reply.body)
    assert Session.objects.exclude(pk__in=issued).get().state == "revoked"


def test_the_record_of_a_renewal_names_the_terminal(client, ada, developer):
    terminal, token = signed_in(ada, developer, client)
    client.ask(refreshToken=token)

    told = AuditEvent.objects.filter(kind="role.authorised").latest("seq")

    assert told.data["terminal"] == str(terminal.pk)


def test_tokens_of_the_sso_sign_in_open_nothing_here_nor_the_reverse(
    daypass, client, ada, developer
):
    _, tokens, registration, secret = signed_in_terminal(ada)
    _, mine = signed_in(ada, developer, client)

    assert client.ask(refreshToken=tokens.refresh).told[1] == "TOKEN_EXPIRED"
    assert client.ask(refreshToken=tokens.access).told[1] == "TOKEN_EXPIRED"
    with pytest.raises(ClientError, match="InvalidGrantException"):
        daypass.oidc().create_token(
            clientId=registration.id,
            clientSecret=secret,
            grantType="refresh_token",
            refreshToken=mine,
        )
    assert client.ask(refreshToken=mine).status == 200


# --- The person and the rules, anew every time


@pytest.mark.parametrize("how", ["inactive", "epoch", "provider", "ended", "line"])
def test_whoever_may_not_use_daypass_any_more_gets_nothing(
    client, ada, developer, sts_stand_in, how
):
    terminal, token = signed_in(ada, developer, client)
    calls = len(sts_stand_in.requests)
    match how:
        case "inactive":
            type(ada).objects.filter(pk=ada.pk).update(is_active=False)
        case "epoch":
            type(ada).objects.filter(pk=ada.pk).update(epoch=ada.epoch + 1)
        case "provider":
            type(ada.provider).objects.filter(pk=ada.provider_id).update(enabled=False)
        case "ended":
            services.end(
                terminal.pk,
                because=Terminal.Ended.PERSON,
                actor=services_actor(),
                now=timezone.now(),
            )
        case "line":
            services.end_lines([terminal.line], timezone.now())

    reply = client.ask(refreshToken=token)

    assert reply.told == ("AccessDeniedException", "TOKEN_EXPIRED")
    assert len(sts_stand_in.requests) == calls


def test_a_mapping_that_is_taken_away_counts_at_once(client, ada, developer, sts_stand_in):
    _, token = signed_in(ada, developer, client)
    calls = len(sts_stand_in.requests)
    Mapping.objects.all().delete()

    reply = client.ask(refreshToken=token)

    assert reply.told == ("AccessDeniedException", "INSUFFICIENT_PERMISSIONS")
    assert "Developer" not in reply.body["message"]
    assert len(sts_stand_in.requests) == calls


def test_a_refusal_says_its_reason_and_costs_the_client_nothing(client, ada, developer):
    _, token = signed_in(ada, developer, client)
    Mapping.objects.update(networks=["203.0.113.0/24"])

    reply = client.ask(refreshToken=token)

    assert reply.told == ("AccessDeniedException", "INSUFFICIENT_PERMISSIONS")
    assert "203.0.113.0/24" in reply.body["message"]
    Mapping.objects.update(networks=[])
    assert client.ask(refreshToken=token).status == 200


def test_where_a_new_sign_in_helps_the_client_is_told_to_sign_in(client, ada, developer):
    _, token = signed_in(ada, developer, client)
    Mapping.objects.update(require_mfa=True)

    reply = client.ask(refreshToken=token)

    assert reply.told == ("AccessDeniedException", "TOKEN_EXPIRED")
    assert "aws login" in reply.body["message"]


# --- Another computer


@pytest.fixture
def remote(daypass) -> Client:
    there = f"{daypass.url}/v1/sessions/confirmation"
    return Client(daypass, client_id=signin.CROSS_DEVICE, redirect_uri=there)


def test_another_computer_gets_keys_with_the_code_that_was_carried_there(remote, ada, developer):
    terminal, token = signed_in(ada, developer, remote, flow="device")

    assert Terminal.objects.get(pk=terminal.pk).asked_from == "127.0.0.1"
    assert remote.ask(refreshToken=token).status == 200


def test_another_computer_gets_no_sensitive_role(remote, ada, developer, sts_stand_in):
    AwsRole.objects.update(sensitive=True)
    _, code, verifier = code_for(ada, developer, remote, flow="device")

    reply = remote.ask(code=code, codeVerifier=verifier)

    assert reply.told == ("AccessDeniedException", "INSUFFICIENT_PERMISSIONS")
    assert sts_stand_in.requests == []


def test_another_computer_has_to_be_in_an_allowed_network(remote, ada, developer, sts_stand_in):
    _, code, verifier = code_for(ada, developer, remote, flow="device")
    TerminalPolicy.objects.create(device_networks=["198.51.100.0/24"])

    reply = remote.ask(code=code, codeVerifier=verifier)

    assert reply.told == ("AccessDeniedException", "INSUFFICIENT_PERMISSIONS")
    assert "127.0.0.1" in reply.body["message"]
    assert sts_stand_in.requests == []


def test_codes_that_are_switched_off_end_what_they_let_in_but_no_other(
    remote, client, ada, developer
):
    _, by_code = signed_in(ada, developer, remote, flow="device")
    _, by_browser = signed_in(ada, developer, client)
    TerminalPolicy.objects.create(device_codes=False)

    assert remote.ask(refreshToken=by_code).status == 400
    assert client.ask(refreshToken=by_browser).status == 200


# --- The wire


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "text",
        '{"clientId":',
        "{}",
        '{"clientId": 7}',
        '{"clientId": "arn:aws:signin:::devtools/other"}',
        json.dumps({"clientId": "x" * 5000}),
        "[" * 10_000,
    ],
)
def test_what_is_no_request_is_answered_in_the_protocol(daypass, body):
    reply = send(daypass, body, DPoP="a.b.c")

    assert reply.told == ("ValidationException", "INVALID_REQUEST")
    assert reply.body["message"]


@pytest.mark.parametrize(
    "grant", ["client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange", "password"]
)
def test_other_grants_are_refused(client, grant):
    reply = client.ask(grantType=grant, code="x")

    assert reply.told == ("ValidationException", "unsupported_grant_type")


@pytest.mark.parametrize("missing", ["code", "codeVerifier", "redirectUri"])
def test_a_code_needs_everything_that_goes_with_it(client, missing):
    body = {"code": "x", "codeVerifier": "v" * 43, "redirectUri": BACK} | {missing: None}

    reply = client.ask(grantType="authorization_code", **body)

    assert reply.told == ("ValidationException", "INVALID_REQUEST")
    assert missing in reply.body["message"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_only_post_is_answered(daypass, method):
    reply = send(daypass, "", method=method)

    assert reply.status == 405
    assert reply.told == ("ValidationException", "INVALID_REQUEST")


def test_too_much_is_refused_in_the_protocol(daypass):
    assert send(daypass, json.dumps({"clientId": "x" * 70_000})).status == 413


def test_too_often_is_refused_with_how_long_to_wait(daypass, monkeypatch):
    from broker.awssso import signin_views

    monkeypatch.setattr(signin_views, "TOKENS", 2)
    replies = [send(daypass, "{}") for _ in range(3)]

    assert replies[-1].told == ("TooManyRequestsError", "rate_exceeded")
    assert replies[-1].headers["retry-after"] == "60"


def test_proofs_of_nobody_are_not_kept(client):
    for _ in range(3):
        client.ask(refreshToken="daypass_refresh_guessed")
        client.ask(code="daypass_code_guessed", codeVerifier="v" * 43)

    assert UsedProof.objects.count() == 0


def test_used_proofs_are_forgotten_when_they_are_too_old_anyway(client, ada, developer):
    signed_in(ada, developer, client)
    assert UsedProof.objects.count() == 1

    services.clear(timezone.now() + timedelta(minutes=2))
    assert UsedProof.objects.count() == 1
    services.clear(timezone.now() + timedelta(hours=2))
    assert UsedProof.objects.count() == 0
