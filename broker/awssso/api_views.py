"""AWS's service `sso` (2019-06-10), the portal: accounts, roles, keys and signing out, for the bearer of a token.

https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/Welcome.html
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from django.urls import URLPattern, path
from django.views.decorators.debug import sensitive_variables

from broker.awssso import api, checks, services
from broker.awssso.doors import Call, door, gently, in_sso_faults, in_sso_words
from broker.awssso.models import TerminalToken
from broker.awssso.services import Bearer
from broker.awssso.wire import Answer, Failure, Fault, WireError

HEADER = checks.HEADER
"""Its underscores are why some servers and proxies drop it without a word."""

LONGEST_TOKEN = 4096
LARGEST_PAGE = 100
LONGEST_PLACE = 2048

STRANGERS = 1200
"""How often a network may come with a token that is no good, in a minute."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ACCOUNT_ID = re.compile(r"[0-9]{12}", re.ASCII)


@door("GET", words=in_sso_words, dialect=in_sso_faults)
@sensitive_variables()
def list_accounts(call: Call) -> Answer:
    """ListAccounts."""
    bearer = _bearer(call)
    found = api.accounts(bearer, call, most=_most(call), after=_after(call))
    body: dict[str, object] = {
        "accountList": [
            {"accountId": one.account_id, "accountName": one.name} for one in found.rows
        ]
    }
    return Answer(body | _following(found.following))


@door("GET", words=in_sso_words, dialect=in_sso_faults)
@sensitive_variables()
def list_account_roles(call: Call) -> Answer:
    """ListAccountRoles."""
    bearer = _bearer(call)
    found = api.roles(bearer, call, account_of(call), most=_most(call), after=_after(call))
    body: dict[str, object] = {
        "roleList": [{"roleName": one.name, "accountId": one.account_id} for one in found.rows]
    }
    return Answer(body | _following(found.following))


@door("GET", words=in_sso_words, dialect=in_sso_faults)
@sensitive_variables()
def get_role_credentials(call: Call) -> Answer:
    """GetRoleCredentials. `expiration` counts whole milliseconds."""
    bearer = _bearer(call)
    keys = api.keys(bearer, call, account_of(call), call.parameter("role_name"))
    return Answer(
        {
            "roleCredentials": {
                "accessKeyId": keys.access_key_id,
                "secretAccessKey": keys.secret_access_key,
                "sessionToken": keys.session_token,
                "expiration": (keys.expires_at - _EPOCH) // timedelta(milliseconds=1),
            }
        }
    )


@door("POST", words=in_sso_words, dialect=in_sso_faults)
@sensitive_variables()
def logout(call: Call) -> Answer:
    """Logout: the terminal ends, and every token of it. Keys that were handed out live on, as AWS has it."""
    token = _token(call)
    if not services.sign_out(token, call.asker, now=call.now):
        _count_stranger(call)
        raise WireError(Failure(Fault.UNAUTHORIZED, "This sign-in is not known, or it is over."))
    return Answer({})


@sensitive_variables()
def _bearer(call: Call) -> Bearer:
    token = _token(call)
    try:
        return services.bearer(token, [TerminalToken.Kind.ACCESS], call.asker, now=call.now)
    except WireError:
        _count_stranger(call)
        raise


@sensitive_variables()
def _token(call: Call) -> str:
    token = str(call.request.headers.get(HEADER, ""))
    if not token:
        raise WireError(Failure(Fault.UNAUTHORIZED, checks.missing()))
    if len(token) > LONGEST_TOKEN:
        raise WireError(Failure(Fault.UNAUTHORIZED, "This token is none of Daypass's."))
    return token


def _count_stranger(call: Call) -> None:
    gently("sso-strangers", call.request, most=STRANGERS, fault=Fault.TOO_MANY_REQUESTS)


def account_of(call: Call, name: str = "account_id") -> str:
    """The account that is asked for: twelve digits. Raises WireError."""
    account_id = call.parameter(name)
    if not _ACCOUNT_ID.fullmatch(account_id):
        raise WireError(
            Failure(Fault.INVALID_REQUEST, f"{name} has to be the twelve digits of an account.")
        )
    return account_id


def _most(call: Call) -> int:
    asked = call.parameter("max_result", most=16, needed=False)
    if not asked:
        return LARGEST_PAGE
    if not (asked.isascii() and asked.isdigit() and 1 <= int(asked) <= LARGEST_PAGE):
        raise WireError(
            Failure(
                Fault.INVALID_REQUEST, f"max_result has to be a number from 1 to {LARGEST_PAGE}."
            )
        )
    return int(asked)


def _after(call: Call) -> tuple[str, ...]:
    token = call.parameter("next_token", most=LONGEST_PLACE, needed=False)
    return api.place_of(token) if token else ()


def _following(place: tuple[str, ...]) -> dict[str, object]:
    return {"nextToken": api.token_of(place)} if place else {}


urlpatterns: list[URLPattern] = [
    path("aws/assignment/accounts", list_accounts, name="sso_list_accounts"),
    path("aws/assignment/roles", list_account_roles, name="sso_list_account_roles"),
    path("aws/federation/credentials", get_role_credentials, name="sso_get_role_credentials"),
    path("aws/logout", logout, name="sso_logout"),
]
