"""Mappings in the admin: who gets which roles within which limits, and who would, before it is saved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.widgets import AutocompleteSelect, AutocompleteSelectMultiple
from django.db.models import Prefetch, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html, format_html_join

from accounts.models import DirectoryGroup
from broker.audit.administrators import by
from broker.backoffice import (
    DaypassAdmin,
    LengthField,
    LinesField,
    MomentField,
    PairsField,
    Panel,
    ServiceForm,
    chip,
    code_area,
    how_many,
    link_to,
    panel,
    plural,
    titled,
    url_of,
)
from broker.entitlements import packing, queries, services
from broker.entitlements.admin.common import (
    ASSERTED,
    SWITCH,
    as_it_is,
    deeds_of,
    heading_of,
    only_when_new,
    without_switch,
)
from broker.entitlements.drafts import MappingDraft
from broker.entitlements.models import AwsRole, Deny, MappingRole
from broker.entitlements.models import Mapping as RoleMapping
from broker.entitlements.rules import MappingFacts, conditions_of, limits_of

# --- Who gets what, and why


@panel("broker.awsrole", position=25)
def mappings_of_role(request: HttpRequest, role: AwsRole) -> Panel:
    mappings = RoleMapping.objects.filter(links__role=role)
    if role.trust == ASSERTED:
        return _mappings_panel(mappings, "", note="None of them has an effect on this role.")
    return _mappings_panel(mappings, f"?roles={role.pk}")


@panel("accounts.directorygroup", position=20)
def mappings_of_group(request: HttpRequest, group: DirectoryGroup) -> Panel:
    return _mappings_panel(RoleMapping.objects.filter(group=group), f"?group={group.pk}")


FIRST_ROLES = Prefetch(
    "links",
    MappingRole.objects.select_related("role__account").order_by(
        "role__account__name", "role__name"
    )[:3],
    to_attr="first_links",
)
"""The first three roles of each mapping on a page: some mappings give a thousand."""


def _mappings_panel(mappings: QuerySet[RoleMapping], start: str, *, note: str = "") -> Panel:
    found: Any = (
        mappings.select_related("group__provider")
        .prefetch_related(FIRST_ROLES)
        .annotate(role_count=how_many(MappingRole.objects.all(), "mapping"))[:50]
    )
    rows = [
        {
            "mapping": mapping,
            "url": url_of(mapping),
            "roles": [str(link.role) for link in mapping.first_links],
            "more": mapping.role_count - len(mapping.first_links),
        }
        for mapping in found
    ]
    return Panel(
        "Mappings",
        "admin/mappings.html",
        {"rows": rows, "add_url": reverse("admin:broker_mapping_add") + start if start else ""},
        note=note if rows else "",
    )


# --- Mappings


def search_in(form: forms.BaseForm, name: str, widget: Any) -> None:
    """Choose by typing: the server searches, so that a hundred thousand choices are no longer than ten."""
    field: Any = form.fields[name]
    field.widget = widget
    field.widget.choices = field.choices


class MappingForm(ServiceForm):
    """In the order in which an administrator knows the answers: who, what, then within which limits."""

    group = forms.ModelChoiceField(
        DirectoryGroup.objects.select_related("provider"),
        label="Directory group",
        help_text="Whoever is in it. A group that nobody has arrived with yet can be added under Directory groups.",
    )
    roles = forms.ModelMultipleChoiceField(
        AwsRole.objects.select_related("account"),
        label="Roles",
        help_text="Type an account or a role name.",
    )
    note = forms.CharField(
        label="Why",
        max_length=200,
        required=False,
        help_text="For the next administrator. For example: On-call engineers of Payments.",
    )
    enabled = forms.BooleanField(label="In use", required=False, initial=True)
    allow_console = forms.BooleanField(label="Console", required=False, initial=True)
    allow_keys = forms.BooleanField(label="Temporary keys", required=False, initial=True)
    max_seconds = LengthField(
        label="Longest session",
        required=False,
        least=900,
        most=43200,
        help_text="From 15 min to 12 h. Empty: as long as the role allows.",
    )
    require_mfa = forms.BooleanField(
        label="Only with a second factor",
        required=False,
        help_text="The identity provider has to vouch for it. Which of its answers count is set in its claim map.",
    )
    max_sign_in_age = LengthField(
        label="Only soon after signing in",
        required=False,
        least=60,
        most=30 * 86400,
        help_text="For example 30 min. Empty: any sign-in that is still good.",
    )
    networks = LinesField(
        label="Only from these networks",
        required=False,
        help_text="CIDR, one a line. For example 192.0.2.0/24.",
    )
    valid_from = MomentField(label="From", required=False, help_text="UTC.")
    valid_until = MomentField(label="Until", required=False, help_text="UTC. Sessions end by then.")
    session_policy = forms.CharField(
        label="Session policy",
        required=False,
        max_length=10_000,
        widget=code_area(6),
        help_text="An IAM policy (JSON, at most 2048 characters) that narrows what the role may do. It never adds.",
    )
    policy_arns = LinesField(
        label="Managed policies that narrow",
        required=False,
        help_text="ARNs, one a line, at most 10. For example arn:aws:iam::aws:policy/ReadOnlyAccess.",
    )
    seen_at = forms.CharField(required=False, widget=forms.HiddenInput)
    session_tags = PairsField(
        label="Session tags",
        required=False,
        example="CostCenter = cost_center",
        help_text="One a line: tag key = person attribute. For example CostCenter = cost_center.",
    )
    transitive_tag_keys = LinesField(
        label="Tags that stay on",
        required=False,
        help_text="Tag keys, one a line: AWS keeps them when a further role is assumed from the session.",
    )

    class Meta:
        model = RoleMapping
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        only_when_new(self)
        site = admin.site
        search_in(self, "group", AutocompleteSelect(RoleMapping._meta.get_field("group"), site))
        roles = RoleMapping._meta.get_field("roles")
        search_in(self, "roles", AutocompleteSelectMultiple(roles, site))
        if not self.instance._state.adding:
            self.initial.update(
                {
                    name: getattr(self.instance, name)
                    for name in self.fields
                    if name not in ("group", "roles", "seen_at")
                }
            )
            self.initial["group"] = self.instance.group_id
            self.initial["roles"] = list(self.instance.roles.values_list("pk", flat=True))
            self.initial["seen_at"] = self.instance.updated_at.isoformat()

    def write(self) -> RoleMapping:
        values = {**self.cleaned_data, SWITCH: as_it_is(self)}
        values["group"] = values["group"].pk
        values["roles"] = tuple(role.pk for role in values["roles"])
        for listed in ("networks", "policy_arns", "transitive_tag_keys"):
            values[listed] = tuple(values[listed] or ())
        seen_at = parse_datetime(values.pop("seen_at") or "")
        draft = MappingDraft(**values)
        if self.instance._state.adding:
            return services.create_mapping(draft, **by(self.request))
        return services.update_mapping(self.instance.pk, draft, seen_at=seen_at, **by(self.request))


def _facts_of(mapping: RoleMapping) -> MappingFacts:
    return MappingFacts(
        id=mapping.pk,
        group_id=mapping.group_id,
        group_name=str(mapping.group),
        note=mapping.note,
        enabled=mapping.enabled,
        max_seconds=mapping.max_seconds,
        allow_console=mapping.allow_console,
        allow_keys=mapping.allow_keys,
        require_mfa=mapping.require_mfa,
        max_sign_in_age=mapping.max_sign_in_age,
        networks=tuple(mapping.networks),
        valid_from=mapping.valid_from,
        valid_until=mapping.valid_until,
        session_policy=mapping.session_policy,
        policy_arns=tuple(mapping.policy_arns),
        session_tags=mapping.session_tags,
        transitive_tag_keys=tuple(mapping.transitive_tag_keys),
    )


@admin.register(RoleMapping)
class MappingAdmin(DaypassAdmin):
    deeds = deeds_of(
        "It gives nobody anything from then on.",
        "It gives its roles to the members of the group again.",
        "The mapping will be gone for good.",
    )
    list_display = ("who", "gets", "within", "why", "state")
    list_filter = (
        ("enabled", titled("in use", admin.BooleanFieldListFilter)),
        ("require_mfa", titled("needs a second factor", admin.BooleanFieldListFilter)),
        ("group__provider", titled("provider", admin.RelatedOnlyFieldListFilter)),
    )
    search_fields = ("group__name", "group__key", "note", "roles__name", "roles__account__name")
    search_help_text = "Group, role, account or note"
    intro = "The members of a directory group get roles, within limits."
    empty = "Map the first group: choose it, choose roles, save."
    add_title = "Map a group"
    change_form_template = "admin/mapping_form.html"
    form = MappingForm
    ordering = ("group__name", "group__key", "created_at")
    sections: tuple[tuple[str, dict[str, Any]], ...] = (
        ("Who gets what", {"fields": ("group", "roles", ("note", "seen_at"))}),
        (
            "Within which limits",
            {
                "fields": (("allow_console", "allow_keys"), "max_seconds", "require_mfa"),
                "description": "An empty field sets no limit here. Where several limits apply, the shortest wins.",
                "classes": ("no-optional",),
            },
        ),
        (
            "When and from where",
            {
                "fields": ("max_sign_in_age", "networks", ("valid_from", "valid_until")),
                "classes": ("collapse", "no-optional"),
            },
        ),
        (
            "Session policy and tags",
            {
                "fields": ("session_policy", "policy_arns", "session_tags", "transitive_tag_keys"),
                "classes": ("collapse", "no-optional"),
            },
        ),
        ("State", {"fields": ("enabled",)}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Folded away is only what is empty: a limit that is there is seen.

        Not the attribute `fieldsets`: Django's check refuses roles there, whose links it would not save; services do.
        """
        shown = []
        for title, options in self.sections if obj is None else without_switch(self.sections):
            asked = [
                n for row in options["fields"] for n in ([row] if isinstance(row, str) else row)
            ]
            if obj is not None and any(getattr(obj, name, None) for name in asked):
                kept = tuple(one for one in options.get("classes", ()) if one != "collapse")
                options = {**options, "classes": kept}
            shown.append((title, options))
        return shown

    def get_queryset(self, request: HttpRequest) -> Any:
        return (
            super()
            .get_queryset(request)
            .select_related("group__provider")
            .prefetch_related(FIRST_ROLES)
            .annotate(role_count=how_many(MappingRole.objects.all(), "mapping"))
        )

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        initial: dict[str, Any] = dict(super().get_changeform_initial_data(request))
        group, roles = request.GET.get("group", ""), request.GET.get("roles", "")
        if group.isascii() and group.isdigit():
            initial["group"] = int(group)
        try:
            initial["roles"] = [UUID(part) for part in roles.split(",") if part]
        except ValueError:
            initial.pop("roles", None)
        return initial

    @admin.display(description="members of", ordering="group")
    def who(self, mapping: RoleMapping) -> str:
        return str(mapping.group)

    @admin.display(description="get")
    def gets(self, mapping: Any) -> str:
        links = mapping.first_links
        said = format_html_join(", ", "{}", ((link_to(link.role),) for link in links))
        more = mapping.role_count - len(links)
        return format_html("{} and {} more", said, more) if more > 0 else said

    @admin.display(description="within")
    def within(self, mapping: RoleMapping) -> str:
        facts = _facts_of(mapping)
        said = [one.sentence for one in (*conditions_of(facts), *limits_of(facts))]
        return "; ".join(said)

    @admin.display(description="why", ordering="note")
    def why(self, mapping: RoleMapping) -> str:
        return mapping.note

    @admin.display(description="state", ordering="enabled")
    def state(self, mapping: RoleMapping) -> str:
        if not mapping.enabled:
            return chip("off", "grey")
        if mapping.valid_until and mapping.valid_until <= timezone.now():
            return chip("over", "amber")
        return chip("in use", "green")

    def heading(self, thing: RoleMapping) -> str:
        return heading_of(thing)

    def facts(self, request: HttpRequest, thing: RoleMapping) -> Sequence[tuple[str, Any]]:
        found: list[tuple[str, Any]] = [("State", self.state(thing))]
        asserted = AwsRole.objects.filter(links__mapping=thing, trust=ASSERTED)
        asserted = asserted.select_related("account")[:20]
        if asserted:
            found.append(
                (
                    "Has no effect on",
                    format_html(
                        "{}: AWS trusts the provider's own AWS application there. Assign it there, or give the role "
                        "another trust.",
                        format_html_join(", ", "{}", ((link_to(one),) for one in asserted)),
                    ),
                )
            )
        if thing.session_tags:
            found.append(("Its tags take of AWS's space", _space_taken(_space_of(thing))))
        return found

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """The service has saved it; what will not work is said now, and not to an employee who misses a role."""
        super().save_model(request, obj, form, change)
        given = AwsRole.objects.filter(links__mapping=obj).select_related("account")
        for warning in (without_effect(given), tags_that_may_not_fit(obj)):
            if warning:
                messages.warning(request, warning)

    # Before it is saved

    def get_urls(self) -> list[URLPattern]:
        preview = path(
            "preview/", self.admin_site.admin_view(self.preview_view), name="broker_mapping_preview"
        )
        return [preview, *super().get_urls()]

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """POST the form as it stands: who would get it. Writes nothing."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        return render(request, "admin/mapping_preview.html", {"own": preview_of(request)})


def without_effect(roles: Iterable[AwsRole]) -> str:
    """What to tell an administrator whose mapping names roles that no mapping gives; "" where there are none."""
    named = [str(role) for role in roles if role.trust == ASSERTED]
    if not named:
        return ""
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    return (
        f"No mapping gives {', '.join(named[:3])}{more} to anybody: AWS trusts the provider's own AWS application "
        "there, and that alone says whose the role is. Assign it there, or give the role another trust here."
    )


def _space_of(mapping: RoleMapping) -> queries.TagSpace:
    return queries.tag_space(
        mapping.group_id, mapping.session_tags, mapping.session_policy, mapping.policy_arns
    )


def _space_taken(space: queries.TagSpace) -> str:
    if not space.people:
        return f"about {space.assumed} %, with values of {packing.ASSUMED_LENGTH} characters"
    return (
        f"up to about {space.largest} % for {plural(space.people, 'person', 'people')} known so far"
    )


def tags_that_may_not_fit(mapping: RoleMapping) -> str:
    """What to tell an administrator whose mapping's tags could be too much for AWS; "" when they fit."""
    if not mapping.session_tags:
        return ""
    space = _space_of(mapping)
    advice = "Use fewer tags, shorter keys, or attributes with shorter values."
    if space.over:
        return (
            f"The tags of this mapping are too long for AWS for {space.over} of "
            f"{plural(space.people, 'person', 'people')} known in the group: up to about {space.largest} % of "
            f"the space that AWS gives. It will hardly let them in. {advice}"
        )
    if space.largest >= packing.CLOSE:
        return (
            f"The tags of this mapping take up to about {space.largest} % of the space that AWS gives for the people "
            f"known so far. Somebody with longer values may be refused. {advice}"
        )
    if space.assumed > packing.FULL:
        return (
            f"With values of {packing.ASSUMED_LENGTH} characters, the tags of this mapping would take about "
            f"{space.assumed} % of the space that AWS gives, and somebody who has such would be refused. {advice}"
        )
    return ""


