"""Terminals in the admin: who let what in, ending it, and what terminals may."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join

from accounts.models import IdentityProvider
from broker.audit.administrators import actor_of, by
from broker.audit.models import AuditEvent
from broker.audit.rules import Kind
from broker.awssso import services
from broker.awssso.models import Terminal, TerminalPolicy
from broker.awssso.policies import (
    LONGEST,
    SHORTEST,
    PolicyDraft,
    delete_policy,
    save_policy,
)
from broker.backoffice import (
    NOTHING,
    Attention,
    DaypassAdmin,
    Deed,
    DetailAdmin,
    Figure,
    LengthField,
    LinesField,
    Panel,
    ServiceForm,
    add_deed,
    attentions,
    chip,
    consequence,
    contributes,
    counted,
    figures,
    fitting,
    link_to,
    list_url,
    panel,
    plural,
    spoken,
    titled,
    url_of,
)
from broker.templatetags.backoffice import exact, moment


def _alive(now: datetime) -> Q:
    return Q(ended_at__isnull=True, ends_at__gt=now)


def _is_live(terminal: Terminal) -> bool:
    return terminal.ended_at is None and terminal.ends_at > timezone.now()


def state_chip(terminal: Terminal) -> str:
    if _is_live(terminal):
        return chip("live", "green")
    if terminal.ended_because in (Terminal.Ended.REUSED, Terminal.Ended.SHUT):
        return chip("ended", "red")
    return chip("ended", "grey")


# --- Terminals


class LiveFilter(admin.SimpleListFilter):
    title = "live"
    parameter_name = "live"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Live now"), ("no", "Over")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Terminal]) -> Any:
        match self.value():
            case "yes":
                return queryset.filter(_alive(timezone.now()))
            case "no":
                return queryset.exclude(_alive(timezone.now()))
        return queryset


WHAT_THEY_CANNOT = (
    "Their tokens are refused at once, and each has to be let in anew. Keys that they already took keep working "
    "until they expire: AWS does not take them back."
)
WHAT_IT_CANNOT = (
    "Its tokens are refused at once, and it has to be let in anew. Keys that it already took keep working until they "
    "expire: AWS does not take them back."
)


def _end(request: HttpRequest, terminal: Terminal) -> str:
    ended = services.end(
        terminal.pk,
        because=Terminal.Ended.ADMINISTRATOR,
        actor=actor_of(request),
        now=timezone.now(),
    )
    if not ended:
        return "It was over already."
    return (
        "Ended: its tokens are refused. Keys that it already took keep working until they expire."
    )


def _live_of(person: Any) -> QuerySet[Terminal]:
    return Terminal.objects.filter(_alive(timezone.now()), person=person)


def _end_all(request: HttpRequest, person: Any) -> str:
    now = timezone.now()
    found = list(_live_of(person).values_list("pk", flat=True))
    ended = sum(
        services.end(one, because=Terminal.Ended.ADMINISTRATOR, actor=actor_of(request), now=now)
        for one in found
    )
    return f"{plural(ended, 'terminal', 'terminals')} of {person} ended."


def _end_all_warning(person: Any) -> str:
    count = _live_of(person).count()
    which, after = ("the only terminal", WHAT_IT_CANNOT)
    if count != 1:
        which, after = (f"all {count} terminals", WHAT_THEY_CANNOT)
    return (
        f"This ends {which} of {person}, tokens for scripts included. {after} {person} stays signed in in the browser "
        "and may let terminals in again."
    )


add_deed(
    "accounts.person",
    Deed(
        "end-terminals",
        "End terminals",
        _end_all,
        available=lambda person: _live_of(person).exists(),
        warn=_end_all_warning,
        danger=True,
    ),
)


@admin.register(Terminal)
class TerminalAdmin(DetailAdmin):
    list_display = ("terminal", "whose", "what", "asked", "since", "until", "used", "state_now")
    list_filter = (
        LiveFilter,
        ("kind", titled("what it is", admin.ChoicesFieldListFilter)),
        ("flow", titled("let in", admin.ChoicesFieldListFilter)),
        ("ended_because", titled("ended because", admin.ChoicesFieldListFilter)),
        ("created_at", titled("since", admin.DateFieldListFilter)),
    )
    list_select_related = ("person", "role__account")
    search_fields = ("client_name",)
    search_help_text = "Person, program, label or address"
    ordering = ("-created_at",)
    intro = (
        "AWS CLIs and SDKs that people let in, and their tokens for scripts. What a program calls itself is its own "
        "word and proves nothing."
    )
    empty = format_html(
        "They appear when somebody runs <code>{}</code> or makes a token for scripts.",
        "aws sso login",
    )
    deeds = (
        Deed(
            "end",
            "End terminal",
            _end,
            available=_is_live,
            warn=lambda terminal: f"This ends {terminal} of {terminal.person}. {WHAT_IT_CANNOT}",
            danger=True,
        ),
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        found = fitting(
            queryset,
            search_term,
            "person__handle__istartswith",
            "person__name__icontains",
            "client_name__icontains",
            "label__icontains",
            "asked_from__startswith",
            "used_from__startswith",
        )
        return found, False

    @admin.display(description="terminal")
    def terminal(self, terminal: Terminal) -> str:
        return str(terminal)

    @admin.display(description="whose", ordering="person__handle")
    def whose(self, terminal: Terminal) -> str:
        return link_to(terminal.person, terminal.person.handle)

    @admin.display(description="what it is", ordering="kind")
    def what(self, terminal: Terminal) -> str:
        chips = [chip("by code", "amber")] if terminal.flow == Terminal.Flow.DEVICE else []
        return format_html(
            "{} {}", terminal.get_kind_display(), format_html_join(" ", "{}", ((c,) for c in chips))
        )

    @admin.display(description="asked from", ordering="asked_from")
    def asked(self, terminal: Terminal) -> str:
        return terminal.asked_from or NOTHING

    @admin.display(description="since", ordering="created_at")
    def since(self, terminal: Terminal) -> str:
        return moment(terminal.created_at)

    @admin.display(description="until", ordering="ends_at")
    def until(self, terminal: Terminal) -> str:
        return moment(terminal.ended_at or terminal.ends_at)

    @admin.display(description="last used", ordering="used_at")
    def used(self, terminal: Terminal) -> str:
        return moment(terminal.used_at) if terminal.used_at else NOTHING

    @admin.display(description="state")
    def state_now(self, terminal: Terminal) -> str:
        return state_chip(terminal)

    def facts(self, request: HttpRequest, thing: Terminal) -> Sequence[tuple[str, Any]]:
        return [
            ("State", state_chip(thing)),
            ("Whose", link_to(thing.person)),
            ("What it is", thing.get_kind_display()),
            ("Let in", thing.get_flow_display()),
            *([("Its person calls it", thing.label)] if thing.label else []),
            ("May ask for", link_to(thing.role) if thing.role else "every role of the person"),
            ("Calls itself (unverified)", thing.client_name or NOTHING),
            ("Program (unverified)", thing.user_agent or NOTHING),
            ("Asked from", thing.asked_from or "unknown"),
            ("Let in from", thing.approved_from or "unknown"),
            ("Since", exact(thing.created_at)),
            ("Ended" if thing.ended_at else "Until", exact(thing.ended_at or thing.ends_at)),
            *([("Why", thing.get_ended_because_display())] if thing.ended_because else []),
            ("Last used", exact(thing.used_at) or "never"),
            *(
                [("Then from", " · ".join(filter(None, (thing.used_from, thing.used_by))))]
                if thing.used_at
                else []
            ),
        ]


@panel("accounts.person", position=45)
def terminals_of_person(request: HttpRequest, person: Any) -> Panel:
    found = Terminal.objects.filter(person=person).order_by("-created_at")[:8]
    return Panel(
        "Terminals",
        "admin/terminals.html",
        {
            "rows": [
                {"terminal": one, "url": url_of(one), "state": state_chip(one)} for one in found
            ],
            "all_url": list_url(Terminal, person__id__exact=person.pk),
        },
    )


@consequence("accounts.person", "deactivate")
def live_terminals_of(person: Any) -> str:
    count = _live_of(person).count()
    if not count:
        return "No terminal of theirs is let in."
    return (
        f"{plural(count, 'terminal of theirs gets', 'terminals of theirs get')} nothing any more."
    )


@contributes(figures)
def terminals_now(request: HttpRequest) -> Iterable[Figure]:
    live = Terminal.objects.filter(_alive(timezone.now()))
    people = live.order_by().values("person").distinct().count()
    yield Figure(
        *counted(live.count(), "terminal let in", "terminals let in"),
        list_url(Terminal, live="yes"),
        f"by {plural(people, 'person', 'people')}",
        position=15,
    )


@contributes(attentions)
def disowned_terminals(request: HttpRequest) -> Iterable[Attention]:
    """What people said within a week that they had not let in, latest first."""
    said = AuditEvent.objects.filter(
        kind=Kind.TERMINAL_DISOWNED, at__gt=timezone.now() - timedelta(days=7)
    ).order_by("-seq")
    for event in said[:5]:
        name = event.data.get("label") or event.data.get("client") or "a terminal"
        yield Attention(
            "wrong",
            f"{event.actor} says that the terminal {name} was not let in by them.",
            reverse("admin:broker_terminal_change", args=[event.subject_id]),
            "Look at the terminal",
        )


@contributes(attentions)
def tokens_that_came_twice(request: HttpRequest) -> Iterable[Attention]:
    """Terminals that ended within a week because a code or token of theirs was in two hands, latest first."""
    found = (
        Terminal.objects.select_related("person")
        .filter(
            ended_because=Terminal.Ended.REUSED, ended_at__gt=timezone.now() - timedelta(days=7)
        )
        .order_by("-ended_at")
    )
    for terminal in found[:5]:
        yield Attention(
            "note",
            f"A token of {terminal} of {terminal.person} came twice. It may have been stolen, so Daypass ended it.",
            url_of(terminal),
            "Look at the terminal",
        )


# --- What terminals may


class TerminalPolicyForm(ServiceForm):
    provider = forms.ModelChoiceField(
        IdentityProvider.objects.all(),
        label="People of",
        required=False,
        empty_label="every other provider",
        help_text="A provider's own policy replaces the one for every other provider; they are not added up.",
    )
    enabled = forms.BooleanField(
        label="AWS CLIs and SDKs may sign in",
        required=False,
        initial=True,
        help_text="Off: nothing is let in any more, and what was let in is refused with its next request. Consoles and "
        "keys in the browser stay.",
    )
    device_codes = forms.BooleanField(
        label="Sign-in by device code",
        required=False,
        initial=True,
        help_text="For computers without a browser. Somebody can be talked into typing another's code: switch it off "
        "where nobody needs it. Roles marked sensitive never come by a code.",
    )
    device_networks = LinesField(
        label="Networks for device codes",
        required=False,
        help_text="One a line, for example 192.0.2.0/24. The computer that asks and the browser that says yes both "
        "have to be in one of them. Empty: anywhere.",
    )
    script_tokens = forms.BooleanField(
        label="Tokens for scripts",
        required=False,
        initial=True,
        help_text="People may make bearer tokens for credential_process, containers and the configuration file. Off: "
        "none are made, and those that exist are refused.",
    )
    longest_seconds = LengthField(
        label="A terminal lives at most",
        required=False,
        least=SHORTEST,
        most=LONGEST,
        help_text="For example 8 h. Empty: as long as the browser session that let it in. It never lives longer than "
        "that, and ends when its person signs out.",
    )

    class Meta:
        model = TerminalPolicy
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            self.fields["provider"].disabled = True
            self.initial.update({name: getattr(self.instance, name) for name in self.fields})
            self.initial["provider"] = self.instance.provider_id

    def write(self) -> TerminalPolicy:
        values = dict(self.cleaned_data)
        provider = values.pop("provider")
        key: UUID | None = provider.pk if provider else None
        values["device_networks"] = tuple(values["device_networks"])
        adding = self.instance._state.adding
        return save_policy(
            PolicyDraft(provider=key, **values),
            policy=None if adding else self.instance.pk,
            **by(self.request),
        )


def _delete(request: HttpRequest, policy: TerminalPolicy) -> str:
    said = str(policy)
    delete_policy(policy.pk, **by(request))
    return f"The terminal policy for {said} is gone."


@admin.register(TerminalPolicy)
class TerminalPolicyAdmin(DaypassAdmin):
    deeds = (
        Deed(
            "delete",
            "Take away",
            _delete,
            warn=lambda policy: (
                "Its people fall under the policy for everybody from then on."
                if policy.provider_id
                else "People without a policy of their provider's may use terminals in every way from then on."
            ),
            danger=True,
            leaves=True,
        ),
    )
    list_display = ("whom", "sign_in", "codes", "scripts", "longest")
    list_select_related = ("provider",)
    ordering = ("provider__name",)
    intro = (
        "Whether AWS CLIs and SDKs may sign in, how, and for how long. Which roles they get is decided by the "
        "mappings, as everywhere."
    )
    empty = "Everybody may let terminals in, by every way, for as long as a browser session lasts."
    add_title = "Add a policy for terminals"
    form = TerminalPolicyForm
    fieldsets = (
        (None, {"fields": ("provider", "enabled"), "classes": ("no-optional",)}),
        ("Device codes", {"fields": ("device_codes", "device_networks")}),
        ("Tokens and time", {"fields": ("script_tokens", "longest_seconds")}),
    )

    def heading(self, thing: TerminalPolicy) -> str:
        return f"Terminal policy for {thing}"

    @admin.display(description="people of", ordering="provider__name")
    def whom(self, policy: TerminalPolicy) -> str:
        return policy.provider.name if policy.provider else "every other provider"

    @admin.display(description="CLIs and SDKs", ordering="enabled")
    def sign_in(self, policy: TerminalPolicy) -> str:
        return chip("may sign in", "green") if policy.enabled else chip("off", "red")

    @admin.display(description="device codes", ordering="device_codes")
    def codes(self, policy: TerminalPolicy) -> str:
        if not policy.device_codes or not policy.enabled:
            return chip("off", "grey")
        count = len(policy.device_networks)
        return chip(
            f"from {plural(count, 'network', 'networks')}" if count else "from anywhere",
            "amber",
        )

    @admin.display(description="script tokens", ordering="script_tokens")
    def scripts(self, policy: TerminalPolicy) -> str:
        on = policy.script_tokens and policy.enabled
        return chip("may be made", "green") if on else chip("off", "grey")

    @admin.display(description="at most", ordering="longest_seconds")
    def longest(self, policy: TerminalPolicy) -> str:
        return spoken(policy.longest_seconds) or "a browser session"
