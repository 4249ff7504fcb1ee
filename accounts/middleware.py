"""Who is asking: the principal of every request, and the limits of a browser session.

Both look at the session only when a view is about to run that may want to know. Views marked with Django's
`login_not_required` (what AWS fetches) never touch a session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone

from accounts import browser, queries, services
from accounts.models import Person
from accounts.network import client_address

__all__ = ["client_address", "principal", "session_limits"]

Handler = Callable[[HttpRequest], HttpResponse]


def _concerned(request: HttpRequest, view: Callable[..., HttpResponse]) -> bool:
    return bool(getattr(view, "login_required", True)) and SESSION_KEY in request.session


class session_limits:  # noqa: N801 (Django's middleware by name, like its neighbours)
    """End a session that is idle or old for too long; whoever asks for a page then signs in and comes back to it."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponse], *_: Any
    ) -> None:
        if not _concerned(request, view):
            return
        now = timezone.now()
        over = browser.over_because(request.session, now)
        if over:
            browser.end(request, how=over, now=now)
            request.session_over = over  # type: ignore[attr-defined]  # told on the sign-in page
        else:
            browser.note_seen(request.session, now)


class principal:  # noqa: N801
    """`request.principal`: who is signed in, re-checked against the database on every request (threats.md R53).

    None for everybody else, and for a break-glass account until it has a second factor: that one is led to set it up
    and can do nothing else.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.principal = None  # type: ignore[attr-defined]
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponse], *_: Any
    ) -> HttpResponse | None:
        if not _concerned(request, view):
            return None
        person = request.user
        dead = browser.dead_because(request.session, person) if person.is_authenticated else "ended"
        if dead:
            browser.end(request, how=dead, now=timezone.now())
            return None
        assert isinstance(person, Person)
        proof = browser.proof_of(request, person)
        if proof.method == "local" and not proof.mfa:
            return _set_up_second_factor(request)
        request.principal = queries.principal_of(  # type: ignore[attr-defined]
            person,
            proof,
            address=client_address(request),
            relay=services.relay_reference(request.session.session_key),
        )
        return None


def _set_up_second_factor(request: HttpRequest) -> HttpResponse | None:
    local = reverse("local_sign_in")
    if request.path.startswith((local + "second-factor/", reverse("sign_out"))):
        return None
    return HttpResponseRedirect(reverse("mfa_activate_totp"))
