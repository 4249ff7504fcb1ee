"""Test sign-ins, for administrators."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts import queries, services
from accounts.decorators import staff_signed_in
from accounts.views.beginning import begin
from accounts.views.doors import TEST, person_of
from broker.errors import DaypassError


@require_POST
@staff_signed_in
def provider_test_start(request: HttpRequest, slug: str) -> HttpResponse:
    """An administrator tries a provider, switched on or not. They stay signed in as they are."""
    row = queries.find_provider(slug)
    if row is None:
        raise Http404
    test = services.start_test(row, person_of(request), now=timezone.now())
    try:
        return begin(request, row, process=TEST, fresh=False, data={"test": str(test.pk)})
    except DaypassError as error:
        services.finish_test(test.pk, row, problem=error.why, now=timezone.now())
        return HttpResponseRedirect(reverse("provider_test_result", args=[test.pk]))


@require_safe
@staff_signed_in
def provider_test_result(request: HttpRequest, test_id: UUID) -> HttpResponse:
    """What arrived, what it became, what was checked: for the administrator who tried."""
    test = queries.test_of(test_id, person_of(request))
    if test is None:
        raise Http404
    arrived = test.arrived
    return render(
        request,
        "accounts/test_result.html",
        {
            "test": test,
            # As pairs: a claim of the name `items` must not be taken for the method.
            "person_attributes": list(test.became.get("attributes", {}).items()),
            "attributes": _told(arrived.get("attributes", {})),
            "userinfo": _told(arrived.get("userinfo") or {}),
        },
    )


def _told(claims: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Each claim with its values as texts; what is no text as JSON."""
    return [
        (
            name,
            [
                one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)
                for one in (value if isinstance(value, list) else [value])
            ],
        )
        for name, value in claims.items()
    ]
