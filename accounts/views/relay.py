"""The way of a response that a provider's AWS application made out to AWS: asked for here, taken here, kept for AWS.

The person's own browser asks: it gets a keyed cookie that comes along when the provider's page makes it post, so that a
posted message is looked at only where it answers something that began here minutes ago. What was posted waits, sealed,
for the page that follows; there the session says who asked, and only then the message is read.
"""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_GET, require_POST

from accounts import browser, limits, places, queries, relay, room, saml, services
from accounts.decorators import signed_in
from accounts.models import RelayApplication
from accounts.network import client_address, counted_address
from accounts.services import OneUse, waiting
from accounts.services.relaying import LONGEST_ASSERTION
from accounts.views.doors import come_for, going, person_of, quiet
from broker.sealing import seal, unseal

_PREFIX = "__Secure-" if settings.SECURE_ORIGIN else ""

RELAY_COOKIE = f"{_PREFIX}daypass_relay"
RELAY_ANSWER_COOKIE = f"{_PREFIX}daypass_relay_answer"
ASKED = "daypass_relay"
"""In the session: what this browser asked for, by the cookie's value."""
MOST_ASKED = 5
PURPOSE = "relay"


@require_POST
@signed_in
def relay_start(request: HttpRequest, slug: str) -> HttpResponse:
    """Send the person to their provider's AWS application, and remember that they asked, and from where."""
    application = _application(slug)
    if person_of(request).provider_id != application.provider_id:
        raise Http404
    room.warm()
    to = places.find(request.POST.get("to", ""))
    asked_id = saml.request_id(slug, purpose=PURPOSE)
    asked: dict[str, Any] = dict(request.session.get(ASKED) or {})
    asked[asked_id] = {"provider": slug, "to": to, "at": time.time()}
    latest = sorted(asked, key=lambda one: float(asked[one]["at"]))[-MOST_ASKED:]
    request.session[ASKED] = {one: asked[one] for one in latest}
    response = going(request, application.provider.name, application.start_url)
    response.set_cookie(
        RELAY_COOKIE,
        asked_id,
        max_age=int(saml.REQUEST_LIFETIME.total_seconds()),
        path=reverse("relay_aws", kwargs={"slug": slug}),
        secure=settings.SECURE_ORIGIN,
        httponly=True,
        samesite="None" if settings.SECURE_ORIGIN else "Lax",
    )
    return response


@csrf_exempt
@require_POST
@browser.spared
@quiet
@sensitive_variables()
def relay_aws(request: HttpRequest, slug: str) -> HttpResponse:
    """Take what the provider's page posted; sealed, for the page that follows. Nothing of it is read yet."""
    request.relaying = True  # type: ignore[attr-defined]  # for the page, should this fail
    application = _application(slug)
    asked_id = _asked_by_cookie(request, slug)
    found = request.POST.getlist("SAMLResponse")
    if len(found) != 1 or not found[0]:
        raise saml.refused("The form holds no answer, or several.")
    if len(found[0]) > LONGEST_ASSERTION:
        raise saml.refused(
            f"The answer has {len(found[0])} characters; AWS takes {LONGEST_ASSERTION}.",
            "Let the application name fewer roles.",
        )
    row = application.provider
    key = waiting.keep_answer(
        row,
        seal(found[0].encode(), place=_waits(asked_id)),
        request_id=asked_id,
        now=timezone.now(),
    )
    limits.note_kept(row.slug, counted_address(request))
    page = reverse("relay_aws_finish", kwargs={"slug": slug})
    return come_for(page, RELAY_ANSWER_COOKIE, key, int(waiting.ANSWER_KEPT.total_seconds()))


