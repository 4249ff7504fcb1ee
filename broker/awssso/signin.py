"""AWS's service `signin` (2023-01-01), as `aws login` speaks it: what its browser page is asked, and what its token is.

A terminal of this kind is for one role, and its access token is the credentials themselves: each renewal is a new
session, decided and recorded like every other. The refresh token is good only together with a proof of the key that
the client made when it signed in (RFC 9449).

Nothing is exchanged before AWS has answered: a code or token whose use fails may be brought again, by the same client.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.http import QueryDict
from django.views.decorators.debug import sensitive_variables

from broker.awssso import queries, rules, services
from broker.awssso.issuing import ask_of, door_of, keys_for
from broker.awssso.models import Terminal, TerminalToken, UsedProof
from broker.awssso.rules import CannotGoOn, Rotation
from broker.awssso.services import Asker, Bearer, NotAllowed, WireError
from broker.awssso.wire import Failure, Fault
from broker.entitlements.rules import Door, NextStep, Refused
from broker.errors import BadInput, DaypassError, SignInRefused
from broker.handover.machines import MachineKeys
from broker.minting.dpop import KeyProof, LoginIdentity, ProofRefused, mint_identity_token

SAME_DEVICE = "arn:aws:signin:::devtools/same-device"
CROSS_DEVICE = "arn:aws:signin:::devtools/cross-device"
CLIENTS = {SAME_DEVICE: "aws login", CROSS_DEVICE: "aws login --remote"}
"""The clients that there are: they are not registered, and anybody may call themselves so."""

CONFIRMATION_PATH = "/v1/sessions/confirmation"

KEYS_SECONDS = 900
"""How long the credentials live. The service model allows `expiresIn` no more, so it is what every client is made for;
and a quarter of an hour is all that outlives a sign-out. Clients that were tried take 3,600 as well."""

CARRIED_CODE_LIFE = timedelta(minutes=5)
"""Of a code that a person carries to another computer. Between browser and program on one computer it is a minute."""

TOKEN_EXPIRED, CODE_EXPIRED = "TOKEN_EXPIRED", "AUTHCODE_EXPIRED"
CHANGED, INSUFFICIENT = "USER_CREDENTIALS_CHANGED", "INSUFFICIENT_PERMISSIONS"

AGAIN = "Run `aws login` again."

_SIGNS_IN = (NextStep.SIGN_IN_AGAIN, NextStep.USE_MFA, NextStep.ASK_PROVIDER)


# --- The browser's page


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asks for at the authorize page, after every check that needs no person.

    given: the parameters that were understood, as they came.
    """

    client_id: str
    redirect_uri: str
    state: str
    challenge: str
    given: dict[str, str]

    @property
    def remote(self) -> bool:
        """Whether the client is on another computer, and its person carries the code there."""
        return self.client_id == CROSS_DEVICE

    @property
    def flow(self) -> Terminal.Flow:
        return Terminal.Flow.DEVICE if self.remote else Terminal.Flow.BROWSER

    @property
    def door(self) -> Door:
        return door_of(self.flow)

    @property
    def name(self) -> str:
        return CLIENTS[self.client_id]


PARAMETERS = (
    "response_type",
    "client_id",
    "state",
    "code_challenge_method",
    "scope",
    "redirect_uri",
    "code_challenge",
)

_STATE = re.compile(r"[A-Za-z0-9._~-]{8,128}", re.ASCII)
START_ANEW = "Close this page and run `aws login` again. If it happens again, update the AWS CLI."


def read_wanted(query: QueryDict) -> Wanted:
    """What the address of the page asks for. Raises CannotGoOn; no address in it is trusted before it was checked."""
    sent = {name: query.getlist(name) for name in PARAMETERS}
    if any(len(values) > 1 for values in sent.values()):
        raise CannotGoOn(
            "The address of this page says the same thing twice.", START_ANEW, code="repeated"
        )
    given = {name: values[0] for name, values in sent.items() if values}
    client_id, redirect_uri = given.get("client_id", ""), given.get("redirect_uri", "")
    if client_id not in CLIENTS:
        raise CannotGoOn(
            "This page is for `aws login`, and for no other program.", START_ANEW, code="client"
        )
    if not _may_answer(client_id, redirect_uri):
        raise CannotGoOn(
            "The program wants the answer sent to an address that is not its own.",
            "Nothing was sent there. Daypass answers only to this computer itself (127.0.0.1) or on its own page. "
            "If you did not run `aws login` yourself just now, close this page.",
            code="redirect_uri",
        )
    state = given.get("state", "")
    if (
        given.get("response_type") != "code"
        or given.get("scope", "openid") != "openid"
        or not _STATE.fullmatch(state)
    ):
        raise CannotGoOn(
            "The program did not ask in the way that AWS's own program does.",
            START_ANEW,
            code="request",
        )
    challenge, method = given.get("code_challenge", ""), given.get("code_challenge_method")
    if method != "SHA-256" or not rules.is_challenge(challenge, method):
        raise CannotGoOn(
            "The program left out what keeps others from using its sign-in (PKCE with SHA-256).",
            "Use a current AWS CLI: version 2.32 or newer does this by itself.",
            code="pkce",
        )
    return Wanted(client_id, redirect_uri, state, challenge, given)


