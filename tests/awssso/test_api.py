"""The sso portal as botocore speaks it: every answer fits the service model, every refusal says what to do."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode

import boto3
import botocore.session
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from django.db import connection
from django.utils import timezone

from accounts.models import Person
from broker.audit.models import AuditEvent
from broker.awssso import api, services
from broker.awssso.models import Terminal, TerminalToken
from broker.entitlements.models import Mapping, MappingRole
from broker.sessions.models import Session
from tests import factories as make
from tests.aws.servers import SECRET, TOKEN, Answer, sts_answer, sts_error
from tests.awssso.conftest import AWS_CLI, let_in, signed_in_terminal

pytestmark = pytest.mark.usefixtures("signing_keys")

MOTO = "123456789012"
MODEL = botocore.session.get_session().get_service_model("sso")
HEADER = "x-amz-sso_bearer_token"


@dataclass
class Raw:
    """An answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def fault(self) -> str:
        return self.headers["x-amzn-errortype"]

    @property
    def message(self) -> str:
        return json.loads(self.body)["message"]


def raw(daypass, path: str, token: str | None, *, method: str = "GET", **headers: str) -> Raw:
    """One request over HTTP, with an answer that is taken as it is."""
    connection = http.client.HTTPConnection(daypass.url.removeprefix("http://"), timeout=30)
    sent = {**headers, **({HEADER: token} if token is not None else {})}
    connection.request(method, path, headers=sent)
    answer = connection.getresponse()
    found = Raw(
        answer.status,
        {name.lower(): value for name, value in answer.getheaders()},
        answer.read(),
    )
    connection.close()
    return found


PATHS = {
    "ListAccounts": "/aws/assignment/accounts",
    "ListAccountRoles": "/aws/assignment/roles",
    "GetRoleCredentials": "/aws/federation/credentials",
}


def ask(daypass, operation: str, token: str | None, **parameters: Any) -> Raw:
    """Ask, and hold whatever comes against the service model."""
    found = raw(daypass, f"{PATHS[operation]}?{urlencode(parameters)}", token)
    fits(operation, found)
    return found


def fits(operation: str, found: Raw) -> None:
    model = MODEL.operation_model(operation)
    assert found.headers["content-type"] == "application/json"
    assert found.headers["cache-control"] == "no-store"
    assert len(found.headers["x-amzn-requestid"]) >= 8
    assert "set-cookie" not in found.headers
    body = json.loads(found.body)
    if found.status == 200:
        fits_shape(model.output_shape, body)
        return
    assert set(body) == {"message"}
    assert isinstance(body["message"], str) and body["message"].endswith(".")
    shapes = {one.name: one.metadata["error"]["httpStatusCode"] for one in model.error_shapes}
    beside = {"ForbiddenException": 403, "InternalServerException": 503}
    assert (shapes | beside)[found.fault] == found.status


def fits_shape(shape: Any, value: Any) -> None:
    """No member that the model has not, and each of its type: what strict readers such as Go's insist on."""
    match shape.type_name:
        case "structure":
            assert set(value) <= set(shape.members)
            for name, member in value.items():
                fits_shape(shape.members[name], member)
        case "list":
            assert isinstance(value, list)
            for one in value:
                fits_shape(shape.member, one)
        case "string":
            assert isinstance(value, str) and value
        case "long":
            assert type(value) is int
        case other:
            raise AssertionError(other)


@pytest.fixture
def group(ada):
    return ada.memberships.get().group


@pytest.fixture
def payments():
    return make.account("Payments", account_id=MOTO, region="eu-west-1")


@pytest.fixture
def developer(group, payments):
    """A role of ada's, in the account that moto knows."""
    role = make.role("Developer", of=payments)
    make.mapping(group, role)
    return role


def signed_in(person: Person, **more: Any) -> str:
    """The access token of a terminal that the person let in."""
    return signed_in_terminal(person, **more)[1].access


@pytest.fixture
def at_moto(aws, settings):
    """A real STS of moto's; its address."""
    settings.DAYPASS_STS_ENDPOINT = aws.url
    return aws.url


@pytest.fixture
def token(ada):
    return signed_in(ada)


