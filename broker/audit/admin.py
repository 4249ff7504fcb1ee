"""The audit log in the admin: read, searched and verified there; written nowhere but in services."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html

from broker.audit import tasks
from broker.audit.administrators import actor_of
from broker.audit.models import AuditEvent, AuditHead
from broker.audit.rules import GENESIS, Kind
from broker.audit.services import record_now
from broker.backoffice import (
    NOTHING,
    Attention,
    DetailAdmin,
    Figure,
    Hit,
    Panel,
    attentions,
    contributes,
    counted,
    figures,
    finders,
    health,
    list_url,
    panel,
    titled,
    url_of,
)
from broker.celery import app as celery
from broker.templatetags.backoffice import exact, moment

WORDS: Mapping[str, str] = {
    Kind.ADMIN_CHANGED: "Administrator changed something",
    Kind.AUDIT_VERIFIED: "Audit log verified",
    Kind.AUDIT_VIOLATED: "Audit log found broken",
    Kind.DISCOVERY_DISMISSED: "What was found in AWS was set aside",
    Kind.DISCOVERY_LOOKED: "AWS account read",
    Kind.HAND_OVER_CONSOLE: "Console opened",
    Kind.HAND_OVER_FAILED: "Hand-over failed",
    Kind.HAND_OVER_KEYS: "Keys handed over",
    Kind.KEY_CREATED: "Key of Daypass made",
    Kind.KEY_EXPIRING: "Key of Daypass expires soon",
    Kind.KEY_STATE_CHANGED: "Key of Daypass changed state",
    Kind.KEYS_NOT_PUBLISHED: "Keys of Daypass could not be published",
    Kind.KEYS_PUBLISHED: "Other keys of Daypass published",
    Kind.ACCOUNT_SAML_KEYS: "Keys that an account's SAML provider holds",
    Kind.PERSON_CREATED: "Person arrived for the first time",
    Kind.PERSON_STAFF_CHANGED: "Admin right changed by the directory",
    Kind.PROVIDER_CERTIFICATE_EXPIRING: "Provider's certificate expires soon",
    Kind.PROVIDER_PROPOSAL_DISMISSED: "What a provider said anew was dismissed",
    Kind.PROVIDER_PROPOSAL_WITHDRAWN: "Provider took back what it said anew",
    Kind.PROVIDER_PROPOSED: "Provider says something new: waits for an administrator",
    Kind.PROVIDER_REFRESHED: "Provider refreshed",
    Kind.PROVIDER_REFRESH_FAILED: "Provider could not be refreshed",
    Kind.PROVIDER_RESEALED: "Client secret sealed anew",
    Kind.RELAY_KEPT: "Provider's answer for AWS kept",
    Kind.ROLE_REFUSED: "Role refused",
    Kind.ROLE_AUTHORISED: "Role authorised",
    Kind.ROLE_BORROWED: "Role used by Daypass itself",
    Kind.ROLE_CHECKED: "Role tried out by the doctor",
    Kind.SESSION_DISOWNED: "Session disowned: “That was not me”",
    Kind.SESSION_ENDED: "Session ended",
    Kind.SESSION_EXPIRED: "Session expired",
    Kind.SESSION_FAILED: "Session failed",
    Kind.SESSION_ISSUED: "Session issued",
    Kind.SESSION_RESOLVED: "Session resolved after a crash",
    Kind.SIGN_IN_ACCEPTED: "Signed in",
    Kind.SIGN_IN_REFUSED: "Sign-in refused",
    Kind.SIGN_IN_TESTED: "Test sign-in",
    Kind.SIGN_OUT: "Signed out",
    Kind.TERMINAL_DENIED: "Terminal refused by the person",
    Kind.TERMINAL_DISOWNED: "Terminal disowned by its person",
    Kind.TERMINAL_ENDED: "Terminal ended",
    Kind.TERMINAL_LET_IN: "Terminal let in",
    Kind.TERMINAL_REUSED: "Terminal ended: one of its codes or tokens came twice",
}
_BAD = {
    Kind.AUDIT_VIOLATED,
    Kind.HAND_OVER_FAILED,
    Kind.PROVIDER_REFRESH_FAILED,
    Kind.ROLE_REFUSED,
    Kind.SESSION_FAILED,
    Kind.SIGN_IN_REFUSED,
    Kind.TERMINAL_DISOWNED,
    Kind.TERMINAL_REUSED,
}
_PAGES: Mapping[str, str] = {
    "person": "accounts_person",
    "provider": "accounts_identityprovider",
    "group": "accounts_directorygroup",
    "service_provider_key": "accounts_serviceproviderkey",
    "account": "broker_awsaccount",
    "role": "broker_awsrole",
    "environment": "broker_environment",
    "mapping": "broker_mapping",
    "deny": "broker_deny",
    "session": "broker_session",
    "finding": "broker_finding",
    "terminal": "broker_terminal",
    "terminal_policy": "broker_terminalpolicy",
}
"""Subject type -> the admin page of what it names."""
WHOLE_AT_ONCE = 20_000
"""Up to this many events are verified while the administrator waits; more is the worker's."""


