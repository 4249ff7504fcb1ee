"""What was found in AWS: proposals to take into the catalogue or to set aside, and marks on what is gone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.html import format_html

from broker.audit.administrators import by
from broker.backoffice import (
    Attention,
    Deed,
    DetailAdmin,
    add_deed,
    attentions,
    chip,
    choice,
    contributes,
    list_url,
    mark,
    plural,
    spoken,
)
from broker.discovery import services
from broker.discovery.models import Finding
from broker.entitlements.models import AwsAccount, AwsRole
from broker.errors import DaypassError
from broker.templatetags.backoffice import exact, moment

State = Finding.State
COLOURS = {
    State.NEW: "blue",
    State.ACCEPTED: "green",
    State.DISMISSED: "grey",
    State.VANISHED: "amber",
}


def _waits(finding: Finding) -> bool:
    return finding.state in (State.NEW, State.DISMISSED)


def _accept(request: HttpRequest, finding: Finding) -> str:
    made = services.accept(finding.pk, **by(request))
    return f"{made} is in the catalogue. A mapping gives it to people."


def _dismiss(request: HttpRequest, finding: Finding) -> str:
    services.dismiss(finding.pk, **by(request))
    return f"{finding} is set aside and not proposed again."


def _look(request: HttpRequest, account: AwsAccount) -> str:
    looked = services.look(account, actor=by(request)["actor"], now=timezone.now())
    return f"Read. {looked.new} new in AWS, {looked.gone} of the catalogue gone."


add_deed(
    "broker.awsaccount",
    Deed(
        "look",
        "Read from AWS",
        _look,
        available=lambda account: bool(account.discovery_role) and account.enabled,
    ),
)


@admin.register(Finding)
class FindingAdmin(DetailAdmin):
    list_display = ("found", "what", "account_id", "trusts", "state_now", "seen")
    list_filter = ("state", "kind")
    search_fields = ("name", "account_id__startswith", "arn__exact")
    search_help_text = "Name, account id or ARN"
    list_title = "Found in AWS"
    intro = (
        "Accounts of the organisation, and roles whose trust names this Daypass. Taking one into the catalogue gives "
        "nobody a right yet."
    )
    empty = format_html(
        "Set a discovery role on the page of an account; once a day it is read, or by <code>{}</code>.",
        "manage.py discover",
    )
    empty_link = ("admin:broker_awsaccount_changelist", "Choose an account")
    ordering = ("state", "kind", "account_id", "name")
    deeds = (
        Deed("accept", "Take into the catalogue", _accept, available=_waits),
        Deed("dismiss", "Set aside", _dismiss, available=lambda one: one.state == State.NEW),
    )

    @admin.display(description="found", ordering="name")
    def found(self, finding: Finding) -> str:
        return finding.name

    @admin.display(description="kind", ordering="kind")
    def what(self, finding: Finding) -> str:
        return finding.get_kind_display()

    @admin.display(description="trusts Daypass as")
    def trusts(self, finding: Finding) -> str:
        return {"web_identity": "web identity", "saml": "SAML"}.get(
            finding.details.get("trust", ""), ""
        )

    @admin.display(description="state", ordering="state")
    def state_now(self, finding: Finding) -> str:
        return chip(finding.get_state_display(), COLOURS[State(finding.state)])

    @admin.display(description="last seen", ordering="last_seen_at")
    def seen(self, finding: Finding) -> str:
        return moment(finding.last_seen_at)

    def facts(self, request: HttpRequest, thing: Finding) -> Sequence[tuple[str, Any]]:
        facts = [
            ("State", self.state_now(thing)),
            ("Kind", thing.get_kind_display()),
            ("Name", thing.name),
            ("Account", thing.account_id),
            ("First seen", exact(thing.first_seen_at)),
            ("Last seen", exact(thing.last_seen_at)),
        ]
        if thing.kind == Finding.Kind.ROLE:
            facts += [
                ("Trusts Daypass as", self.trusts(thing)),
                ("Longest session", spoken(thing.details.get("max_seconds"))),
            ]
        if thing.decided_at:
            facts.append(("Decided", f"{exact(thing.decided_at)} {thing.decided_by or ''}"))
        return facts


@choice("accept_findings", "Take into the catalogue", "broker.finding")
def accept_chosen(request: HttpRequest, chosen: QuerySet[Any]) -> HttpResponse:
    """Accounts before their roles; each stands or falls by itself."""
    taken = 0
    for finding in chosen.filter(state__in=(State.NEW, State.DISMISSED)).order_by("kind", "arn"):
        try:
            services.accept(finding.pk, **by(request))
            taken += 1
        except DaypassError as error:
            messages.error(request, f"{finding}: {error.message}")
    messages.success(request, f"{taken} taken into the catalogue.")
    return HttpResponseRedirect(list_url(Finding))


@mark("broker.awsrole")
def role_is_gone(role: AwsRole) -> str:
    if role.vanished_at is None:
        return ""
    return chip("gone in AWS", "amber")


@mark("broker.awsaccount")
def account_is_gone(account: AwsAccount) -> str:
    if account.vanished_at is None:
        return ""
    return chip("gone from AWS", "amber")


@contributes(attentions)
def found_and_gone(request: HttpRequest) -> Iterable[Attention]:
    new = Finding.objects.filter(state=State.NEW).count()
    if new:
        yield Attention(
            "note",
            f"{plural(new, 'account or role', 'accounts or roles')} found in AWS that the catalogue "
            "does not have.",
            list_url(Finding, state__exact=State.NEW.value),
            "Look at them",
        )
    gone = AwsRole.objects.filter(enabled=True, account__enabled=True).exclude(vanished_at=None)
    count = gone.count()
    if count:
        yield Attention(
            "wrong",
            f"{plural(count, 'role is', 'roles are')} in use in Daypass and gone in AWS.",
            list_url(AwsRole, vanished_at__isnull="False"),
            "See which",
        )
    accounts = AwsAccount.objects.filter(enabled=True).exclude(vanished_at=None).count()
    if accounts:
        yield Attention(
            "wrong",
            f"{plural(accounts, 'account is', 'accounts are')} in use in Daypass and gone from the "
            "organisation.",
            list_url(AwsAccount, vanished_at__isnull="False"),
            "See which",
        )