def _may_answer(client_id: str, redirect_uri: str) -> bool:
    """The listener of the CLI on the same computer; for the other client, our own page that shows the code."""
    if client_id == CROSS_DEVICE:
        return redirect_uri == settings.DAYPASS_ORIGIN + CONFIRMATION_PATH
    return rules.loopback(redirect_uri) is not None


def check_policy(provider_id: UUID | None, address: str, flow: str) -> None:
    """Whether administrators allow such a sign-in from here. `--remote` counts as a device code. Raises NotAllowed."""
    policy = queries.policy_of(provider_id)
    if not policy.enabled:
        raise NotAllowed(
            "Your administrators do not allow AWS CLIs and SDKs to sign in here. Use the pages of Daypass instead.",
            code="terminals_off",
        )
    if flow != Terminal.Flow.DEVICE:
        return
    if not policy.device_codes:
        raise NotAllowed(
            "Your administrators do not allow sign-in on another computer by a code. Run `aws login` without "
            "`--remote` on a computer that has a browser.",
            code="device_codes_off",
        )
    if not rules.in_networks(address, policy.device_networks):
        raise NotAllowed(
            "Your administrators allow sign-in by a code from certain networks only, and "
            f"{address or 'an unknown address'} is in none of them. Do it from one of those networks, or run "
            "`aws login` without `--remote` on a computer that has a browser.",
            code="network_not_allowed",
        )


# --- Tokens


@dataclass(frozen=True, slots=True)
class Given:
    """What a client is given. identity: only with a code."""

    keys: MachineKeys = field(repr=False)
    refresh_token: str = field(repr=False)
    identity: str = field(default="", repr=False)


@sensitive_variables()
def by_code(
    code: str,
    *,
    client_id: str,
    redirect_uri: str,
    verifier: str,
    proof: KeyProof,
    asker: Asker,
    now: datetime,
) -> Given:
    """The first credentials of a terminal; from now on it goes with the key of this proof.

    Of several who bring the code with its verifier one gets something, and a second one ends the terminal.
    Raises WireError, ProofRefused, AwsError and its kin.
    """
    digest = rules.digest(client_id)
    try:
        keys, who = None, None
        if _is_first(_kept(code, TerminalToken.Kind.CODE), digest, redirect_uri, verifier, now):
            who = services.bearer(code, (TerminalToken.Kind.CODE,), asker, now=now)
            check_policy(who.principal.proof.provider_id, asker.address, who.terminal.flow)
            keys = _keys(who, proof, asker, now)
        tokens = services.exchange_code_for_tokens(
            code,
            client_digest=digest,
            redirect_uri=redirect_uri,
            verifier=verifier,
            now=now,
            key_thumbprint=proof.thumbprint,
            asker=asker,
        )
        if keys is None or who is None:
            raise WireError(Failure(Fault.INVALID_GRANT, f"This code is over. {AGAIN}"))
    except WireError as error:
        raise _about_code(error) from None
    identity = LoginIdentity(
        role_arn=keys.role.arn, person=str(who.terminal.person_id), handle=who.principal.handle
    )
    return Given(keys, tokens.refresh, mint_identity_token(identity, client_id=client_id, now=now))


@sensitive_variables()
def by_refresh_token(
    token: str, *, client_id: str, proof: KeyProof, asker: Asker, now: datetime
) -> Given:
    """New credentials and the next refresh token, for the client with the key that signed in.

    A refresh token that comes once more after its grace ends the terminal. One that was refused, or whose use failed,
    is as good as before. Raises WireError, ProofRefused, AwsError and its kin.
    """
    digest, kinds = rules.digest(client_id), (TerminalToken.Kind.REFRESH,)
    kept = _kept(token, TerminalToken.Kind.REFRESH)
    keys = None
    if kept is not None and rules.rotation(kept.used_at, kept.used, now) in (
        Rotation.FIRST,
        Rotation.SIBLING,
    ):
        who = services.bearer(token, kinds, asker, now=now)
        terminal = who.terminal
        if terminal.kind != Terminal.Kind.LOGIN or terminal.client_digest != digest:
            raise _denied(TOKEN_EXPIRED, f"This sign-in belongs to another client. {AGAIN}")
        if not terminal.key_thumbprint or terminal.key_thumbprint != proof.thumbprint:
            raise _denied(CHANGED, f"This sign-in belongs to another key than this one. {AGAIN}")
        keys = _keys(who, proof, asker, now)
    tokens = services.refresh(token, client_digest=digest, now=now, key_thumbprint=proof.thumbprint)
    if keys is None:
        raise _denied(TOKEN_EXPIRED, f"This sign-in is over. {AGAIN}")
    return Given(keys, tokens.refresh)