def in_words(kind: str) -> str:
    return WORDS.get(kind, kind.replace(".", ": ").replace("_", " ").capitalize())


def what_happened(event: AuditEvent) -> str:
    """The kind in words; for an administrator's change what was changed."""
    if event.kind != Kind.ADMIN_CHANGED or not event.subject_type:
        return in_words(event.kind)
    action = event.data.get("action") or ("changed" if event.data.get("before") else "added")
    return f"{event.subject_type.replace('_', ' ').capitalize()} {action}"


def plainly(value: Any) -> str:
    """A value of an event as people read it in a table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(plainly(one) for one in value) or NOTHING
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {plainly(one)}" for key, one in value.items()) or NOTHING
    return NOTHING if value is None or value == "" else str(value)


def number_in(text: str) -> str:
    """A reference number as it is kept, from what somebody took down on the telephone."""
    return text.upper().replace("-", "").replace(" ", "")


def _subject_name(event: AuditEvent) -> str:
    """What the event itself calls what it is about; "" where it says only the id."""
    name = event.data.get("label", "")
    match event.subject_type:
        case "provider":
            name = name or event.data.get("provider", "")
        case "session":
            name = name or event.data.get("session_name", "")
        case "role" if not name and isinstance(arn := event.data.get("role"), str):
            account = str(event.data.get("account") or "")
            name = " in ".join(filter(None, (arn.rpartition("/")[2], account)))
    return str(name)


def _subject_link(event: AuditEvent) -> str:
    name = _subject_name(event)
    said = " ".join(filter(None, (event.subject_type.replace("_", " "), name))) or NOTHING
    page = _PAGES.get(event.subject_type)
    if page and event.subject_id:
        try:
            url = reverse(f"admin:{page}_change", args=(event.subject_id,))
        except NoReverseMatch:
            return said
        return format_html('<a href="{}">{}</a>', url, said)
    return said


def _actor_link(event: AuditEvent) -> str:
    if event.actor_id and not event.actor_id.startswith("task:"):
        url = reverse("admin:accounts_person_change", args=(event.actor_id,))
        return format_html('<a href="{}">{}</a>', url, event.actor or event.actor_id)
    if event.actor_id:
        return format_html('Daypass <span class="soft">({})</span>', event.actor)
    return "nobody known"


class KindFilter(admin.SimpleListFilter):
    title = "what happened"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return sorted(((kind.value, in_words(kind)) for kind in Kind), key=lambda choice: choice[1])

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> Any:
        return queryset.filter(kind=self.value()) if self.value() else queryset


class SubjectFilter(admin.SimpleListFilter):
    title = "about"
    parameter_name = "subject_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(word, word.capitalize().replace("_", " ")) for word in (*_PAGES, "key")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEvent]) -> Any:
        return queryset.filter(subject_type=self.value()) if self.value() else queryset


@admin.register(AuditEvent)
class AuditEventAdmin(DetailAdmin):
    """Newest first. The search takes whole values, because the log may hold a hundred million events."""

    list_title = "Audit log"
    list_display = ("what", "when", "who", "about", "reference_number", "address")
    list_filter = (("at", titled("when", admin.DateFieldListFilter)), KindFilter, SubjectFilter)
    search_fields = ("reference",)
    search_help_text = "Whole reference, handle, id or address"
    change_list_template = "admin/audit_list.html"
    empty = "The first sign-in or change writes the first event."
    ordering = ("-seq",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        text = search_term.strip()
        if not text:
            return queryset, False
        where = (
            Q(reference=number_in(text))
            | Q(actor_id=text)
            | Q(actor=text)
            | Q(subject_id=text)
            | Q(address=text)
        )
        if text.isascii() and text.isdigit() and len(text) < 19:
            where |= Q(seq=int(text))
        return queryset.filter(where), False

    @admin.display(description="what happened")
    def what(self, event: AuditEvent) -> str:
        return what_happened(event)

    @admin.display(description="when", ordering="seq")
    def when(self, event: AuditEvent) -> str:
        return moment(event.at)

    @admin.display(description="who")
    def who(self, event: AuditEvent) -> str:
        return _actor_link(event)

    @admin.display(description="about")
    def about(self, event: AuditEvent) -> str:
        return _subject_link(event)

    @admin.display(description="reference")
    def reference_number(self, event: AuditEvent) -> str:
        return event.reference

    # One event

    def page(self, request: HttpRequest, thing: AuditEvent) -> dict[str, Any]:
        return {
            **super().page(request, thing),
            "title": f"{what_happened(thing)} (event {thing.seq})",
        }

    def lead(self, thing: AuditEvent) -> str:
        """Of what was refused: the real reason, for whoever comes with a reference number."""
        reason = thing.data.get("reason") if thing.kind in _BAD else None
        return reason if isinstance(reason, str) else ""

    def facts(self, request: HttpRequest, thing: AuditEvent) -> Sequence[tuple[str, Any]]:
        return [
            ("When", exact(thing.at)),
            ("Kind", thing.kind),
            ("Who", _actor_link(thing)),
            ("About", _subject_link(thing)),
            *([("Reference", thing.reference)] if thing.reference else []),
            *([("Address", thing.address)] if thing.address else []),
            *(
                [("Own rights", "The administrator gave themselves more by this.")]
                if thing.data.get("raises_own_rights")
                else []
            ),
        ]

    # The chain

    def get_urls(self) -> list[URLPattern]:
        verify = path(
            "verify/",
            self.admin_site.admin_view(self.verify_view),
            name="broker_auditevent_verify",
        )
        return [verify, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(
            request,
            {"own": {"chain": chain_status()}, **(extra_context or {})},
        )

    def verify_view(self, request: HttpRequest) -> HttpResponse:
        """POST: verify the whole chain now, or ask the worker to when it is long."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        head = AuditHead.objects.filter(pk=1).first()
        if head is not None and head.seq > WHOLE_AT_ONCE:
            celery.send_task(tasks.verify_whole.name)
            messages.info(
                request,
                f"The worker verifies all {head.seq:,} events now. Reload this page in a few minutes to see the "
                "result.",
            )
        else:
            tasks.verify_whole()
            self._say(request)
        return HttpResponseRedirect(reverse("admin:broker_auditevent_changelist"))

    def _say(self, request: HttpRequest) -> None:
        head = AuditHead.objects.filter(pk=1).first()
        if head is not None and head.problem:
            messages.error(request, "The audit log is broken. What to do stands below.")
            return
        last = head.verified_seq if head else 0
        record_now(Kind.AUDIT_VERIFIED, actor=actor_of(request), data={"last": last})
        found = "its one event is" if last == 1 else f"all {last:,} events are"
        messages.success(request, f"The audit log is whole: {found} as written.")


