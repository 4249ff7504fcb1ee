"""A stand-in for AWS's sign-in service, which moto does not have: console links and the SAML form, judged as AWS does.

It says on every page that it is one. Rules: SessionDuration only within 900 to 43200 seconds and below the role's own
maximum; credentials have to be live and whole; a sign-in token is good for 15 minutes; an assertion has to be signed by
the key in the broker's own metadata, for one role, for this address or AWS's.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import threading
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import boto3
import requests
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from flask import Flask, Response, render_template, request
from onelogin.saml2.auth import OneLogin_Saml2_Auth
from onelogin.saml2.idp_metadata_parser import OneLogin_Saml2_IdPMetadataParser

log = logging.getLogger("daypass.demo.signin")

_TOKEN_LIFE = timedelta(minutes=15)
_CONSOLE_HOSTS = re.compile(
    r"\A(?:[a-z0-9-]+\.)*console\.(?:aws\.amazon\.com|amazonaws-us-gov\.com|amazonaws\.cn|amazonaws-eusc\.eu)\Z"
)
_AWS_SAML = re.compile(
    r"\Ahttps://(?:[a-z0-9-]+\.)?signin\.(?:aws\.amazon\.com|amazonaws-us-gov\.com|amazonaws\.cn)/saml\Z"
)
_ATTRIBUTE = "https://aws.amazon.com/SAML/Attributes/"


@dataclass(frozen=True, slots=True)
class Held:
    """A live set of credentials as moto knows it."""

    arn: str
    expires_at: datetime
    longest_seconds: int


# access key id, secret access key, session token -> what they stand for; None when they are not live and whole.
Ledger = Callable[[str, str, str], Held | None]


@dataclass(frozen=True, slots=True)
class _Visit:
    arn: str
    account: str
    destination: str
    issuer: str
    how: str
    session_ends: datetime


@dataclass(frozen=True, slots=True)
class _Ticket:
    arn: str
    account: str
    good_until: datetime
    session_ends: datetime


def create_app(*, aws: str, broker: str, own: str, ledger: Ledger) -> Flask:
    """The WSGI application. aws: moto's address; broker: Daypass's; own: where this is served."""
    app = Flask("broker.demo.signin", template_folder="templates", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = 256 * 1024
    app.config["MAX_FORM_MEMORY_SIZE"] = 256 * 1024
    tickets: dict[str, _Ticket] = {}
    visits: dict[str, _Visit] = {}
    lock = threading.Lock()

    def refused(reason: str) -> Response:
        # AWS answers a bare 400; the reason is in the log only, as with AWS.
        log.warning("sign-in stand-in refused: %s", reason)
        return Response("", status=400)

    def land(visit: _Visit) -> Response:
        # Neither a token nor an assertion stays in the address bar or in a form that a reload sends again.
        number = secrets.token_urlsafe(9)
        with lock:
            visits[number] = visit
        return _private(Response("", status=303, headers={"Location": f"/console/{number}"}))

    @app.get("/health")
    def health() -> Response:
        return Response("ok", mimetype="text/plain")

    @app.route("/federation", methods=["GET", "POST"])
    def federation() -> Response:
        asked = request.values
        if asked.get("Action") == "getSigninToken":
            return get_token(asked)
        if asked.get("Action") == "login":
            return log_in(asked)
        return refused("unknown Action")

    def get_token(asked: Mapping[str, str]) -> Response:
        try:
            session = json.loads(asked.get("Session", ""))
            key, secret, token = (
                str(session[name]) for name in ("sessionId", "sessionKey", "sessionToken")
            )
        except (ValueError, KeyError, TypeError):
            return refused("Session is not JSON with sessionId, sessionKey and sessionToken")
        identity = _caller(aws, key, secret, token)
        held = ledger(key, secret, token)
        if identity is None or held is None or identity["Arn"] != held.arn:
            return refused("the credentials are unknown, incomplete or expired")
        now = datetime.now(UTC)
        ends = held.expires_at
        if "SessionDuration" in asked:
            text = asked["SessionDuration"]
            seconds = int(text) if text.isascii() and text.isdigit() else 0
            if not 900 <= seconds <= 43200 or seconds >= held.longest_seconds:
                return refused(f"SessionDuration {text!r} is not allowed for this role")
            ends = now + timedelta(seconds=seconds)
        signin_token = secrets.token_urlsafe(96)
        with lock:
            for old in [name for name, ticket in tickets.items() if ticket.good_until < now]:
                del tickets[old]
            tickets[signin_token] = _Ticket(held.arn, identity["Account"], now + _TOKEN_LIFE, ends)
        return Response(json.dumps({"SigninToken": signin_token}), mimetype="application/json")

    def log_in(asked: Mapping[str, str]) -> Response:
        with lock:
            ticket = tickets.get(asked.get("SigninToken", ""))
        if ticket is None or ticket.good_until < datetime.now(UTC):
            return refused("the sign-in token is unknown or older than 15 minutes")
        destination = asked.get("Destination", "")
        if not _is_console(destination):
            return refused("Destination is not a page of the AWS console")
        return land(
            _Visit(
                arn=ticket.arn,
                account=ticket.account,
                destination=destination,
                issuer=asked.get("Issuer", ""),
                how="a console link (federation endpoint)",
                session_ends=ticket.session_ends,
            )
        )

    @app.post("/saml")
    def saml() -> Response:
        posted = request.form.get("SAMLResponse", "")
        destination = request.form.get("RelayState", "")
        if destination and not _is_console(destination):
            return refused("RelayState is not a page of the AWS console")
        try:
            attributes = _verified_attributes(posted, broker=broker, own=f"{own}/saml")
        except _Unsound as problem:
            return refused(str(problem))
        roles = attributes.get(f"{_ATTRIBUTE}Role", [])
        arns = (
            sorted(roles[0].split(","), key=lambda arn: ":saml-provider/" in arn) if roles else []
        )
        if len(roles) != 1 or len(arns) != 2:
            return refused("the assertion names no role, or several")
        sts = boto3.client(
            "sts",
            region_name="us-east-1",
            endpoint_url=aws,
            config=Config(signature_version=UNSIGNED),
        )
        try:
            answer = sts.assume_role_with_saml(
                RoleArn=arns[0], PrincipalArn=arns[1], SAMLAssertion=posted
            )
        except (ClientError, BotoCoreError) as problem:
            return refused(f"STS refused the assertion: {type(problem).__name__}")
        return land(
            _Visit(
                arn=answer["AssumedRoleUser"]["Arn"],
                account=arns[0].split(":")[4],
                destination=destination or "https://console.aws.amazon.com/",
                issuer=broker,
                how="a signed SAML assertion that the browser posted",
                session_ends=answer["Credentials"]["Expiration"],
            )
        )

    @app.get("/console/<number>")
    def console(number: str) -> Response:
        with lock:
            visit = visits.get(number)
        if visit is None or visit.session_ends < datetime.now(UTC):
            return _private(Response(render_template("signin/ended.html"), status=410))
        role, _, session_name = visit.arn.rpartition(":assumed-role/")[2].partition("/")
        page = render_template(
            "signin/console.html",
            visit=visit,
            role=role,
            session_name=session_name,
            minutes=int((visit.session_ends - datetime.now(UTC)).total_seconds() // 60),
            broker=broker,
        )
        return _private(Response(page))

    return app


class _Unsound(Exception):
    """An assertion that the stand-in does not believe; the text says why, for the log."""


def _verified_attributes(posted: str, *, broker: str, own: str) -> dict[str, list[str]]:
    """The attributes of an assertion whose signature, audience, times and recipient python3-saml has verified."""
    addresses = _recipients(posted, own=own)
    try:
        metadata = requests.get(f"{broker}/aws/saml/metadata", timeout=5)
        metadata.raise_for_status()
    except requests.RequestException:
        raise _Unsound("Daypass's SAML metadata cannot be had") from None
    idp = OneLogin_Saml2_IdPMetadataParser.parse(metadata.content)["idp"]
    for address in addresses:
        where = urlsplit(address)
        auth = OneLogin_Saml2_Auth(
            {
                "https": "on" if where.scheme == "https" else "off",
                "http_host": where.netloc,
                "script_name": where.path,
                "get_data": {},
                "post_data": {"SAMLResponse": posted},
            },
            {
                "strict": True,
                "idp": idp,
                "sp": {
                    "entityId": "urn:amazon:webservices",
                    "assertionConsumerService": {"url": address},
                },
                "security": {"wantAssertionsSigned": True, "rejectDeprecatedAlgorithm": True},
            },
        )
        auth.process_response()
        if auth.is_authenticated():
            return dict(auth.get_attributes())
        problem = auth.get_last_error_reason() or "it is not valid"
        raise _Unsound(f"the assertion was refused: {problem}")
    raise _Unsound("the assertion is for another address")


def _recipients(posted: str, *, own: str) -> list[str]:
    """The address that the response says it is for, if it is one that the stand-in answers for."""
    try:
        text = b64decode(posted, validate=True).decode()
    except ValueError:
        raise _Unsound("the response is not base64") from None
    found = re.findall(r'Recipient="([^"]+)"', text)
    return [address for address in found[:1] if address == own or _AWS_SAML.match(address)]


def _caller(aws: str, key: str, secret: str, token: str) -> dict[str, str] | None:
    """Who STS says these credentials are; None when it refuses them."""
    sts = boto3.client(
        "sts",
        region_name="us-east-1",
        endpoint_url=aws,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(retries={"max_attempts": 1}),
    )
    try:
        answer = sts.get_caller_identity()
    except (ClientError, BotoCoreError):
        return None
    return {"Arn": answer["Arn"], "Account": answer["Account"]}


def _is_console(destination: str) -> bool:
    parts = urlsplit(destination)
    return parts.scheme == "https" and bool(_CONSOLE_HOSTS.match(parts.hostname or ""))


def _private(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
