"""The start URL, which newer AWS CLIs look at before they sign in, and the address at which Daypass tests its proxy.

AWS CLI 2.35.13 and newer take a start URL of another host only if one HEAD request leads from there to a host that
AWS calls its own. The identifier that we name there is nobody's and has no address: nothing is ever sent to it.
"""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import path, reverse
from django.views.decorators.http import require_GET, require_safe

from broker.awssso import checks
from broker.awssso.profile_views import place


@login_not_required
@require_safe
def start(request: HttpRequest) -> HttpResponse:
    """HEAD: where AWS CLIs find what they look for. GET: the page Terminal, for people."""
    if request.method == "HEAD":
        return HttpResponseRedirect(place().identifier)
    return HttpResponseRedirect(reverse("terminal"))


@login_not_required
@require_GET
def header_test(request: HttpRequest) -> HttpResponse:
    """What arrived in x-amz-sso_bearer_token, as a proof that only this Daypass can make; see checks.look."""
    return JsonResponse(
        {"arrived": checks.proof_of(request.META.get(checks.AS_WSGI_SAYS, ""))},
        headers={"Cache-Control": "no-store"},
    )


urlpatterns = [
    path("start", start, name="terminal_start"),
    path("aws/header-test", header_test, name="header_test"),
]
