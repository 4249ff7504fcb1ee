"""How and when the person in front of the demo's sign-in page proved who they are."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest

FRESH = "fresh"


@dataclass(frozen=True, slots=True)
class Proof:
    """at: seconds since the epoch. mfa: whether the box of the second factor was ticked."""

    at: int
    mfa: bool


def keep_proof(request: HttpRequest, proof: Proof) -> None:
    request.session["proof"] = [proof.at, proof.mfa]
    request.session[FRESH] = True


def proof_of(request: HttpRequest) -> Proof | None:
    kept = request.session.get("proof")
    return (
        Proof(at=int(kept[0]), mfa=bool(kept[1]))
        if kept and request.user.is_authenticated
        else None
    )


def take_fresh(request: HttpRequest) -> bool:
    """Whether the person has just signed in for this very request. One sign-in serves one request.

    So the demo asks at every sign-in, and whoever tries it can be somebody else each time.
    """
    return request.user.is_authenticated and bool(request.session.pop(FRESH, False))
