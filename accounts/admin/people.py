"""People: read, and switched off or on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import (
    HttpRequest,
)
from django.utils import timezone
from django.utils.html import format_html, format_html_join

from accounts import services
from accounts.admin.common import by
from accounts.models import (
    DirectoryGroup,
    IdentityProvider,
    Membership,
    Person,
)
from broker.backoffice import (
    NOTHING,
    Deed,
    DetailAdmin,
    Figure,
    Hit,
    Panel,
    chip,
    contributes,
    counted,
    figures,
    finders,
    how_many,
    link_to,
    list_url,
    panel,
    titled,
    url_of,
)
from broker.templatetags.backoffice import exact, moment


class SignedInFilter(admin.SimpleListFilter):
    title = "signed in"
    parameter_name = "signed_in"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("day", "in the last 24 hours"),
            ("month", "in the last 30 days"),
            ("older", "not for 30 days"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Person]) -> Any:
        now = timezone.now()
        match self.value():
            case "day":
                return queryset.filter(signed_in_at__gt=now - timedelta(days=1))
            case "month":
                return queryset.filter(signed_in_at__gt=now - timedelta(days=30))
            case "older":
                return queryset.exclude(signed_in_at__gt=now - timedelta(days=30))
        return queryset


def _deactivate(request: HttpRequest, person: Person) -> str:
    services.set_person_active(person, False, by=by(request))
    return (
        f"{person} is switched off: signed out everywhere, and nothing is issued to them any more."
    )


def _reactivate(request: HttpRequest, person: Person) -> str:
    services.set_person_active(person, True, by=by(request))
    return f"{person} is switched on and may sign in again. What they held before stays ended."


@admin.register(Person)
class PersonAdmin(DetailAdmin):
    """People arrive by signing in; here they are read, and switched off or on."""

    list_display = ("who", "email", "vouched_for_by", "in_groups", "last_here", "state")
    list_filter = (
        ("is_active", titled("active", admin.BooleanFieldListFilter)),
        ("is_staff", titled("administrator", admin.BooleanFieldListFilter)),
        ("provider", titled("vouched for by", admin.RelatedOnlyFieldListFilter)),
        SignedInFilter,
    )
    list_select_related = ("provider",)
    search_fields = ("handle__istartswith", "name", "email__istartswith")
    search_help_text = "Name, handle or email"
    ordering = ("handle",)
    empty = "People appear when they sign in for the first time. Nobody has to be entered here."
    empty_link = ("admin:accounts_identityprovider_changelist", "See identity providers")
    deeds = (
        Deed(
            "deactivate",
            "Switch off",
            _deactivate,
            available=lambda person: person.is_active,
            warn=lambda person: (
                f"{person} is signed out everywhere at once and cannot sign in again until switched on. Nothing is "
                "deleted."
            ),
            danger=True,
        ),
        Deed(
            "reactivate",
            "Switch on",
            _reactivate,
            available=lambda person: not person.is_active,
            warn=lambda person: (
                f"{person} may sign in again and gets what their groups give them then."
            ),
        ),
    )

    def get_queryset(self, request: HttpRequest) -> Any:
        return (
            super()
            .get_queryset(request)
            .annotate(group_count=how_many(Membership.objects.all(), "person"))
        )

    @admin.display(description="person", ordering="handle")
    def who(self, person: Person) -> str:
        return format_html(
            '<strong>{}</strong> <span class="soft">{}</span>',
            person.name or person.handle,
            person.handle,
        )

    @admin.display(description="vouched for by", ordering="provider")
    def vouched_for_by(self, person: Person) -> str:
        return person.provider.name if person.provider else "local emergency account"

    @admin.display(description="groups")
    def in_groups(self, person: Any) -> Any:
        return person.group_count

    @admin.display(description="signed in", ordering="signed_in_at")
    def last_here(self, person: Person) -> str:
        return moment(person.signed_in_at)

    @admin.display(description="state", ordering="is_active")
    def state(self, person: Person) -> str:
        chips = [chip("active", "green") if person.is_active else chip("switched off", "red")]
        if person.is_staff:
            chips.append(chip("administrator", "violet"))
        return format_html_join(" ", "{}", ((chip,) for chip in chips))

    def facts(self, request: HttpRequest, thing: Person) -> Sequence[tuple[str, Any]]:
        provider = thing.provider
        return [
            ("State", self.state(thing)),
            ("Name", thing.name or NOTHING),
            ("Handle", thing.handle),
            ("Email", thing.email or NOTHING),
            (
                "Vouched for by",
                link_to(provider) if provider else "nobody: the local emergency account",
            ),
            *([("Id there", thing.subject)] if provider else []),
            ("First seen", exact(thing.created_at)),
            ("Last signed in", exact(thing.signed_in_at) or "never"),
            (
                "May use the admin",
                "yes, by a directory group"
                if thing.staff_from_group
                else "yes, as the emergency account"
                if thing.is_superuser
                else "no",
            ),
        ]


@panel("accounts.person", position=30)
def groups_of_person(request: HttpRequest, person: Person) -> Panel:
    now = timezone.now()
    rows = []
    for membership in person.memberships.select_related("group__provider").order_by(
        "group__name", "group__key"
    ):
        scim = membership.source == Membership.Source.SCIM
        until = None if scim else membership.confirmed_at + settings.DAYPASS_MEMBERSHIP_MAX_AGE
        rows.append(
            {
                "group": membership.group,
                "url": url_of(membership.group),
                "source": membership.get_source_display(),
                "confirmed_at": membership.confirmed_at,
                "until": until,
                "fresh": until is None or until > now,
            }
        )
    return Panel(
        "Directory groups",
        "admin/groups_of_person.html",
        {"rows": rows},
        note="What came with a sign-in counts for a while and then asks for a new one.",
    )


@panel("accounts.person", position=35)
def attributes_of_person(request: HttpRequest, person: Person) -> Panel | None:
    if not person.attributes:
        return None
    rows = [
        (name, ", ".join(values if isinstance(values, list) else [str(values)]))
        for name, values in sorted(person.attributes.items())
    ]
    return Panel("Person attributes", "admin/attributes.html", {"rows": rows})


@contributes(figures)
def people_today(request: HttpRequest) -> Iterable[Figure]:
    since = timezone.now() - timedelta(days=1)
    count = Person.objects.filter(signed_in_at__gt=since).count()
    yield Figure(
        *counted(count, "person signed in, last 24 h", "people signed in, last 24 h"),
        list_url(Person, signed_in="day"),
        position=20,
    )


@contributes(finders)
def find_people_and_groups(text: str) -> Iterable[Hit]:
    people = Person.objects.filter(
        Q(handle__istartswith=text) | Q(name__icontains=text) | Q(email__istartswith=text)
    )
    for person in people[:10]:
        yield Hit("Person", str(person), person.email, url_of(person))
    groups = DirectoryGroup.objects.filter(Q(key__icontains=text) | Q(name__icontains=text))
    for group in groups.select_related("provider")[:10]:
        yield Hit("Group", group.name or group.key, group.provider.name, url_of(group))
    for provider in IdentityProvider.objects.filter(Q(name__icontains=text) | Q(slug=text))[:5]:
        yield Hit(
            "Identity provider", provider.name, provider.get_protocol_display(), url_of(provider)
        )
