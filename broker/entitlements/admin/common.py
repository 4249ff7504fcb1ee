"""What the pages of entitlements have in common: who changes something, chips, links, switches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import PROTECT, Model
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join

from accounts.models import Person
from broker.audit.administrators import by
from broker.backoffice import Deed, ServiceForm, list_url, plural
from broker.entitlements import services
from broker.entitlements.models import AwsAccount, AwsRole, Deny, Environment
from broker.entitlements.models import Mapping as RoleMapping

Trust = AwsRole.Trust


def environment_chip(environment: Environment | None) -> str:
    if environment is None:
        return ""
    return format_html(
        '<span class="chip{}" data-colour="{}">{}</span>',
        " solid" if environment.production else "",
        environment.colour,
        environment.name,
    )


# --- How things are called


def who_is_denied(deny: Deny) -> str:
    return f"members of {deny.group}" if deny.group else str(deny.person)


def what_is_denied(deny: Deny) -> str:
    if deny.role:
        return str(deny.role)
    return f"any role of {deny.account}" if deny.account else "any role at all"


def heading_of(thing: Any) -> str:
    """What stands above the pages about it: of a deny or a mapping who and what, and not only why."""
    match thing:
        case Deny():
            return f"Deny for {who_is_denied(thing)}: {what_is_denied(thing)}"
        case RoleMapping():
            return thing.who_gets_what()
        case _:
            return str(thing)


# --- On, off, gone


SWITCH = "enabled"


def only_when_new(form: ServiceForm) -> None:
    """Whether it is in use is asked when it is added; afterwards its deeds switch it, and say first what that does."""
    if not form.instance._state.adding:
        del form.fields[SWITCH]


def as_it_is(form: ServiceForm) -> bool:
    """What the draft says about that."""
    asked = form.cleaned_data.get(SWITCH) if SWITCH in form.fields else form.instance.enabled
    return bool(asked)


def without_switch(fieldsets: Any) -> list[tuple[str | None, dict[str, Any]]]:
    """The fieldsets of a form that does not ask it."""
    kept = []
    for title, options in fieldsets:
        rows = [
            row if isinstance(row, str) else tuple(name for name in row if name != SWITCH)
            for row in options["fields"]
            if row != SWITCH
        ]
        if any(rows):
            kept.append((title, {**options, "fields": tuple(filter(None, rows))}))
    return kept


def _switcher(enabled: bool) -> Callable[[HttpRequest, Any], str]:
    def switch(request: HttpRequest, thing: Any) -> str:
        services.switch(thing, enabled, **by(request))
        return f"{heading_of(thing)} is switched {'on' if enabled else 'off'}."

    return switch


def delete(request: HttpRequest, thing: Any) -> str:
    said = heading_of(thing)
    services.delete(thing, **by(request))
    return f"{said} is deleted. What it said stays in the audit log."


def in_the_way(thing: Any) -> str:
    """What still refers to it, so that it cannot be deleted, with links to their lists; "" for nothing."""
    found: list[tuple[type[Model], int, str]] = []
    for relation in thing._meta.related_objects:
        if relation.many_to_many or relation.on_delete is PROTECT:
            model = relation.related_model
            count = model._default_manager.filter(**{relation.field.name: thing}).count()
            if count:
                url = list_url(model, **{f"{relation.field.name}__id__exact": thing.pk})
                found.append((model, count, url))
    if not found:
        return ""
    *others, last = (
        format_html(
            '<a href="{}">{}</a>',
            url,
            plural(count, str(model._meta.verbose_name), str(model._meta.verbose_name_plural)),
        )
        for model, count, url in found
    )
    said = (
        format_html("{} and {}", format_html_join(", ", "{}", ((o,) for o in others)), last)
        if others
        else last
    )
    one = sum(count for _, count, _ in found) == 1
    refer, them = ("refers", "it") if one else ("refer", "them")
    match thing:
        case Environment():
            remedy = f"Move {them} to another one first."
        case AwsRole() if any(model not in (RoleMapping, Deny) for model, _, _ in found):
            remedy = "What happened with it has to stay readable" + (
                ": switch it off instead." if thing.enabled else ", so it stays, switched off."
            )
        case AwsRole():
            remedy = f"Take it out of {them} first{', or switch it off' if thing.enabled else ''}."
        case AwsAccount():
            off = ", or switch the account off" if thing.enabled else ""
            remedy = f"Delete {them} first{off}."
        case _:
            remedy = f"Delete {them} first, or switch it off."
    return format_html("{} still {} to it. {}", said, refer, remedy)


def people_behind(thing: Any) -> str:
    """How many people a switch or a deletion concerns, as far as their groups are known."""
    match thing:
        case RoleMapping():
            members = Person.objects.filter(memberships__group=thing.group_id)
        case AwsRole():
            members = Person.objects.filter(memberships__group__links__role=thing)
        case AwsAccount():
            members = Person.objects.filter(memberships__group__links__role__account=thing)
        case Deny(person_id=None):
            members = Person.objects.filter(memberships__group=thing.group_id)
        case Deny():
            members = Person.objects.filter(pk=str(thing.person_id))
        case _:
            return "Nobody's rights change."
    count = members.filter(is_active=True).distinct().count()
    if not count:
        return "This affects nobody who has signed in so far."
    return f"{plural(count, 'person is', 'people are')} concerned. Sessions that are live go on until they end."


def deeds_of(off: str, on: str, gone: str) -> tuple[Deed, ...]:
    """Switch off, switch on, delete; each says first what it does and to how many people."""
    return (
        Deed(
            "on",
            "Switch on",
            _switcher(True),
            available=lambda thing: not thing.enabled,
            warn=lambda thing: f"{on} {people_behind(thing)}",
        ),
        Deed(
            "off",
            "Switch off",
            _switcher(False),
            available=lambda thing: thing.enabled,
            warn=lambda thing: f"{off} {people_behind(thing)}",
            danger=True,
        ),
        Deed(
            "delete",
            "Delete",
            delete,
            warn=lambda thing: f"{gone} {people_behind(thing)}",
            blocked=in_the_way,
            danger=True,
            leaves=True,
        ),
    )


# --- Mappings


ASSERTED = Trust.RELAYED_ASSERTION
"""Of such roles the provider's own AWS application alone says whose they are."""