# --- GetRoleCredentials


def test_botocore_gets_keys_that_work_and_aws_names_role_and_session(
    daypass, ada, developer, token, at_moto
):
    given = daypass.sso().get_role_credentials(
        roleName="Developer", accountId=MOTO, accessToken=token
    )["roleCredentials"]

    caller = boto3.client(
        "sts",
        region_name="eu-west-1",
        endpoint_url=at_moto,
        aws_access_key_id=given["accessKeyId"],
        aws_secret_access_key=given["secretAccessKey"],
        aws_session_token=given["sessionToken"],
    ).get_caller_identity()
    session = Session.objects.get()
    assert caller["Account"] == MOTO
    assert caller["Arn"].endswith(f":assumed-role/Developer/{session.session_name}")
    assert session.person_id == ada.pk
    assert session.session_name.startswith("ada")
    assert given["expiration"] == int(session.expires_at.timestamp() * 1000)


def test_an_unmodified_profile_gets_its_keys_and_says_who_asks(
    daypass, ada, developer, token, sts_stand_in, tmp_path
):
    """As boto3 finds them: config file, cached token, and nothing of ours."""
    cache = tmp_path / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    name = hashlib.sha1(b"daypass").hexdigest()
    (cache / f"{name}.json").write_text(
        json.dumps(
            {
                "startUrl": f"{daypass.url}/start",
                "region": "broker",
                "accessToken": token,
                "expiresAt": (timezone.now() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )
    )
    (tmp_path / ".aws" / "config").write_text(
        f"""[sso-session daypass]
sso_start_url = {daypass.url}/start
sso_region = broker
[services daypass]
sso =
  endpoint_url = {daypass.aws}
[profile dev]
sso_session = daypass
sso_account_id = {MOTO}
sso_role_name = Developer
region = eu-west-1
services = daypass
"""
    )
    program = (
        "import boto3; k = boto3.Session(profile_name='dev').get_credentials().get_frozen_credentials();"
        "print(k.secret_key, k.token)"
    )

    said = subprocess.run(
        [sys.executable, "-c", program],
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )

    assert said.stdout.split() == [SECRET, TOKEN], said.stderr
    assert Session.objects.get().client.startswith("Boto3/")


def test_the_answer_counts_whole_milliseconds_and_fits_the_model(
    daypass, developer, token, sts_stand_in
):
    found = ask(daypass, "GetRoleCredentials", token, role_name="Developer", account_id=MOTO)

    keys = json.loads(found.body)["roleCredentials"]
    assert found.status == 200
    assert set(keys) == {"accessKeyId", "secretAccessKey", "sessionToken", "expiration"}
    assert (keys["secretAccessKey"], keys["sessionToken"]) == (SECRET, TOKEN)
    left = keys["expiration"] / 1000 - timezone.now().timestamp()
    assert 3000 < left <= 3600
    assert b'"expiration":1' in found.body and b"e+" not in found.body


def test_each_ask_is_a_recorded_session_that_names_client_terminal_and_number(
    daypass, ada, developer, token, sts_stand_in
):
    terminal = Terminal.objects.get()
    asked = [
        raw(
            daypass,
            f"{PATHS['GetRoleCredentials']}?role_name=Developer&account_id={MOTO}",
            token,
            **{"User-Agent": AWS_CLI},
        )
        for _ in range(2)
    ]

    assert [one.status for one in asked] == [200, 200]
    assert {one.client for one in Session.objects.all()} == {AWS_CLI}
    assert Session.objects.count() == len(sts_stand_in.requests) == 2
    handed = AuditEvent.objects.filter(kind="hand_over.keys").order_by("seq")
    assert [one.reference for one in handed] == [one.headers["x-amzn-requestid"] for one in asked]
    assert {one.data["terminal"] for one in handed} == {str(terminal.pk)}
    assert {one.data["client"] for one in handed} == {AWS_CLI}
    kept = " ".join(str(one.data) for one in AuditEvent.objects.all())
    assert SECRET not in kept and TOKEN not in kept and token not in kept


@pytest.mark.parametrize("name", ["Dev+Ops", "dev@home", "a=b,c", "x.y_z-1"])
@pytest.mark.parametrize("plus", [True, False], ids=["form", "percent"])
def test_role_names_are_read_however_a_client_encodes_them(
    daypass, group, payments, token, sts_stand_in, name, plus
):
    make.mapping(group, make.role(name, of=payments))
    query = urlencode({"role_name": name, "account_id": MOTO}, safe="" if plus else "@,=")

    found = raw(daypass, f"{PATHS['GetRoleCredentials']}?{query}", token)

    assert found.status == 200


# --- What is not theirs


def test_a_role_that_is_not_theirs_and_one_that_is_not_look_the_same(
    daypass, ada, developer, payments, token, sts_stand_in
):
    make.mapping(make.group(), make.role("Secret", of=payments))
    elsewhere = make.role("Developer", of=make.account("Other"))
    asked = [("Secret", MOTO), ("Nothing", MOTO), ("developer", MOTO), ("Developer", "9" * 12)]
    asked.append(("Developer", elsewhere.account.account_id))

    answers = [
        ask(daypass, "GetRoleCredentials", token, role_name=role, account_id=account)
        for role, account in asked
    ]

    assert {one.status for one in answers} == {404}
    assert {one.fault for one in answers} == {"ResourceNotFoundException"}
    assert len({one.body for one in answers}) == 1
    assert daypass.url in answers[0].message
    assert sts_stand_in.requests == []
    assert not Session.objects.exists()


def test_two_people_get_their_own(daypass, ada, developer, payments, sts_stand_in):
    bob = make.person("bob", groups=[make.group("billing")])
    make.mapping(bob.memberships.get().group, make.role("Billing", of=payments))
    tokens = {"ada": signed_in(ada), "bob": signed_in(bob)}
    seen = {
        who: [
            ask(daypass, "GetRoleCredentials", token, role_name=role, account_id=MOTO).status
            for role in ("Developer", "Billing")
        ]
        for who, token in tokens.items()
    }

    assert seen == {"ada": [200, 404], "bob": [404, 200]}


def test_a_mapping_that_was_removed_is_refused_on_the_very_next_call(
    daypass, developer, token, sts_stand_in
):
    asked = {"role_name": "Developer", "account_id": MOTO}
    before = ask(daypass, "GetRoleCredentials", token, **asked)
    MappingRole.objects.all().delete()
    Mapping.objects.all().delete()

    after = ask(daypass, "GetRoleCredentials", token, **asked)

    assert (before.status, after.status) == (200, 404)


def test_a_terminal_for_one_role_has_no_other(daypass, ada, group, developer, payments, at_moto):
    make.mapping(group, make.role("Reader", of=payments))
    token = signed_in(ada, role_id=developer.pk)
    statuses = {
        role: ask(daypass, "GetRoleCredentials", token, role_name=role, account_id=MOTO).status
        for role in ("Developer", "Reader")
    }
    listed = json.loads(ask(daypass, "ListAccountRoles", token, account_id=MOTO).body)

    assert statuses == {"Developer": 200, "Reader": 404}
    assert listed["roleList"] == [{"roleName": "Developer", "accountId": MOTO}]


# --- Refusals that say what to do


@pytest.mark.parametrize(
    ("limits", "of_role", "flow", "words"),
    [
        ({"require_mfa": True}, {}, "browser", ["second factor", "/sign-in/", "`aws sso login`"]),
        ({"max_sign_in_age": 60}, {}, "browser", ["1 minute", "/sign-in/", "`aws sso login`"]),
        ({"networks": ["192.0.2.0/24"]}, {}, "browser", ["192.0.2.0/24 only", "VPN"]),
        ({"allow_keys": False}, {}, "browser", ["not with keys", "/roles/"]),
        ({}, {"sensitive": True}, "device", ["sensitive", "by a code", "--use-device-code"]),
        ({"max_seconds": 900, "session_tags": {"T": "team"}}, {}, "browser", ["team", "number"]),
    ],
    ids=["mfa", "age", "network", "console only", "device code", "administrators"],
)
def test_a_refusal_of_a_role_of_theirs_is_forbidden_and_says_the_way_out(
    daypass, ada, group, payments, sts_stand_in, limits, of_role, flow, words
):
    make.mapping(group, make.role("Admin", of=payments, **of_role), **limits)
    token = signed_in(ada, flow=flow, now=timezone.now() - timedelta(minutes=5))

    found = ask(daypass, "GetRoleCredentials", token, role_name="Admin", account_id=MOTO)

    assert (found.status, found.fault) == (403, "ForbiddenException")
    for word in words:
        assert word in found.message
    if "number" in words:
        assert found.headers["x-amzn-requestid"] in found.message
    refused = AuditEvent.objects.get(kind="role.refused")
    assert refused.data["door"] == ("device_code" if flow == "device" else "terminal")
    assert sts_stand_in.requests == []


def test_botocore_shows_the_sentence_of_a_refusal(daypass, group, payments, token, sts_stand_in):
    role = make.role("Frozen", of=payments)
    make.mapping(group, role)
    make.deny(group=group, role=role, reason="Audit until Friday")

    with pytest.raises(ClientError) as refused:
        daypass.sso().get_role_credentials(roleName="Frozen", accountId=MOTO, accessToken=token)

    error = refused.value.response["Error"]
    assert error["Code"] == "ForbiddenException"
    assert error["Message"].startswith("A rule forbids this: Audit until Friday.")


def test_a_sensitive_role_is_given_to_a_client_that_a_browser_let_in(
    daypass, ada, group, payments, sts_stand_in
):
    make.mapping(group, make.role("Admin", of=payments, sensitive=True))
    asked = {"role_name": "Admin", "account_id": MOTO}
    by_browser = ask(daypass, "GetRoleCredentials", signed_in(ada), **asked)
    by_code = ask(daypass, "GetRoleCredentials", signed_in(ada, flow="device"), **asked)

    assert (by_browser.status, by_code.status) == (200, 403)


@pytest.mark.parametrize("step", [one.value for one in api.NextStep])
@pytest.mark.parametrize("kind", Terminal.Kind.values)
def test_every_next_step_has_words_for_every_kind_of_terminal(db, developer, step, kind):
    refused = api.Refused("x", "No.", api.NextStep(step), visible=True, reasons=())
    asked = api.Ask(developer.pk, "keys")

    failure = api.refusal(refused, asked, Terminal(kind=kind), "ABCD2345")

    assert failure.http_status == 403
    assert failure.message.startswith("No. ")
    assert failure.message.endswith(".")
    again = {"sso": "`aws sso login`", "login": "`aws login`", "script": "/terminal/"}[kind]
    assert (again in failure.message) or step not in ("sign_in_again", "use_mfa")


# --- Tokens


def unauthorized(daypass, token: str | None) -> str:
    """That nothing is given for this token, at any of the doors; the message."""
    answers = [
        ask(daypass, "ListAccounts", token),
        ask(daypass, "ListAccountRoles", token, account_id=MOTO),
        ask(daypass, "GetRoleCredentials", token, role_name="Developer", account_id=MOTO),
    ]
    assert [(one.status, one.fault) for one in answers] == [(401, "UnauthorizedException")] * 3
    assert len({one.body for one in answers}) == 1
    return answers[0].message


def test_without_the_header_the_message_says_that_something_dropped_it(daypass, developer):
    assert HEADER in unauthorized(daypass, None)


@pytest.mark.parametrize("kind", ["made up", "long", "refresh", "script", "of a code"])
def test_no_other_kind_of_token_is_a_bearer_s(daypass, ada, developer, kind, sts_stand_in):
    terminal, tokens, _, _ = signed_in_terminal(ada)
    now = timezone.now()
    wrong = {
        "made up": "daypass-made-up",
        "long": "x" * 5000,
        "refresh": tokens.refresh,
        "script": services.give_script_token(
            let_in(ada, kind="script", flow="portal"), seconds=3600, now=now
        ),
        "of a code": services.give_code(
            terminal,
            redirect_uri="http://127.0.0.1:1/oauth/callback",
            challenge="x" * 43,
            method="S256",
            now=now,
        ),
    }

    unauthorized(daypass, wrong[kind])
    assert sts_stand_in.requests == []


def test_a_token_that_is_over_is_not_taken(daypass, developer, token, sts_stand_in):
    TerminalToken.objects.update(expires_at=timezone.now())

    assert "again" in unauthorized(daypass, token)


@pytest.mark.parametrize("change", [{"is_active": False}, {"epoch": 3}], ids=str)
def test_somebody_who_was_cut_off_gets_the_answer_that_makes_clients_sign_in_again(
    daypass, ada, developer, token, sts_stand_in, change
):
    Person.objects.filter(pk=ada.pk).update(**change)

    unauthorized(daypass, token)
    assert Terminal.objects.get().ended_because == "shut"
    assert sts_stand_in.requests == []


@pytest.mark.parametrize("code", ["person_inactive", "access_ended", "provider_off"])
def test_what_ended_while_aws_was_asked_is_told_as_a_session_that_is_over(db, developer, code):
    refused = api.Refused(code, "It ended.", api.NextStep.SIGN_IN_AGAIN, visible=False, reasons=())

    failure = api.refusal(refused, api.Ask(developer.pk, "keys"), Terminal(), "ABCD2345")

    assert (failure.http_status, str(failure.fault)) == (401, "UnauthorizedException")


def test_a_terminal_that_ends_while_aws_is_asked_gets_nothing(
    daypass, developer, token, sts_stand_in
):
    def end_it(request):
        Terminal.objects.update(ended_at=timezone.now(), ended_because="person")
        connection.close()
        return sts_answer(request)

    sts_stand_in.will(end_it)

    found = ask(daypass, "GetRoleCredentials", token, role_name="Developer", account_id=MOTO)

    assert (found.status, found.fault) == (401, "UnauthorizedException")
    assert SECRET.encode() not in found.body
    assert Session.objects.get().state == "revoked"


def test_the_401_is_what_botocore_takes_for_a_session_that_is_over(daypass, developer):
    sso = daypass.sso()

    with pytest.raises(sso.exceptions.UnauthorizedException):
        sso.get_role_credentials(roleName="Developer", accountId=MOTO, accessToken="nobody's")


# --- Lists


def test_accounts_and_roles_are_listed_page_by_page_by_botocore_s_own_paginators(
    daypass, ada, group, token
):
    names = ["Zoo", "Ape", "\u00dcberall", "Ape", "B+C & D/E"]
    for number, name in enumerate(names):
        of = make.account(name, account_id=f"20000000000{number}")
        make.mapping(group, *(make.role(role, of=of) for role in ("Reader", "Admin", "x.y@z")))
    make.mapping(make.group(), make.role(of=make.account("Hidden")))
    sso = daypass.sso()

    pages = list(
        sso.get_paginator("list_accounts").paginate(
            accessToken=token, PaginationConfig={"PageSize": 2}
        )
    )
    roles = [
        [
            one["roleName"]
            for page in sso.get_paginator("list_account_roles").paginate(
                accessToken=token, accountId=account["accountId"], PaginationConfig={"PageSize": 1}
            )
            for one in page["roleList"]
        ]
        for account in pages[0]["accountList"]
    ]

    listed = [one for page in pages for one in page["accountList"]]
    assert [len(page["accountList"]) for page in pages] == [2, 2, 1]
    assert sorted(one["accountName"] for one in listed) == sorted(names)
    assert [one["accountName"] for one in listed][:2] == ["Ape", "Ape"]
    assert all(set(one) == {"accountId", "accountName"} for one in listed)
    assert roles == [["Admin", "Reader", "x.y@z"]] * 2


def test_pages_fit_the_model_and_the_last_one_has_no_next_token(daypass, group, payments, token):
    make.mapping(group, *(make.role(f"R{n}", of=payments) for n in range(3)))

    first = ask(daypass, "ListAccountRoles", token, account_id=MOTO, max_result=2)
    more = json.loads(first.body)["nextToken"]
    rest = ask(daypass, "ListAccountRoles", token, account_id=MOTO, max_result=2, next_token=more)
    accounts = ask(daypass, "ListAccounts", token, max_result=1)

    assert "R1" not in more and quote(more, safe="") == more
    assert [one["roleName"] for one in json.loads(rest.body)["roleList"]] == ["R2"]
    assert "nextToken" not in json.loads(rest.body)
    assert "nextToken" not in json.loads(accounts.body)


def test_a_hundred_come_at_once_where_nothing_else_is_asked_for(daypass, group, payments, token):
    make.mapping(group, *(make.role(f"R{n:03}", of=payments) for n in range(101)))

    found = json.loads(ask(daypass, "ListAccountRoles", token, account_id=MOTO).body)

    assert len(found["roleList"]) == 100
    assert found["nextToken"]


def test_somebody_without_roles_has_an_empty_list_of_accounts(daypass, ada, token):
    assert json.loads(ask(daypass, "ListAccounts", token).body) == {"accountList": []}


def test_the_roles_of_an_account_that_is_not_theirs_do_not_exist(daypass, ada, payments, token):
    make.mapping(make.group(), make.role("Secret", of=payments))

    theirs = ask(daypass, "ListAccountRoles", token, account_id=MOTO)
    nobodys = ask(daypass, "ListAccountRoles", token, account_id="999999999999")

    assert theirs.status == nobodys.status == 404
    assert theirs.body == nobodys.body


def test_a_device_code_lists_no_sensitive_role(daypass, ada, group, payments):
    make.mapping(
        group, make.role("Admin", of=payments, sensitive=True), make.role("Reader", of=payments)
    )
    token = signed_in(ada, flow="device")

    found = json.loads(ask(daypass, "ListAccountRoles", token, account_id=MOTO).body)

    assert [one["roleName"] for one in found["roleList"]] == ["Reader"]


# --- What cannot be read


@pytest.mark.parametrize(
    ("operation", "parameters", "word"),
    [
        ("ListAccountRoles", {}, "account_id"),
        ("ListAccountRoles", {"account_id": "payments"}, "twelve digits"),
        ("ListAccountRoles", {"account_id": "1" * 13}, "twelve digits"),
        ("ListAccountRoles", {"account_id": "\u0661" * 12}, "twelve digits"),
        ("ListAccounts", {"max_result": 0}, "1 to 100"),
        ("ListAccounts", {"max_result": 101}, "1 to 100"),
        ("ListAccounts", {"max_result": "ten"}, "1 to 100"),
        ("ListAccounts", {"max_result": "\u0661"}, "1 to 100"),
        ("ListAccounts", {"next_token": "made-up"}, "next_token"),
        ("ListAccounts", {"next_token": "e30"}, "next_token"),
        ("ListAccounts", {"next_token": api.token_of(("only one",))}, "place"),
        ("ListAccounts", {"next_token": "x" * 3000}, "next_token"),
        ("ListAccounts", {"next_token": "\u00fc"}, "next_token"),
        ("GetRoleCredentials", {"account_id": MOTO}, "role_name"),
        ("GetRoleCredentials", {"role_name": "x", "account_id": "1"}, "twelve digits"),
        ("GetRoleCredentials", {"role_name": "a\x00b", "account_id": MOTO}, "role_name"),
    ],
)
def test_what_cannot_be_read_is_an_invalid_request(
    daypass, developer, token, operation, parameters, word
):
    found = ask(daypass, operation, token, **parameters)

    assert (found.status, found.fault) == (400, "InvalidRequestException")
    assert word in found.message


@pytest.mark.parametrize("path", [*PATHS.values(), "/aws/logout"])
@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS", "other"])
def test_no_door_answers_with_a_page_or_a_redirect(daypass, token, path, method):
    if method == "other":
        method = "GET" if path == "/aws/logout" else "POST"

    found = raw(daypass, path, token, method=method)

    assert found.status == 405
    assert "location" not in found.headers
    assert found.headers["x-amzn-errortype"] == "InvalidRequestException"
    if method != "HEAD":
        assert set(json.loads(found.body)) == {"message"}


@pytest.mark.parametrize("path", [*PATHS.values(), "/aws/logout"])
def test_a_browser_s_session_opens_none_of_the_doors(daypass, ada, developer, path):
    browser = daypass.sign_in(ada)
    found = (
        browser.post(path, "", content_type="application/json")
        if path == "/aws/logout"
        else browser.get(path, {"account_id": MOTO, "role_name": "Developer"})
    )

    assert (found.status_code, found["x-amzn-ErrorType"]) == (401, "UnauthorizedException")


# --- AWS and its moods


@pytest.mark.parametrize(
    ("answers", "status", "fault"),
    [
        ([sts_error("AccessDenied", "no", 403)], 403, "ForbiddenException"),
        ([sts_error("Throttling", "slow", 400)] * 9, 429, "TooManyRequestsException"),
        ([sts_error("ServiceUnavailable", "later", 503)] * 9, 503, "InternalServerException"),
        ([Answer(200, b"<nonsense")] * 9, 503, "InternalServerException"),
    ],
    ids=["refused", "throttled", "unavailable", "unreadable"],
)
def test_what_aws_refuses_is_final_and_what_may_pass_is_tried_again_by_clients(
    daypass, developer, token, sts_stand_in, answers, status, fault
):
    sts_stand_in.will(*answers)

    found = ask(daypass, "GetRoleCredentials", token, role_name="Developer", account_id=MOTO)

    assert (found.status, found.fault) == (status, fault)
    assert found.headers["x-amzn-requestid"] in found.message
    assert Session.objects.get().state == "failed"


def test_a_terminal_that_asks_without_end_is_told_to_wait(daypass, developer, token, monkeypatch):
    monkeypatch.setattr(api, "KEYS", 1)
    monkeypatch.setattr(api, "LISTS", 2)
    asked = {"role_name": "Nothing", "account_id": MOTO}

    keys = [ask(daypass, "GetRoleCredentials", token, **asked).status for _ in range(2)]
    lists = [ask(daypass, "ListAccounts", token) for _ in range(3)]

    assert keys == [404, 429]
    assert [one.status for one in lists] == [200, 200, 429]
    assert lists[-1].fault == "TooManyRequestsException"
    assert lists[-1].headers["retry-after"] == "60"


# --- Logout


def test_logout_ends_the_terminal_with_every_token_of_it(daypass, ada, developer):
    terminal, tokens, registration, _ = signed_in_terminal(ada)
    other = signed_in(ada)

    answer = daypass.sso().logout(accessToken=tokens.access)

    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    terminal.refresh_from_db()
    assert terminal.ended_because == "client"
    unauthorized(daypass, tokens.access)
    with pytest.raises(services.WireError):
        services.refresh(tokens.refresh, client_digest=registration.digest, now=timezone.now())
    assert ask(daypass, "ListAccounts", other).status == 200
    ended = AuditEvent.objects.get(kind="terminal.ended")
    assert (ended.actor_id, ended.subject_id) == (str(ada.pk), str(terminal.pk))


def test_logout_answers_with_nothing_and_a_second_time_with_unauthorized(daypass, token):
    first, second = (raw(daypass, "/aws/logout", token, method="POST") for _ in range(2))

    assert (first.status, first.body) == (200, b"")
    assert (second.status, second.fault) == (401, "UnauthorizedException")


def test_logout_ends_what_may_not_ask_any_more(daypass, ada, token):
    """Somebody whose groups were confirmed too long ago can still sign out."""
    ada.memberships.update(confirmed_at=timezone.now() - timedelta(days=2))
    unauthorized(daypass, token)

    assert raw(daypass, "/aws/logout", token, method="POST").status == 200
    assert Terminal.objects.get().ended_because == "client"


def test_a_script_token_cannot_sign_out(daypass, ada):
    script = services.give_script_token(
        let_in(ada, kind="script", flow="portal"), seconds=3600, now=timezone.now()
    )

    assert raw(daypass, "/aws/logout", script, method="POST").status == 401
    assert Terminal.objects.get().ended_at is None


def test_the_unsigned_client_needs_no_keys_of_its_own(daypass, token):
    """What the AWS CLI does: no signature, only the bearer's header."""
    client = boto3.client(
        "sso",
        region_name="broker",
        endpoint_url=daypass.aws,
        config=Config(signature_version=UNSIGNED),
    )

    assert client.list_accounts(accessToken=token)["accountList"] == []
