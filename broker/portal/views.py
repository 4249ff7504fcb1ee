"""The pages of an employee: roles, console, keys, sessions."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    return render(request, "portal/home.html")


@require_GET
def sessions(request: HttpRequest) -> HttpResponse:
    return render(request, "portal/sessions.html")
