"""What all JSON doors for AWS's clients have in common: never a page, never a redirect, never an answer without a word.

A door looks at no browser session. Whatever goes wrong becomes an error of the protocol that it speaks, with a
`message` that the client shows its user as it is.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.http.request import UnreadablePostError
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables

from accounts import throttle
from accounts.network import client_address, counted_address
from accounts.outbound import strict_json
from broker.audit.services import under_reference
from broker.awssso import rules
from broker.awssso.services import Asker, NotAllowed
from broker.awssso.wire import Answer, Failure, Fault, WireError
from broker.errors import BadInput, DaypassError, SignInRefused
from broker.references import new_reference

log = logging.getLogger("daypass.awssso")

LARGEST_BODY = 64 * 1024
"""Bytes of a request at most."""

LONGEST_TEXT = 8192
"""Characters of one member or parameter at most."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a client: where from, when, and what it said. request_id: leads to what the audit log holds."""

    request: HttpRequest = field(repr=False)
    asker: Asker
    now: datetime
    request_id: str
    body: Mapping[str, object] = field(repr=False)

    def text(self, name: str, *, most: int = LONGEST_TEXT, needed: bool = True) -> str:
        """A member of the body. Raises WireError when it is no text, is too long, or is needed and not there."""
        return self._checked(name, self.body.get(name), most, needed)

    def parameter(self, name: str, *, most: int = 512, needed: bool = True) -> str:
        """A parameter of the address, as `text`; one that comes twice is none."""
        found = self.request.GET.getlist(name)
        if len(found) > 1:
            raise WireError(Failure(Fault.INVALID_REQUEST, f"{name} came more than once."))
        return self._checked(name, found[0] if found else None, most, needed)

    def _checked(self, name: str, value: object, most: int, needed: bool) -> str:
        if value is None or value == "":
            if needed:
                raise WireError(Failure(Fault.INVALID_REQUEST, f"{name} is missing."))
            return ""
        if not isinstance(value, str) or len(value) > most or "\x00" in value:
            raise WireError(Failure(Fault.INVALID_REQUEST, f"{name} cannot be read."))
        return value


Work = Callable[[Call], Answer]
Failing = Callable[[DaypassError], Failure]
Dialect = Callable[[Failure], Failure]


def in_oidc_words(error: DaypassError) -> Failure:
    """A failure of ours as sso-oidc says it."""
    match error:
        case NotAllowed() | SignInRefused():
            return Failure(Fault.ACCESS_DENIED, error.message)
        case BadInput():
            return Failure(Fault.INVALID_REQUEST, error.message)
    return Failure(Fault.INTERNAL_SERVER, error.message)


def in_sso_words(error: DaypassError) -> Failure:
    """A failure of ours as the sso portal says it."""
    match error:
        case NotAllowed() | SignInRefused():
            return Failure(Fault.FORBIDDEN, error.message)
        case BadInput():
            return Failure(Fault.INVALID_REQUEST, error.message)
    return Failure(Fault.INTERNAL_SERVER, error.message)


def in_sso_faults(failure: Failure) -> Failure:
    """An error of the sso portal, which has a message and nothing of OAuth."""
    return replace(failure, bare=True)


def as_it_is(failure: Failure) -> Failure:
    """The faults of sso-oidc, which the others share for the most part."""
    return failure


