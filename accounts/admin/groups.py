"""Directory groups: entered before anybody arrives with them, or read."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import (
    HttpRequest,
)
from django.utils.html import format_html

from accounts import services
from accounts.admin.common import by
from accounts.models import (
    DirectoryGroup,
    IdentityProvider,
    Membership,
)
from broker.backoffice import (
    DaypassAdmin,
    Panel,
    ServiceForm,
    chip,
    code_input,
    how_many,
    panel,
    plural,
    titled,
    url_of,
)


class DirectoryGroupForm(ServiceForm):
    """A group can be entered before anybody arrives with it, so that mappings are ready on the first day."""

    provider = forms.ModelChoiceField(
        IdentityProvider.objects.all(), help_text="A group belongs to one provider."
    )
    key = forms.CharField(
        label="Key",
        max_length=512,
        strip=False,
        widget=code_input(),
        help_text="Exactly as it arrives from the provider, for example engineering or an object id.",
    )
    name = forms.CharField(
        label="Name",
        max_length=200,
        required=False,
        help_text="For people to read, when the key is an id.",
    )
    confers_staff = forms.BooleanField(
        label="Members may use the admin",
        required=False,
        help_text="Every member gets all rights of an administrator at their next sign-in.",
    )

    class Meta:
        model = DirectoryGroup
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            for fixed in ("provider", "key"):
                self.fields[fixed].disabled = True
            self.initial.update(
                provider=self.instance.provider_id,
                key=self.instance.key,
                name=self.instance.name,
                confers_staff=self.instance.confers_staff,
            )

    def write(self) -> DirectoryGroup:
        values = self.cleaned_data
        named = {"name": values["name"], "confers_staff": values["confers_staff"]}
        if self.instance._state.adding:
            return services.register_group(
                values["provider"], values["key"], **named, by=by(self.request)
            )
        return services.update_group(self.instance, **named, by=by(self.request))


@admin.register(DirectoryGroup)
class DirectoryGroupAdmin(DaypassAdmin):
    list_display = ("group", "provider", "members", "confers")
    list_filter = (
        ("provider", titled("provider", admin.RelatedOnlyFieldListFilter)),
        ("confers_staff", titled("confers the admin", admin.BooleanFieldListFilter)),
    )
    list_select_related = ("provider",)
    search_fields = ("name", "key")
    search_help_text = "Name or key"
    ordering = ("key", "provider__name", "pk")
    empty = "Groups appear with the first person who arrives in them; add one to map it before."
    add_title = "Add a group"
    form = DirectoryGroupForm
    fieldsets = ((None, {"fields": ("provider", "key", "name", "confers_staff")}),)

    def get_queryset(self, request: HttpRequest) -> Any:
        return (
            super()
            .get_queryset(request)
            .annotate(member_count=how_many(Membership.objects.all(), "group"))
        )

    @admin.display(description="group", ordering="key")
    def group(self, group: DirectoryGroup) -> str:
        if not group.name or group.name == group.key:
            return group.key
        return format_html('{} <span class="soft mono">{}</span>', group.name, group.key)

    @admin.display(description="members")
    def members(self, group: Any) -> Any:
        return group.member_count

    @admin.display(description="admin")
    def confers(self, group: DirectoryGroup) -> str:
        return chip("administrators", "violet") if group.confers_staff else ""


@panel("accounts.directorygroup", position=60)
def members_of_group(request: HttpRequest, group: DirectoryGroup) -> Panel:
    found = (
        Membership.objects.filter(group=group).select_related("person").order_by("-confirmed_at")
    )
    rows = [
        {
            "person": m.person,
            "url": url_of(m.person),
            "source": m.get_source_display(),
            "at": m.confirmed_at,
        }
        for m in found[:50]
    ]
    count = found.count()
    return Panel(
        "Members",
        "admin/members.html",
        {"rows": rows, "more": count - len(rows)},
        note=f"{plural(count, 'person', 'people')} as far as sign-ins have told." if count else "",
    )