def chain_status() -> dict[str, Any]:
    head = AuditHead.objects.filter(pk=1).first()
    return {
        "head": head,
        "behind": head.seq - head.verified_seq if head else 0,
    }


# --- What the audit contributes to other pages


@panel("broker.auditevent", position=10)
def changes(request: HttpRequest, event: AuditEvent) -> Panel | None:
    before, after = event.data.get("before"), event.data.get("after")
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return None
    before, after = dict(before), dict(after)
    rows = [
        {
            "name": name.replace("_", " "),
            "before": plainly(before.get(name)) if before else "",
            "after": plainly(after.get(name)) if after else "",
            "changed": before.get(name) != after.get(name),
        }
        for name in dict.fromkeys((*before, *after))
    ]
    return Panel("Before and after", "admin/before_after.html", {"rows": rows})


@panel("broker.auditevent", position=15)
def reasons(request: HttpRequest, event: AuditEvent) -> Panel | None:
    found = event.data.get("reasons")
    if not isinstance(found, list) or not found:
        return None
    return Panel("Every reason that was looked at", "admin/audit_reasons.html", {"reasons": found})


@panel("broker.auditevent", position=20)
def details(request: HttpRequest, event: AuditEvent) -> Panel:
    return Panel("Everything it says", "admin/audit_details.html", {"event": event})


@panel("broker.auditevent", position=90)
def links(request: HttpRequest, event: AuditEvent) -> Panel:
    return Panel(
        "Its place in the chain",
        "admin/audit_links.html",
        {
            "event": event,
            "first": event.previous_hash == GENESIS,
            "previous": AuditEvent.objects.filter(seq=event.seq - 1).first(),
            "next": AuditEvent.objects.filter(seq=event.seq + 1).first(),
        },
        note="Every event holds the hash of the one before it, so none can be changed, removed or moved unseen.",
    )


def recent_events(subject_id: str, *, actor: bool = False) -> list[dict[str, Any]]:
    """The last events about something, or also by somebody, as rows for a panel."""
    where = Q(subject_id=subject_id)
    if actor:
        where |= Q(actor_id=subject_id)
    return [
        {
            "event": event,
            "words": what_happened(event),
            "url": url_of(event),
        }
        for event in AuditEvent.objects.filter(where).order_by("-seq")[:8]
    ]


