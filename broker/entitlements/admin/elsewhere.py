"""What entitlements contribute to other pages: what needs a hand, figures, first steps, search."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from django.db.models import Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from broker.backoffice import (
    Attention,
    Figure,
    Hit,
    Step,
    attentions,
    contributes,
    counted,
    figures,
    finders,
    list_url,
    plural,
    steps,
    url_of,
)
from broker.entitlements.models import AwsAccount, AwsRole, Deny
from broker.entitlements.models import Mapping as RoleMapping
from broker.templatetags.backoffice import exact


@contributes(attentions)
def mappings_that_end(request: HttpRequest) -> Iterable[Attention]:
    now = timezone.now()
    ending = RoleMapping.objects.filter(
        enabled=True, valid_until__gt=now, valid_until__lt=now + timedelta(days=7)
    ).select_related("group__provider")
    for mapping in ending[:5]:
        yield Attention(
            "note",
            f"The mapping of {mapping.group} ends on {exact(mapping.valid_until)}.",
            url_of(mapping),
            "See it",
        )


@contributes(figures)
def what_there_is(request: HttpRequest) -> Iterable[Figure]:
    accounts = AwsAccount.objects.filter(enabled=True).count()
    roles = AwsRole.objects.filter(enabled=True).count()
    yield Figure(
        *counted(roles, "role in use", "roles in use"),
        list_url(AwsRole),
        f"in {plural(accounts, 'account', 'accounts')}",
    )
    mappings = RoleMapping.objects.filter(enabled=True).count()
    denies = Deny.objects.filter(enabled=True).count()
    yield Figure(
        *counted(mappings, "mapping in use", "mappings in use"),
        list_url(RoleMapping),
        plural(denies, "deny", "denies") + " in force",
    )


@contributes(steps)
def register_an_account(request: HttpRequest) -> Step:
    return _first(
        30,
        "Register an AWS account",
        AwsAccount.objects.count(),
        ("account", "accounts"),
        "Its 12 digits, and the name that people use.",
        reverse("admin:broker_awsaccount_add"),
        "Register an account",
    )


@contributes(steps)
def register_a_role(request: HttpRequest) -> Step:
    return _first(
        40,
        "Register a role",
        AwsRole.objects.count(),
        ("role", "roles"),
        "By its ARN. Its page then shows the trust policy that IAM needs.",
        reverse("admin:broker_awsrole_add"),
        "Register a role",
    )


@contributes(steps)
def map_a_group(request: HttpRequest) -> Step:
    return _first(
        50,
        "Map a directory group to roles",
        RoleMapping.objects.filter(enabled=True).count(),
        ("mapping", "mappings"),
        "Choose a group, choose roles; the form shows who would get them.",
        reverse("admin:broker_mapping_add"),
        "Map a group",
    )


def _first(
    number: int, title: str, count: int, nouns: tuple[str, str], how: str, url: str, action: str
) -> Step:
    """A step that is done with the first one that there is."""
    if count:
        return Step(number, title, "done", plural(count, *nouns), url, "")
    return Step(number, title, "waiting", how, url, action)


@contributes(finders)
def find_accounts_and_roles(text: str) -> Iterable[Hit]:
    digits = text.replace("-", "").replace(" ", "")
    accounts = AwsAccount.objects.filter(
        Q(name__icontains=text)
        | Q(account_id__startswith=digits or text)
        | Q(alias__istartswith=text)
    )
    for account in accounts[:10]:
        yield Hit("Account", account.name, account.account_id, url_of(account))
    roles = AwsRole.objects.filter(Q(name__icontains=text) | Q(arn=text)).select_related("account")
    for role in roles[:10]:
        yield Hit("Role", str(role), role.arn, url_of(role))
