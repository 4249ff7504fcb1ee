"""The demo company's sign-in page: pick one of the cast, with or without a second factor."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from django.contrib.auth import authenticate, login, logout
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.csrf import csrf_protect

from broker.demo.cast import CAST, CONTRACTORS, PASSWORD, PROVIDERS, STAFF
from broker.demo.idp.proof import FRESH, Proof, keep_proof
from broker.demo.stage import current_stage


def home(request: HttpRequest) -> HttpResponse:
    return render(
        request,
        "idp/home.html",
        {"person": _signed_in_as(request), "daypass": current_stage().origin},
    )


@csrf_protect
def sign_in(request: HttpRequest) -> HttpResponse:
    """GET: the cast of the department that is asked for by where the visitor is going; POST: sign in and go there."""
    onward = request.POST.get("next") or request.GET.get("next") or "/"
    department = STAFF if urlsplit(onward).path.startswith("/saml/") else CONTRACTORS
    people = [person for person in CAST if person.provider == department]
    problem = ""
    if request.method == "POST":
        user = authenticate(
            request,
            username=request.POST.get("login", ""),
            password=request.POST.get("password", ""),
        )
        if user is not None and any(person.login == user.get_username() for person in people):
            login(request, user)
            keep_proof(request, Proof(at=int(time.time()), mfa="mfa" in request.POST))
            return HttpResponseRedirect(_local(onward))
        problem = "That name and password do not belong together."
    return render(
        request,
        "idp/sign_in.html",
        {
            "company": PROVIDERS[department],
            "people": people,
            "password": PASSWORD,
            "next": onward,
            "problem": problem,
        },
        status=400 if problem else 200,
    )


def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponseRedirect("/")


def _signed_in_as(request: HttpRequest) -> str:
    login_name = request.user.get_username()
    return next((person.name for person in CAST if person.login == login_name), "")


def _local(address: str) -> str:
    parts = urlsplit(address)
    return "/" if parts.scheme or parts.netloc or not address.startswith("/") else address


__all__ = ["FRESH", "home", "sign_in", "sign_out"]
