"""Denies in the admin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelect
from django.http import HttpRequest
from django.utils import timezone
from django.utils.text import capfirst

from accounts.models import DirectoryGroup, Person
from broker.audit.administrators import by
from broker.backoffice import (
    DaypassAdmin,
    MomentField,
    Panel,
    ServiceForm,
    chip,
    panel,
    titled,
    url_of,
)
from broker.entitlements import services
from broker.entitlements.admin.common import (
    SWITCH,
    as_it_is,
    deeds_of,
    heading_of,
    only_when_new,
    what_is_denied,
    who_is_denied,
    without_switch,
)
from broker.entitlements.admin.mappings import search_in
from broker.entitlements.drafts import DenyDraft
from broker.entitlements.models import AwsAccount, AwsRole, Deny
from broker.templatetags.backoffice import exact


class DenyForm(ServiceForm):
    reason = forms.CharField(
        label="Why",
        max_length=200,
        help_text="Shown to the person who is refused. For example: Frozen during the audit; ask security@example.com.",
    )
    group = forms.ModelChoiceField(
        DirectoryGroup.objects.select_related("provider"),
        required=False,
        label="Members of this group",
    )
    person = forms.ModelChoiceField(Person.objects.all(), required=False, label="Or this person")
    role = forms.ModelChoiceField(
        AwsRole.objects.select_related("account"), required=False, label="May not use this role"
    )
    account = forms.ModelChoiceField(
        AwsAccount.objects.all(),
        required=False,
        label="Or any role of this account",
        help_text="Both empty: they may use no role at all.",
    )
    valid_until = MomentField(
        label="Until", required=False, help_text="UTC. Empty: until somebody lifts it."
    )
    enabled = forms.BooleanField(label="In force", required=False, initial=True)

    class Meta:
        model = Deny
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        only_when_new(self)
        for name in ("group", "person", "role", "account"):
            search_in(self, name, AutocompleteSelect(Deny._meta.get_field(name), admin.site))
        if not self.instance._state.adding:
            self.initial.update(
                {
                    name: getattr(
                        self.instance,
                        f"{name}_id" if name in ("group", "person", "role", "account") else name,
                    )
                    for name in self.fields
                }
            )

    def write(self) -> Deny:
        values = {**self.cleaned_data, SWITCH: as_it_is(self)}
        for name in ("group", "person", "role", "account"):
            values[name] = values[name].pk if values[name] else None
        draft = DenyDraft(**values)
        if self.instance._state.adding:
            return services.create_deny(draft, **by(self.request))
        return services.update_deny(self.instance.pk, draft, **by(self.request))


@admin.register(Deny)
class DenyAdmin(DaypassAdmin):
    deeds = deeds_of(
        "The deny is lifted: mappings count again.",
        "The deny is in force again and beats every mapping.",
        "The deny will be gone for good: mappings count again.",
    )
    list_display = ("who", "may_not", "reason", "until", "state")
    list_filter = (("enabled", titled("in force", admin.BooleanFieldListFilter)),)
    list_select_related = ("group__provider", "person", "role__account", "account")
    search_fields = (
        "reason",
        "group__name",
        "group__key",
        "person__handle",
        "role__name",
        "account__name",
    )
    search_help_text = "Person, group, role, account or reason"
    intro = "A deny beats every mapping."
    empty = "Add one for whoever must not get a role, whatever their groups say."
    add_title = "Deny somebody a role"
    form = DenyForm
    fieldsets = (
        ("Who", {"fields": (("group", "person"),), "classes": ("no-optional",)}),
        ("What", {"fields": (("role", "account"),), "classes": ("no-optional",)}),
        ("Why and how long", {"fields": ("reason", "valid_until", "enabled")}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.fieldsets if obj is None else without_switch(self.fieldsets)

    def heading(self, thing: Deny) -> str:
        return heading_of(thing)

    def facts(self, request: HttpRequest, thing: Deny) -> Sequence[tuple[str, Any]]:
        return (("State", self.state(thing)),)

    @admin.display(description="who")
    def who(self, deny: Deny) -> str:
        return capfirst(who_is_denied(deny)) if deny.group else who_is_denied(deny)

    @admin.display(description="may not use")
    def may_not(self, deny: Deny) -> str:
        return what_is_denied(deny)

    @admin.display(description="until", ordering="valid_until")
    def until(self, deny: Deny) -> str:
        return exact(deny.valid_until) or "lifted by hand"

    @admin.display(description="state", ordering="enabled")
    def state(self, deny: Deny) -> str:
        if not deny.enabled:
            return chip("lifted", "grey")
        over = deny.valid_until and deny.valid_until <= timezone.now()
        return chip("over", "grey") if over else chip("in force", "red")


@panel("accounts.person", position=25)
def denies_of_person(request: HttpRequest, person: Person) -> Panel | None:
    denies = Deny.objects.filter(person=person).select_related("role__account", "account")[:20]
    now = timezone.now()
    rows = [
        {
            "deny": deny,
            "url": url_of(deny),
            "what": capfirst(what_is_denied(deny)),
            "over": bool(deny.valid_until and deny.valid_until <= now),
        }
        for deny in denies
    ]
    return Panel("Denied by name", "admin/denies.html", {"rows": rows}) if rows else None