def preview_of(request: HttpRequest) -> dict[str, Any]:
    """Who would get which of the chosen roles, as far as the form can be understood now."""
    group_id = request.POST.get("group", "")
    group = (
        DirectoryGroup.objects.select_related("provider").filter(pk=int(group_id)).first()
        if group_id.isascii() and group_id.isdigit()
        else None
    )
    wanted = []
    for text in request.POST.getlist("roles")[:500]:
        try:
            wanted.append(UUID(text))
        except ValueError:
            continue
    roles = list(AwsRole.objects.filter(pk__in=wanted).select_related("account__environment"))
    if group is None:
        return {"group": None, "roles": roles}
    audience = queries.who_would_get(group.pk, timezone.now(), first=12)
    stopping = Deny.objects.filter(enabled=True).filter(
        Q(group=group)
        | Q(role__in=roles)
        | Q(account__in=[role.account_id for role in roles])
        | Q(role__isnull=True, account__isnull=True)
    )
    return {
        "group": group,
        "group_url": url_of(group),
        "roles": [role for role in roles if role.trust != ASSERTED],
        "without_effect": without_effect(roles),
        "production": [
            role
            for role in roles
            if role.account.environment and role.account.environment.production
        ],
        "audience": audience,
        "more": audience.total - len(audience.people),
        "stale": audience.total - audience.fresh,
        "self": any(person.id == request.user.pk for person in audience.people)
        or group.memberships.filter(person_id=str(request.user.pk)).exists(),
        "denies": [{"deny": deny, "url": url_of(deny)} for deny in stopping[:10]],
    }
