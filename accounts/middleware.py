"""Who is asking: the principal of every request, and the limits of a browser session."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone

from accounts import browser, queries
from accounts.models import Person
from accounts.network import client_address

__all__ = ["client_address", "principal", "session_limits"]

Handler = Callable[[HttpRequest], HttpResponse]


def session_limits(get_response: Handler) -> Handler:
    """End a session that is idle or old for too long; whoever asks for a page then signs in and comes back to it."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if SESSION_KEY in request.session:
            now = timezone.now()
            over = browser.over_because(request.session, now)
            if over:
                browser.end(request, how=over, now=now)
                request.session_over = over  # type: ignore[attr-defined]  # told on the sign-in page
            else:
                browser.note_seen(request.session, now)
        return get_response(request)

    return middleware


def principal(get_response: Handler) -> Handler:
    """`request.principal`: who is signed in, re-checked against the database on every request (threats.md R53).

    None for everybody else, and for a break-glass account until it has a second factor: that one is led to set it up
    and can do nothing else.
    """

    def middleware(request: HttpRequest) -> HttpResponse:
        request.principal = None  # type: ignore[attr-defined]
        if SESSION_KEY not in request.session:
            return get_response(request)
        person = request.user
        dead = "ended"
        if isinstance(person, Person) or person.is_authenticated:
            dead = browser.dead_because(request.session, person)  # type: ignore[arg-type]
        if dead:
            browser.end(request, how=dead, now=timezone.now())
            return get_response(request)
        assert person.is_authenticated
        proof = browser.proof_of(request, person)
        if proof.method == "local" and not proof.mfa:
            return _set_up_second_factor(request, get_response)
        request.principal = queries.principal_of(  # type: ignore[attr-defined]
            person, proof, address=client_address(request)
        )
        return get_response(request)

    return middleware


def _set_up_second_factor(request: HttpRequest, get_response: Handler) -> HttpResponse:
    local = reverse("local_sign_in")
    if request.path.startswith((local + "second-factor/", reverse("sign_out"))):
        return get_response(request)
    return HttpResponseRedirect(reverse("mfa_activate_totp"))
