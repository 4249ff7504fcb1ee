"""What a provider says anew: shown before and after, and decided by exactly what was shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib import admin, messages
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from accounts import services
from accounts.admin.common import by
from accounts.admin.providers import certificate_rows, key_rows
from accounts.models import IdentityProvider, Protocol, ProviderProposal
from broker.backoffice import (
    DetailAdmin,
    Panel,
    chip,
    link_to,
    may_administer,
    panel,
    plural,
    url_of,
)
from broker.errors import DaypassError
from broker.templatetags.backoffice import exact, moment

State = ProviderProposal.State
NAMES = {
    "sso_url": "Sign-on address",
    "slo_url": "Sign-out address",
    "jwks_uri": "Address of its keys",
}
COLOURS = {
    State.OPEN: "amber",
    State.ACCEPTED: "green",
    State.DISMISSED: "grey",
    State.SUPERSEDED: "grey",
}


@admin.register(ProviderProposal)
class ProviderProposalAdmin(DetailAdmin):
    list_title = "What they say anew"
    list_display = ("about", "state_now", "found", "decided")
    list_filter = ("state",)
    list_select_related = ("provider", "decided_by")
    ordering = ("-found_at",)
    empty_title = "Nothing waits for you."
    empty = (
        "A new key or address that an administrator has to believe waits here until you say yes."
    )
    intro = "New keys and addresses of identity providers. What waits here is not believed before you say so."

    @admin.display(description="provider", ordering="provider__name")
    def about(self, proposal: ProviderProposal) -> str:
        return proposal.provider.name

    @admin.display(description="state", ordering="state")
    def state_now(self, proposal: ProviderProposal) -> str:
        return chip(proposal.get_state_display(), COLOURS[State(proposal.state)])

    @admin.display(description="found", ordering="found_at")
    def found(self, proposal: ProviderProposal) -> str:
        return moment(proposal.found_at)

    @admin.display(description="decided", ordering="decided_at")
    def decided(self, proposal: ProviderProposal) -> str:
        return moment(proposal.decided_at)

    def page(self, request: HttpRequest, thing: ProviderProposal) -> dict[str, Any]:
        return {
            **super().page(request, thing),
            "title": f"{thing.provider} says something new",
        }

    def facts(self, request: HttpRequest, thing: ProviderProposal) -> Sequence[tuple[str, Any]]:
        told: list[tuple[str, Any]] = [
            ("State", self.state_now(thing)),
            ("Provider", link_to(thing.provider)),
            ("Found", exact(thing.found_at)),
        ]
        if thing.decided_at:
            told.append(("Decided", exact(thing.decided_at)))
        if thing.decided_by:
            told.append(("By", str(thing.decided_by)))
        return told

    def get_urls(self) -> list[URLPattern]:
        decide = path(
            "<uuid:pk>/decide/",
            self.admin_site.admin_view(self.decide_view),
            name="accounts_providerproposal_decide",
        )
        return [decide, *super().get_urls()]

    def decide_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        """POST: believe or dismiss what has the digest that was shown."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        proposal = ProviderProposal.objects.select_related("provider").filter(pk=pk).first()
        if proposal is None or not may_administer(request):
            raise Http404
        shown = request.POST.get("digest", "")
        now = timezone.now()
        try:
            if request.POST.get("decision") == "believe":
                services.accept_proposal(proposal, shown, by(request), now)
                said = f"What {proposal.provider} says is believed from now on."
                if services.forgets_secret(proposal.content):
                    said += " Its token endpoint is another one: give the client secret again."
                messages.success(request, said)
            elif request.POST.get("decision") == "dismiss":
                services.dismiss_proposal(proposal, shown, by(request), now)
                messages.success(
                    request,
                    f"Dismissed. You will be asked again when {proposal.provider} says something else.",
                )
        except DaypassError as error:
            messages.error(request, " ".join(filter(None, (error.message, error.cause))))
            return HttpResponseRedirect(url_of(proposal))
        return HttpResponseRedirect(url_of(proposal.provider))


@panel("accounts.providerproposal", position=10)
def what_is_new(request: HttpRequest, proposal: ProviderProposal) -> Panel:
    return Panel(
        "Before and after",
        "admin/proposal.html",
        shown(proposal),
        note=_what_to_ask(proposal, "the provider's") if proposal.state == State.OPEN else "",
    )


@panel("accounts.identityprovider", position=1)
def what_waits(request: HttpRequest, provider: IdentityProvider) -> Panel | None:
    proposal = provider.proposals.filter(state=State.OPEN).first()
    if proposal is None:
        return None
    return Panel(
        "Waits for you",
        "admin/proposal.html",
        shown(proposal),
        note=f"The provider says something new about itself, found on {exact(proposal.found_at)}. Nothing of it is "
        f"believed yet. {_what_to_ask(proposal, 'its')}",
    )


def _what_to_ask(proposal: ProviderProposal, whose: str) -> str:
    """How an administrator finds out whether the provider said it."""
    if proposal.content.get("keys"):
        return f"Compare the fingerprints with what {whose} administrator tells you, by telephone or in person."
    return f"Ask {whose} administrator, by telephone or in person, whether this is right."


def shown(proposal: ProviderProposal) -> dict[str, Any]:
    """The exact difference, in words that people can compare."""
    content = proposal.content
    keys = content.get("keys") or {"before": [], "after": []}
    saml = content["protocol"] == Protocol.SAML
    mark = "fingerprint" if saml else "thumbprint"
    # By name and not by order: PostgreSQL keeps the members of JSON in an order of its own.
    rows_of = certificate_rows if saml else key_rows
    before, after = rows_of(keys["before"]), rows_of(keys["after"])
    known = {row[mark] for row in before}
    staying = {row[mark] for row in after}
    rows: list[Mapping[str, Any]] = [
        {**row, "fate": "kept" if row[mark] in staying else "removed"} for row in before
    ]
    rows += [{**row, "fate": "new"} for row in after if row[mark] not in known]
    return {
        "proposal": proposal,
        "open": proposal.state == State.OPEN,
        "accepted": proposal.state == State.ACCEPTED,
        "counts": proposal.state in (State.OPEN, State.ACCEPTED),
        "facts": [
            {"name": NAMES.get(name, name.replace("_", " ").capitalize()), **change}
            for name, change in content["facts"].items()
        ],
        "keys": rows,
        "saml": saml,
        "forgets_secret": services.forgets_secret(content),
        "other_kind": _other_kind(proposal.provider, keys["after"]) if not saml else "",
        "decide": reverse("admin:accounts_providerproposal_decide", args=(proposal.pk,)),
        "count": plural(len([row for row in rows if row["fate"] == "new"]), "new key", "new keys"),
    }


def _other_kind(provider: IdentityProvider, keys: Sequence[Mapping[str, Any]]) -> str:
    """The pinned algorithm, when none of these keys fits it."""
    kind = {"RS256": "RSA", "ES256": "EC"}[provider.id_token_algorithm]
    return provider.id_token_algorithm if keys and kind not in {k["kty"] for k in keys} else ""