def door(
    *methods: str, words: Failing, dialect: Dialect = as_it_is
) -> Callable[[Work], Callable[..., HttpResponse]]:
    """A JSON door: `work` answers a Call with an Answer or raises WireError or a DaypassError.

    words: how the protocol names a failure of ours; dialect: how it names a fault that all doors know. A body is read
    only for POST, and has to be one JSON object; an empty one is an object without members.
    """

    def made(work: Work) -> Callable[..., HttpResponse]:
        @wraps(work)
        @sensitive_variables()
        def view(request: HttpRequest, **_: Any) -> HttpResponse:
            request_id = new_reference()
            with under_reference(request_id):
                try:
                    if request.method not in methods:
                        raise WireError(
                            Failure(
                                Fault.INVALID_REQUEST,
                                f"This address is asked by {' or '.join(methods)}.",
                                status=405,
                            )
                        )
                    call = Call(
                        request,
                        asker_of(request),
                        timezone.now(),
                        request_id,
                        _body(request) if request.method == "POST" else {},
                    )
                    response = _answer(work(call), request_id)
                except WireError as refused:
                    response = fail(dialect(refused.failure), request_id)
                except DaypassError as error:
                    response = _failed(dialect(words(error)), error, request_id)
                except Exception as error:
                    unforeseen = Failure(
                        Fault.INTERNAL_SERVER,
                        "Something went wrong in Daypass. Try again. If it happens again, give your administrators "
                        f"the number {request_id}.",
                    )
                    response = _failed(dialect(unforeseen), error, request_id)
            if response.status_code == 405:
                response["Allow"] = ", ".join(methods)
            return response

        plain: Callable[..., HttpResponse] = csrf_exempt(login_not_required(view))
        plain.refuses_methods_itself = True  # type: ignore[attr-defined]  # for broker.middleware
        return plain

    return made


def asker_of(request: HttpRequest) -> Asker:
    """Where a request came from, and what its program calls itself."""
    return Asker(
        address=client_address(request),
        user_agent=rules.clean(request.META.get("HTTP_USER_AGENT", ""), 200),
    )


def gently(what: str, request: HttpRequest, *, most: int, fault: Fault = Fault.SLOW_DOWN) -> None:
    """Count one more for the network of this request. Raises WireError when it was more than `most` in a minute."""
    if not throttle.allowed(what, counted_address(request), most=most, seconds=60):
        raise WireError(
            Failure(
                fault,
                "Too many requests from your network. Wait a minute and try again.",
                retry_after=60,
            )
        )


def fail(failure: Failure, request_id: str) -> HttpResponse:
    """The error answer."""
    return _json(failure.body(), failure.http_status, failure.headers(request_id))


def _answer(answer: Answer, request_id: str) -> HttpResponse:
    return _json(answer.body, answer.status, {"x-amzn-RequestId": request_id})


@sensitive_variables()
def _json(body: Mapping[str, object], status: int, headers: Mapping[str, str]) -> HttpResponse:
    content = json.dumps(body, separators=(",", ":")).encode() if body else b""
    return HttpResponse(
        content,
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", "Content-Length": str(len(content)), **headers},
    )


def _failed(failure: Failure, error: Exception, request_id: str) -> HttpResponse:
    if failure.http_status >= 500:
        expected = isinstance(error, DaypassError)
        log.error(
            "a request of an AWS client failed",
            exc_info=None if expected else error,
            extra={
                "reference": request_id,
                "code": error.code if isinstance(error, DaypassError) else type(error).__name__,
                "cause": error.cause if isinstance(error, DaypassError) else "",
            },
        )
    return fail(failure, request_id)


@sensitive_variables()
def _body(request: HttpRequest) -> Mapping[str, object]:
    too_long = WireError(
        Failure(Fault.INVALID_REQUEST, f"A request has {LARGEST_BODY} bytes at most.", status=413)
    )
    try:
        if int(request.META.get("CONTENT_LENGTH") or 0) > LARGEST_BODY:
            raise too_long
        raw = request.body
    except (ValueError, RequestDataTooBig):
        raise too_long from None
    except UnreadablePostError:
        raise WireError(Failure(Fault.INVALID_REQUEST, "The request broke off.")) from None
    if len(raw) > LARGEST_BODY:
        raise too_long
    if not raw:
        return {}
    try:
        return strict_json(raw)
    except ValueError:
        raise WireError(
            Failure(Fault.INVALID_REQUEST, "The request has to be one JSON object.")
        ) from None