@panel(
    "accounts.identityprovider",
    "accounts.person",
    "accounts.directorygroup",
    "broker.awsaccount",
    "broker.awsrole",
    "broker.mapping",
    "broker.deny",
    "broker.session",
    position=95,
)
def history(request: HttpRequest, thing: Any) -> Panel | None:
    """For the pages of other stages' objects: what happened to this one lately."""
    events = recent_events(str(thing.pk), actor=thing._meta.model_name == "person")
    return Panel(
        "What happened",
        "admin/history.html",
        {"events": events, "all_url": list_url(AuditEvent, q=str(thing.pk))},
    )


@panel("accounts.identityprovider", position=25)
def refusals_of_provider(request: HttpRequest, provider: Any) -> Panel:
    """The real reasons, by the numbers that people were shown."""
    found = AuditEvent.objects.filter(
        subject_id=str(provider.pk), kind=Kind.SIGN_IN_REFUSED.value
    ).order_by("-seq")[:8]
    rows = [{"event": event, "url": url_of(event)} for event in found]
    return Panel(
        "Refused sign-ins",
        "admin/refusals.html",
        {
            "rows": rows,
            "all_url": list_url(AuditEvent, kind=Kind.SIGN_IN_REFUSED.value, q=str(provider.pk)),
        },
        note="What people saw was one sentence and the number. Any number leads here from the search above.",
    )


def _last_verified(head: AuditHead) -> datetime:
    """When the log was last verified; a log that never was counts from its first event."""
    if head.verified_at is not None:
        return head.verified_at
    first = AuditEvent.objects.filter(seq=1).values_list("at", flat=True).first()
    return first or timezone.now()


@contributes(attentions)
def broken_chain(request: HttpRequest) -> Iterable[Attention]:
    head = AuditHead.objects.filter(pk=1).first()
    if head is None:
        return
    log_url = reverse("admin:broker_auditevent_changelist")
    if head.problem:
        yield Attention(
            "wrong",
            f"The audit log was tampered with: {head.problem}.",
            log_url,
            "Look at the log",
        )
    elif timezone.now() - _last_verified(head) > timedelta(hours=2):
        yield Attention(
            "soon",
            "The audit log was not verified for two hours. The worker or beat may not be running.",
            reverse("admin:health"),
            "See health",
        )


@contributes(attentions)
def refusals_rising(request: HttpRequest) -> Iterable[Attention]:
    """Twice as many refusals in the last day as in the day before, and more than a handful."""
    now = timezone.now()
    kinds = [Kind.ROLE_REFUSED.value, Kind.SIGN_IN_REFUSED.value]
    refused = AuditEvent.objects.filter(kind__in=kinds)
    today = refused.filter(at__gt=now - timedelta(days=1)).count()
    before = refused.filter(at__gt=now - timedelta(days=2), at__lte=now - timedelta(days=1)).count()
    if today >= 5 and today >= 2 * before:
        yield Attention(
            "note",
            f"{today} refusals in the last 24 hours, {before} in the 24 hours before.",
            list_url(AuditEvent, kind=Kind.ROLE_REFUSED.value),
            "See why",
        )


@contributes(attentions)
def own_rights_raised(request: HttpRequest) -> Iterable[Attention]:
    """Administrators who gave themselves more within a week: allowed, recorded, and to be looked at by another one."""
    raised = AuditEvent.objects.filter(
        kind=Kind.ADMIN_CHANGED.value,
        at__gt=timezone.now() - timedelta(days=7),
        data__raises_own_rights=True,
    ).order_by("-seq")
    for event in raised[:3]:
        label = event.data.get("label", event.subject_type)
        yield Attention(
            "note",
            f"{event.actor} raised their own rights by changing “{label}” on {exact(event.at)}.",
            url_of(event),
            "See the change",
        )


@contributes(figures)
def refusals_today(request: HttpRequest) -> Iterable[Figure]:
    since = timezone.now() - timedelta(days=1)
    for kind, one, many in (
        (Kind.ROLE_REFUSED, "role refused, last 24 h", "roles refused, last 24 h"),
        (Kind.SIGN_IN_REFUSED, "sign-in refused, last 24 h", "sign-ins refused, last 24 h"),
    ):
        count = AuditEvent.objects.filter(kind=kind.value, at__gt=since).count()
        yield Figure(*counted(count, one, many), list_url(AuditEvent, kind=kind.value))


@contributes(finders)
def by_reference(text: str) -> Iterable[Hit]:
    """A reference number that an employee was shown finds the event with the real reason."""
    word = number_in(text)
    if len(word) != 8 or not word.isalnum():
        return
    for event in AuditEvent.objects.filter(reference=word).order_by("-seq")[:5]:
        yield Hit("Reference", in_words(event.kind), f"{word}, {exact(event.at)}", url_of(event))


@contributes(health)
def chain_health(request: HttpRequest) -> Panel:
    return Panel("Audit log", "admin/audit_chain.html", {"chain": chain_status()})