@sensitive_variables()
def _kept(secret: str, kind: TerminalToken.Kind) -> TerminalToken | None:
    return (
        TerminalToken.objects.select_related("terminal")
        .filter(digest=rules.digest(secret), kind=kind)
        .first()
    )


@sensitive_variables()
def _is_first(
    kept: TerminalToken | None, client_digest: str, redirect_uri: str, verifier: str, now: datetime
) -> bool:
    """Whether a code is brought by whom it was given to, as far as can be seen before it is exchanged."""
    return (
        kept is not None
        and kept.used_at is None
        and now < kept.expires_at
        and kept.terminal.kind == Terminal.Kind.LOGIN
        and kept.terminal.client_digest == client_digest
        and kept.bound.get("redirect_uri") == redirect_uri
        and rules.proves(verifier, str(kept.bound.get("challenge", "")))
    )


@sensitive_variables()
def _keys(who: Bearer, proof: KeyProof, asker: Asker, now: datetime) -> MachineKeys:
    """The terminal's role, decided anew. Raises WireError with the reason when it is refused."""
    terminal = who.terminal
    if terminal.role_id is None:
        raise _denied(INSUFFICIENT, "This sign-in is for no role.")
    ask = ask_of(terminal, terminal.role_id, KEYS_SECONDS)
    with _once(proof):
        found = keys_for(who, ask, asker, now=now)
    if isinstance(found, Refused):
        raise WireError(refusal(found))
    return found


@contextmanager
def _once(proof: KeyProof) -> Iterator[None]:
    """Take a proof for good, unless what it is for fails: then the same request may come again, as clients do.

    Raises ProofRefused for one that was taken before.
    """
    try:
        with transaction.atomic():
            UsedProof.objects.create(digest=proof.digest, forget_at=proof.forget_at)
    except IntegrityError:
        raise ProofRefused(
            "This very request came before. Try again.", code="proof_replayed"
        ) from None
    try:
        yield
    except Exception:
        UsedProof.objects.filter(digest=proof.digest).delete()
        raise


# --- What went wrong, as clients are told


def refusal(refused: Refused) -> Failure:
    """A refusal by the decision: whom a new sign-in helps is led there, everybody else reads the reason."""
    if not refused.visible:
        return Failure(
            Fault.ACCESS_DENIED,
            f"You may not take keys for this role any more. {AGAIN} It shows the roles that you have.",
            error=INSUFFICIENT,
        )
    if refused.next_step in _SIGNS_IN:
        return Failure(Fault.ACCESS_DENIED, f"{refused.sentence} {AGAIN}", error=TOKEN_EXPIRED)
    return Failure(Fault.ACCESS_DENIED, refused.sentence, error=INSUFFICIENT)


def _denied(error: str, message: str) -> WireError:
    return WireError(Failure(Fault.ACCESS_DENIED, message, error=error))


def _about_code(error: WireError) -> WireError:
    """What the services say about a code, in this protocol's words."""
    if error.failure.fault in (Fault.INVALID_GRANT, Fault.UNAUTHORIZED):
        return _denied(CODE_EXPIRED, error.failure.message)
    return error


def in_signin_words(error: DaypassError) -> Failure:
    """A failure of ours as signin says it."""
    match error:
        case NotAllowed() | SignInRefused():
            return Failure(Fault.ACCESS_DENIED, error.message, error=INSUFFICIENT)
        case BadInput():
            return Failure(Fault.VALIDATION, error.message, error="INVALID_REQUEST")
    return Failure(Fault.INTERNAL_SERVER, error.message)


def in_signin_faults(failure: Failure) -> Failure:
    """A fault that all doors know, by the name that signin's model has for it."""
    bare = replace(failure, bare=True)
    match failure.fault:
        case Fault.INVALID_GRANT | Fault.UNAUTHORIZED:
            return replace(bare, fault=Fault.ACCESS_DENIED, error=TOKEN_EXPIRED)
        case Fault.SLOW_DOWN | Fault.TOO_MANY_REQUESTS | Fault.TOO_MANY_REQUESTS_ERROR:
            return replace(bare, fault=Fault.TOO_MANY_REQUESTS_ERROR, error="rate_exceeded")
        case Fault.INVALID_REQUEST:
            return replace(bare, fault=Fault.VALIDATION, error="INVALID_REQUEST")
        case Fault.INTERNAL_SERVER:
            return replace(bare, error="server_error")
    return bare