@require_GET
@browser.spared
@quiet
@sensitive_variables()
def relay_aws_finish(request: HttpRequest, slug: str) -> HttpResponse:
    """Read it, in the browser and the session that asked, once; keep it for AWS, and go back to the role."""
    request.relaying = True  # type: ignore[attr-defined]
    application = _application(slug)
    if getattr(request, "principal", None) is None:
        raise saml.refused("Nobody is signed in in this browser.", code="state_unknown")
    kept = waiting.take_answer(application.provider, request.COOKIES.get(RELAY_ANSWER_COOKIE))
    if kept is None:
        return HttpResponseRedirect(reverse("home"))
    with limits.fetched(request, slug):
        asked = dict(request.session.get(ASKED) or {})
        mine = asked.pop(kept.request_id, None)
        request.session[ASKED] = asked
        if mine is None or mine["provider"] != slug:
            raise saml.refused("This session did not ask for the answer.", code="state_unknown")
        message = unseal(kept.unverified_message, place=_waits(kept.request_id)).decode()
        _take(request, application, message, kept.request_id, timezone.now())
    response = HttpResponseRedirect(mine["to"] if places.is_page(mine["to"]) else reverse("home"))
    response.delete_cookie(RELAY_ANSWER_COOKIE, path=request.path, samesite="Lax")
    return response


@sensitive_variables()
def _take(
    request: HttpRequest,
    application: RelayApplication,
    message: str,
    asked_id: str,
    now: datetime,
) -> None:
    row = application.provider
    recipients = relay.recipients_of(application.partition)
    verified = saml.verify_passing(
        message,
        us=saml.Us(
            entity_id=relay.audience_of(application.partition),
            acs=settings.DAYPASS_ORIGIN + reverse("relay_aws", kwargs={"slug": row.slug}),
            sls="",
            recipients=recipients,
        ),
        provider=_maker(application),
        slug=row.slug,
        now=now,
    )
    said = verified.attributes
    person = person_of(request)
    subject = said.subject
    if application.subject_attribute:
        values = said.attributes.get(application.subject_attribute, ())
        subject = values[0] if len(values) == 1 else None
    if not subject or (person.provider_id, person.subject) != (row.pk, subject):
        raise saml.refused(
            f"The answer for AWS is about {str(subject)[:100]!r}, and not about the person who asked, "
            f"{person.subject[:100]!r}.",
            "Let the AWS application send the same id of a person as the provider's sign-ins do, or name the attribute "
            "that holds it. Otherwise somebody tried with another's answer.",
            code="relay_other_person",
        )
    pairs = relay.role_pairs(said.attributes.get(relay.ROLE, ()), application.partition)
    if not pairs:
        raise saml.refused(
            "The answer for AWS names no role that AWS would understand.",
            "Let the AWS application send the attribute https://aws.amazon.com/SAML/Attributes/Role with values of the "
            "form ROLE-ARN,SAML-PROVIDER-ARN, without blanks.",
            code="relay_no_roles",
        )
    services.take_assertion(
        person,
        row,
        message,
        session_key=request.session.session_key,
        asked=OneUse("relay", asked_id, now + saml.REQUEST_LIFETIME),
        assertion=OneUse("relayed assertion", verified.assertion_id, verified.expires_at),
        roles=pairs,
        evidence=said.evidence,
        address=client_address(request),
        now=now,
    )


def _application(slug: str) -> RelayApplication:
    found = queries.find_application(slug)
    if found is None:
        raise Http404
    return found


def _maker(application: RelayApplication) -> saml.Provider:
    return saml.Provider(
        entity_id=application.entity_id,
        sso_url=application.start_url,
        slo_url="",
        certificates=tuple(application.certificates),
        response_signed=False,
    )


def _asked_by_cookie(request: HttpRequest, slug: str) -> str:
    asked_id = request.COOKIES.get(RELAY_COOKIE, "")
    if not saml.is_our_request_id(asked_id, slug, purpose=PURPOSE):
        raise saml.refused("This browser asked for no answer for AWS.", code="unsolicited")
    return asked_id


def _waits(asked_id: str) -> str:
    return f"relayed-answer:{asked_id}"
