"""What the machines' doors answer, held against the service models that AWS's own clients carry.

`faults` says in sentences what an answer has that its operation does not allow, or lacks. The models leave every
output member optional, so what clients cannot do without is named here as well (docs/terminal.md says for which).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import botocore.session
from botocore.model import OperationModel, ServiceModel, Shape
from botocore.parsers import create_parser

NEEDED: Mapping[str, frozenset[str]] = {
    "RegisterClient": frozenset(
        {"clientId", "clientSecret", "clientIdIssuedAt", "clientSecretExpiresAt"}
    ),
    "StartDeviceAuthorization": frozenset(
        {
            "deviceCode",
            "userCode",
            "verificationUri",
            "verificationUriComplete",
            "expiresIn",
            "interval",
        }
    ),
    "CreateToken": frozenset({"accessToken", "tokenType", "expiresIn", "refreshToken"}),
    "ListAccounts": frozenset({"accountList"}),
    "ListAccountRoles": frozenset({"roleList"}),
    "GetRoleCredentials": frozenset({"roleCredentials"}),
    "CreateOAuth2Token": frozenset(
        {"accessToken", "tokenType", "expiresIn", "refreshToken", "idToken"}
    ),
    "Logout": frozenset(),
}

MEMBERS_NEEDED: Mapping[str, frozenset[str]] = {
    "RoleCredentials": frozenset({"accessKeyId", "secretAccessKey", "sessionToken", "expiration"}),
    "AccountInfo": frozenset({"accountId"}),
    "RoleInfo": frozenset({"roleName", "accountId"}),
}

BESIDE_THE_MODEL: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "sso": {"ForbiddenException": (403,), "InternalServerException": (500, 503)},
    "sso-oidc": {"InternalServerException": (500, 503)},
    "signin": {"AccessDeniedException": (400, 401, 403), "InternalServerException": (500, 503)},
}
"""Errors that no model has, or has without a status, and that all clients show by name and message."""

OAUTH_ERROR = re.compile(r"[a-z]+(_[a-z]+)*")
REQUEST_ID = re.compile(r"[0-9A-Za-z-]{8,64}")
SECONDS = range(1_500_000_000, 10_000_000_000)
MILLISECONDS = range(1_500_000_000_000, 10_000_000_000_000)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it arrived; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> dict[str, Any]:
        found = json.loads(self.body or b"{}")
        assert isinstance(found, dict), found
        return found

    @property
    def fault(self) -> str:
        """The error that clients recognise; "" when there is none."""
        return self.headers.get("x-amzn-errortype", "")

    @property
    def message(self) -> str:
        return str(self.json.get("message", ""))


def faults(service: str, operation: str, reply: Reply) -> list[str]:
    """Everything that is not as the model of the operation has it."""
    model = service_model(service).operation_model(operation)
    found = list(manners(reply))
    if reply.status >= 300 or reply.fault:
        found += _error(service, model, reply)
    else:
        found += _success(model, reply)
    return found


def manners(reply: Reply) -> Iterator[str]:
    """What holds for whatever a machine's door answers, also to what is no operation at all."""
    if 300 <= reply.status < 400 or "location" in reply.headers:
        yield f"it redirects: {reply.status} {reply.headers.get('location', '')}"
    if "set-cookie" in reply.headers:
        yield "it sets a cookie"
    if "no-store" not in reply.headers.get("cache-control", ""):
        yield "it may be stored by a cache"
    if not REQUEST_ID.fullmatch(reply.headers.get("x-amzn-requestid", "")):
        yield "it has no x-amzn-RequestId"
    if b"<html" in reply.body.lower() or b"<!doctype" in reply.body.lower():
        yield "it is a page"
    if reply.body:
        if reply.headers.get("content-type", "").partition(";")[0] != "application/json":
            yield f"its type is {reply.headers.get('content-type', '')!r}"
        try:
            if not isinstance(json.loads(reply.body), dict):
                yield "it is no JSON object"
        except ValueError:
            yield "it is no JSON"
    if "www-authenticate" in reply.headers:
        yield "it asks for a password, which a browser would show"


@cache
def service_model(service: str) -> ServiceModel:
    return botocore.session.Session().get_service_model(service)


def _success(model: OperationModel, reply: Reply) -> Iterator[str]:
    if reply.status not in ((200, 204) if model.output_shape is None else (200,)):
        yield f"its status is {reply.status}"
    shape = _payload(model)
    if shape is None:
        if reply.body.strip() not in (b"", b"{}"):
            yield "it says something where the model has nothing"
        return
    try:
        said = json.loads(reply.body)
    except ValueError:
        return  # told as bad manners
    yield from _differences(shape, said, shape.name)
    if isinstance(said, dict):
        for name in sorted(NEEDED[model.name] - said.keys()):
            yield f"{name} is missing"
        yield from _units(said)
    try:
        parsed = create_parser("rest-json").parse(_raw(reply), model.output_shape)
    except Exception as error:
        yield f"botocore cannot read it: {error}"
        return
    if "Error" in parsed:
        yield f"botocore takes it for an error: {parsed['Error']}"


