"""How AWS's clients are answered: names, statuses and bodies of errors, as botocore's service models give them. Pure.

Clients recognise an error by the header `x-amzn-ErrorType` and show its `message`; the members `error` and
`error_description` of `sso-oidc` are those of RFC 6749. The services are `sso-oidc` (2019-06-10), `sso` (2019-06-10)
and `signin` (2023-01-01).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """Every error that a client may be given. Stable: clients act on the names."""

    # sso-oidc
    ACCESS_DENIED = "AccessDeniedException"
    AUTHORIZATION_PENDING = "AuthorizationPendingException"
    EXPIRED_TOKEN = "ExpiredTokenException"  # noqa: S105  (a name)
    INTERNAL_SERVER = "InternalServerException"
    INVALID_CLIENT = "InvalidClientException"
    INVALID_CLIENT_METADATA = "InvalidClientMetadataException"
    INVALID_GRANT = "InvalidGrantException"
    INVALID_REDIRECT_URI = "InvalidRedirectUriException"
    INVALID_REQUEST = "InvalidRequestException"
    INVALID_SCOPE = "InvalidScopeException"
    SLOW_DOWN = "SlowDownException"
    UNAUTHORIZED_CLIENT = "UnauthorizedClientException"
    UNSUPPORTED_GRANT_TYPE = "UnsupportedGrantTypeException"
    # sso; a refusal is in no model, and all clients show it
    FORBIDDEN = "ForbiddenException"
    RESOURCE_NOT_FOUND = "ResourceNotFoundException"
    TOO_MANY_REQUESTS = "TooManyRequestsException"
    UNAUTHORIZED = "UnauthorizedException"
    # signin
    TOO_MANY_REQUESTS_ERROR = "TooManyRequestsError"
    VALIDATION = "ValidationException"


STATUS: Mapping[Fault, int] = {
    Fault.INTERNAL_SERVER: 500,
    Fault.INVALID_CLIENT: 401,
    Fault.FORBIDDEN: 403,
    Fault.RESOURCE_NOT_FOUND: 404,
    Fault.TOO_MANY_REQUESTS: 429,
    Fault.UNAUTHORIZED: 401,
    Fault.TOO_MANY_REQUESTS_ERROR: 429,
}
"""HTTP status of a fault; 400 for those that are not here."""

OAUTH: Mapping[Fault, str] = {
    Fault.ACCESS_DENIED: "access_denied",
    Fault.AUTHORIZATION_PENDING: "authorization_pending",
    Fault.EXPIRED_TOKEN: "expired_token",
    Fault.INTERNAL_SERVER: "server_error",
    Fault.INVALID_CLIENT: "invalid_client",
    Fault.INVALID_CLIENT_METADATA: "invalid_client_metadata",
    Fault.INVALID_GRANT: "invalid_grant",
    Fault.INVALID_REDIRECT_URI: "invalid_redirect_uri",
    Fault.INVALID_REQUEST: "invalid_request",
    Fault.INVALID_SCOPE: "invalid_scope",
    Fault.SLOW_DOWN: "slow_down",
    Fault.UNAUTHORIZED_CLIENT: "unauthorized_client",
    Fault.UNSUPPORTED_GRANT_TYPE: "unsupported_grant_type",
}
"""The `error` member of sso-oidc (RFC 6749 section 5.2, RFC 7591 section 3.2.2, RFC 8628 section 3.5)."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One error answer: what the client is told, in words that its user reads as they are.

    error: signin's own code (TOKEN_EXPIRED, ...), else that of OAUTH. status: 0 for the usual one of the fault.
    retry_after: seconds, 0 for none. bare: without what RFC 6749 has: `sso` has a message alone, `signin` its code too.
    """

    fault: Fault
    message: str
    error: str = ""
    status: int = 0
    retry_after: int = 0
    bare: bool = False

    @property
    def http_status(self) -> int:
        return self.status or STATUS.get(self.fault, 400)

    def headers(self, request_id: str) -> dict[str, str]:
        headers = {"x-amzn-ErrorType": str(self.fault), "x-amzn-RequestId": request_id}
        if self.retry_after:
            headers["Retry-After"] = str(self.retry_after)
        return headers

    def body(self) -> dict[str, str]:
        code = self.error or ("" if self.bare else OAUTH.get(self.fault, ""))
        body = {"message": self.message}
        if code:
            body["error"] = code
        if code and not self.bare:
            body["error_description"] = self.message
        return body


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client gets, as JSON; nothing at all for an empty body. It may hold a secret, so it never prints it."""

    body: Mapping[str, object] = field(repr=False)
    status: int = 200


class WireError(Exception):
    """An error answer on its way to the client."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.message)