def _payload(model: OperationModel) -> Shape | None:
    """What the body is: the output, or the member of it that the model names as its payload."""
    shape = model.output_shape
    if shape is None:
        return None
    payload = shape.serialization.get("payload")
    return shape.members[payload] if payload else shape


def _differences(shape: Shape, value: Any, where: str) -> Iterator[str]:
    match shape.type_name:
        case "structure":
            if not isinstance(value, dict):
                yield f"{where} is no object"
                return
            names = {
                member.serialization.get("name", key): key for key, member in shape.members.items()
            }
            for name in sorted(value.keys() - names.keys()):
                yield f"{where} has {name}, which the model has not"
            needed = {*shape.required_members, *MEMBERS_NEEDED.get(shape.name, ())}
            for name in sorted(needed - {names.get(name, name) for name in value}):
                yield f"{where} lacks {name}"
            for name in value.keys() & names.keys():
                yield from _differences(shape.members[names[name]], value[name], f"{where}.{name}")
        case "list":
            if not isinstance(value, list):
                yield f"{where} is no list"
                return
            for number, item in enumerate(value):
                yield from _differences(shape.member, item, f"{where}[{number}]")
        case "string":
            if not isinstance(value, str) or not value:
                yield f"{where} is no text: {type(value).__name__}"
        case "integer" | "long":
            if not isinstance(value, int) or isinstance(value, bool):
                yield f"{where} is no whole number: {type(value).__name__}"
        case other:
            yield f"{where}: nobody has said what {other} looks like"


def _units(said: Mapping[str, Any]) -> Iterator[str]:
    for name in ("clientIdIssuedAt", "clientSecretExpiresAt"):
        if name in said and not _within(said[name], SECONDS):
            yield f"{name} is not in seconds: {said[name]}"
    given = said.get("roleCredentials", {})
    if "expiration" in given and not _within(given["expiration"], MILLISECONDS):
        yield f"expiration is not in milliseconds: {given['expiration']}"
    for name in ("expiresIn", "interval"):
        if name in said and not (isinstance(said[name], int) and 0 < said[name] <= 12 * 3600):
            yield f"{name} is no number of seconds that makes sense: {said[name]}"


def _within(value: Any, numbers: range) -> bool:
    return isinstance(value, int) and value in numbers


def _error(service: str, model: OperationModel, reply: Reply) -> Iterator[str]:
    shapes = {shape.name: shape for shape in model.error_shapes}
    beside = BESIDE_THE_MODEL[service]
    if reply.fault not in shapes and reply.fault not in beside:
        yield f"{model.name} knows no {reply.fault!r} ({reply.status})"
        return
    shape = shapes.get(reply.fault)
    status = (shape.metadata.get("error") or {}).get("httpStatusCode") if shape else None
    allowed = (status,) if status else beside[reply.fault]
    if reply.fault in beside:
        allowed = (*allowed, *beside[reply.fault])
    if reply.status not in allowed:
        yield f"{reply.fault} has status {reply.status} and not {allowed[0]}"
    try:
        said = json.loads(reply.body)
    except ValueError:
        yield "it has no body that clients could show"
        return
    if not isinstance(said, dict):
        return
    if not str(said.get("message", "")).strip():
        yield "it has no message for the person"
    for name in sorted(said.keys() - {"message", *(shape.members if shape else ())}):
        yield f"{reply.fault} has {name}, which the model has not"
    for name, value in said.items():
        if not isinstance(value, str):
            yield f"{name} is no text"
    if service == "sso-oidc":
        if not OAUTH_ERROR.fullmatch(str(said.get("error", ""))):
            yield f"error is {said.get('error')!r}, which is no code of OAuth"
        if not said.get("error_description"):
            yield "it has no error_description"
    if service == "signin" and shape is not None:
        codes = shape.members["error"].enum
        if said.get("error") not in codes:
            yield f"error is {said.get('error')!r}, which is none of {codes}"
    parsed = create_parser("rest-json").parse(_raw(reply), model.output_shape)
    told = parsed.get("Error", {})
    if told.get("Code") != reply.fault or told.get("Message") != said.get("message"):
        yield f"botocore reads it as {told}"


def _raw(reply: Reply) -> dict[str, Any]:
    from botocore.awsrequest import HeadersDict

    return {
        "status_code": reply.status,
        "headers": HeadersDict(dict(reply.headers)),
        "body": reply.body,
    }
