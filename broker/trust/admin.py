"""What AWS has to be told so that Daypass gets in, ready to copy and download: of a role, an account or a selection."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode

from broker import backoffice
from broker.arns import PARTITIONS
from broker.backoffice import (
    LinesField,
    Page,
    Panel,
    choice,
    code_area,
    code_input,
    list_url,
    panel,
    plural,
)
from broker.entitlements.models import AwsAccount, AwsRole
from broker.errors import BadInput, DaypassError
from broker.trust import queries, rules
from broker.trust.documents import STACK_SET, Format, documents
from broker.trust.queries import role_trust
from broker.trust.relayed import KNOWN_TO_AWS, relayed_policy
from broker.trust.setup import AccountSetUp, Document, Options, managed_policy

MOST_SHOWN = 12
"""Documents on one page; the rest is in the download."""

LANGUAGES = (
    (Format.CLOUDFORMATION, "CloudFormation, YAML"),
    (Format.CLOUDFORMATION_JSON, "CloudFormation, JSON"),
    (Format.STACKSET, "CloudFormation StackSet, for many accounts of an organisation"),
    (Format.TERRAFORM, "Terraform"),
    (Format.CLI, "AWS CLI, as a script"),
    (Format.STATEMENT, "The trust policy alone, for a role that exists"),
)


class SetUpForm(forms.Form):
    """In which language, and with what besides. What does not concern the selection is not asked."""

    language = forms.ChoiceField(
        label="As", choices=LANGUAGES, initial=Format.CLOUDFORMATION, widget=forms.RadioSelect
    )
    make_providers = forms.BooleanField(
        label="Make the identity provider as well",
        required=False,
        initial=True,
        help_text="Off where the account has it already: IAM takes one for each issuer.",
    )
    policies = LinesField(
        label="What people may do",
        rows=2,
        required=False,
        help_text="ARNs of managed policies for every role, one a line. "
        "For example arn:aws:iam::aws:policy/ReadOnlyAccess. Empty: nothing yet.",
    )
    boundary = forms.CharField(
        label="Permission boundary",
        required=False,
        max_length=700,
        widget=code_input(),
        help_text="A policy that every account has. For example arn:aws:iam::111122223333:policy/Boundary.",
    )
    discovery = forms.BooleanField(
        label="With a role that Daypass reads the account through",
        required=False,
        help_text="It lists roles and whom they trust, and only Daypass itself gets into it. "
        "Named as on the account's page, or DaypassDiscovery.",
    )
    update_metadata = forms.BooleanField(
        label="That role may renew the SAML provider's metadata",
        required=False,
        help_text="So that a new signing key needs no upload by hand.",
    )
    broker_arn = forms.CharField(
        label="The role that Daypass runs with",
        required=False,
        max_length=700,
        widget=code_input(),
        help_text="For roles with AssumeRole. For example arn:aws:iam::999988887777:role/Daypass.",
    )
    existing = forms.CharField(
        label="Its present trust policy",
        required=False,
        max_length=50_000,
        widget=code_area(6),
        help_text="For the trust policy alone: Daypass's statement is then added or put right in it.",
    )

    def __init__(
        self, *args: Any, trusts: set[str], one_role: bool, reading: bool, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.fields["discovery"].initial = reading
        if "saml" not in trusts:
            del self.fields["update_metadata"]
        if "assume_role" not in trusts:
            del self.fields["broker_arn"]
        if not one_role:
            del self.fields["existing"]

    def clean_boundary(self) -> Any:
        return (
            self._policy(self.cleaned_data["boundary"]) if self.cleaned_data["boundary"] else None
        )

    def clean_policies(self) -> Any:
        return tuple(map(self._policy, self.cleaned_data["policies"]))

    def _policy(self, text: str) -> Any:
        try:
            return managed_policy(text)
        except DaypassError as error:
            raise forms.ValidationError(error.message) from None


def set_up_view(request: HttpRequest) -> HttpResponse:
    """GET ?account=…&role=…, or the form by POST: the documents. Writes nothing."""
    if request.method not in ("GET", "HEAD", "POST"):
        return HttpResponseNotAllowed(["GET", "POST"])
    asked = request.POST if request.method == "POST" else request.GET
    roles = AwsRole.objects.filter(pk__in=_uuids(asked.getlist("role")))
    accounts = AwsAccount.objects.filter(pk__in=_numbers(asked.getlist("account")))
    return _page(request, roles, accounts)


backoffice.pages.append(Page("aws-setup/", "aws_setup", set_up_view))


@choice("set_up_aws", "Set up AWS", "broker.awsrole", "broker.awsaccount")
def set_up_selection(request: HttpRequest, chosen: QuerySet[Any]) -> HttpResponse:
    if chosen.model is AwsRole:
        return _page(request, chosen, AwsAccount.objects.none(), first=True)
    return _page(request, AwsRole.objects.none(), chosen, first=True)


def _uuids(texts: Sequence[str]) -> list[UUID]:
    found = []
    for text in texts:
        try:
            found.append(UUID(text))
        except ValueError:
            continue
    return found


def _numbers(texts: Sequence[str]) -> list[int]:
    return [int(text) for text in texts if text.isascii() and text.isdigit() and len(text) < 12]


def _page(
    request: HttpRequest,
    roles: QuerySet[AwsRole],
    accounts: QuerySet[AwsAccount],
    *,
    first: bool = False,
) -> HttpResponse:
    """first: the request is another page's, and this one's form is not in it yet."""
    chosen = list(roles.select_related("account").order_by("account__name", "name"))
    whole = list(accounts.order_by("name"))
    trusts = {role.trust for role in chosen}
    if whole:
        of_accounts = AwsRole.objects.filter(account__in=whole, enabled=True)
        trusts |= set(of_accounts.order_by().values_list("trust", flat=True).distinct())
    posted = request.POST if request.method == "POST" and not first else None
    form = SetUpForm(
        posted,
        trusts=trusts,
        one_role=len(chosen) == 1 and not whole,
        reading=any(account.discovery_role for account in whole),
    )
    values: dict[str, Any] = {name: field.initial for name, field in form.fields.items()}
    problem = ""
    made: list[Document] = []
    if posted is None or form.is_valid():
        values |= form.cleaned_data if posted is not None else {}
        try:
            made = _documents(chosen, whole, values)
        except DaypassError as error:
            if error.code == "bad_policy" and form.is_bound and "existing" in form.fields:
                form.add_error("existing", error.message)
            else:
                problem = " ".join(filter(None, (error.message, error.remedy)))
    wanted = posted.get("download", "") if posted is not None else ""
    if wanted and made:
        return _download(made, wanted)
    language = Format(values["language"])
    title = "Set up AWS"
    if len(chosen) == 1:
        title = f"Set up {chosen[0]}"
    elif not chosen and len(whole) == 1:
        title = f"Set up {whole[0]}"
    context = admin.site.each_context(request)
    home = list_url(AwsRole if chosen else AwsAccount)
    for task in context["navigation"]:
        for page in task["pages"]:
            page["current"] = page["url"] == home
    return render(
        request,
        "admin/set_up.html",
        {
            **context,
            "opts": AwsRole._meta if chosen else AwsAccount._meta,
            "title": title,
            "intro": _about(chosen, whole),
            "form": form,
            "problem": problem,
            "roles": chosen,
            "accounts": whole,
            "shown": [
                {"document": one, "anchor": f"document-{number}", "how": _how(one, language)}
                for number, one in enumerate(made[:MOST_SHOWN])
            ],
            "more": max(len(made) - MOST_SHOWN, 0),
            "several": len(made) > 1,
            "too_long": _too_long(made) if language == Format.STATEMENT else 0,
            "longest": rules.LONGEST,
            "own_url": reverse("admin:aws_setup"),
            "issuer": settings.DAYPASS_ISSUER,
            "unreachable": "web_identity" in trusts and settings.DAYPASS_NOTHING_PUBLIC,
            "fit": trusts <= {"saml"} or rules.fit_for_iam(settings.DAYPASS_ISSUER),
        },
    )


def _about(roles: Sequence[AwsRole], accounts: Sequence[AwsAccount]) -> str:
    if len(roles) > 1:
        places = len({role.account_id for role in roles})
        return f"{len(roles)} roles in {plural(places, 'account', 'accounts')}."
    if len(accounts) > 1:
        return f"{len(accounts)} accounts, with every role of theirs that is in use."
    return "The identity provider and the roles that let people in through Daypass, as narrow as they can be."


def _documents(
    roles: Sequence[AwsRole], accounts: Sequence[AwsAccount], values: dict[str, Any]
) -> list[Document]:
    discovery = bool(values.get("discovery"))
    more: dict[str, Any] = {
        "discovery": discovery,
        "update_metadata": bool(values.get("update_metadata")),
        "broker_arn": (values.get("broker_arn") or "").strip(),
    }
    language = Format(values["language"])
    existing = (values.get("existing") or "").strip()
    if language == Format.STATEMENT and existing and len(roles) == 1:
        return _mended(roles[0], existing, more["broker_arn"])
    found: list[AccountSetUp] = []
    if roles:
        holders = {role.account_id: role.account for role in roles}
        found = queries.set_ups(
            holders.values(), roles={role.pk for role in roles if role.pk}, **more
        )
    if accounts:
        found += queries.set_ups(accounts, **more)
    options = Options(
        boundary=values.get("boundary") or None,
        policies=tuple(values.get("policies") or ()),
        make_providers=bool(values.get("make_providers")),
        saml_metadata=queries.saml_metadata(found, now=timezone.now()),
    )
    return documents(found, options, language)


def _mended(role: AwsRole, existing: str, broker_arn: str) -> list[Document]:
    subject = role_trust(role, broker_arn=broker_arn)
    if subject is None:
        return []
    text = rules.trust_policy(subject, existing=existing) + "\n"
    number = role.account.account_id
    return [Document(f"{number}-{role.name}.json", "application/json", text, number)]


def _too_long(made: Sequence[Document]) -> int:
    return max((rules.length(one.text) for one in made), default=0)


def _how(document: Document, language: Format) -> str:
    """The command that uses a document, or "" where it is not used by one."""
    account = AwsAccount.objects.filter(account_id=document.account_id).first()
    region = PARTITIONS[account.partition].home_region if account else "us-east-1"
    if language in (Format.CLOUDFORMATION, Format.CLOUDFORMATION_JSON):
        return (
            f"aws cloudformation deploy --stack-name {STACK_SET} --template-file {document.filename} "
            f"--capabilities CAPABILITY_NAMED_IAM --region {region}"
        )
    if document.filename.endswith(".sh"):
        return f"sh {document.filename}"
    if language == Format.TERRAFORM:
        return "terraform init && terraform apply"
    if language == Format.STATEMENT:
        name = document.filename.removesuffix(".json").partition("-")[2]
        return (
            f"aws iam update-assume-role-policy --role-name={name} "
            f"--policy-document file://{document.filename}"
        )
    return ""


def _download(made: Sequence[Document], wanted: str) -> HttpResponse:
    if wanted == "all":
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for one in made:
                archive.writestr(one.filename, one.text)
        return _file("daypass-aws-setup.zip", "application/zip", packed.getvalue())
    found = next((one for one in made if one.filename == wanted), made[0])
    return _file(found.filename, f"{found.media_type}; charset=utf-8", found.text.encode())


def _file(name: str, media_type: str, content: bytes) -> HttpResponse:
    return HttpResponse(
        content,
        content_type=media_type,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


# --- On the pages of accounts and roles


@panel("broker.awsrole", position=15)
def what_iam_needs(request: HttpRequest, role: AwsRole) -> Panel | None:
    try:
        subject = role_trust(role)
    except BadInput:  # something in the settings or the catalogue that no policy can name; the set-up page says what
        subject = None
    if subject is None:
        return None
    return Panel(
        "The trust policy that IAM needs",
        "admin/trust_policy.html",
        {
            "policy": rules.trust_policy(subject),
            "trust": role.trust,
            "role": role,
            "account": role.account,
            "issuer": settings.DAYPASS_ISSUER,
            "audience": settings.DAYPASS_AUDIENCE,
            "metadata": settings.DAYPASS_SAML_ENTITY_ID,
            "set_up": _url(role=role.pk),
        },
        note="In the IAM console: the role, Trust relationships, Edit trust policy. Both extra actions are needed.",
    )


@panel("broker.awsaccount", position=15)
def what_the_account_needs(request: HttpRequest, account: AwsAccount) -> Panel:
    return Panel(
        "In AWS",
        "admin/set_up_link.html",
        {"set_up": _url(account=account.pk)},
        note="The identity provider and the roles of this account, for CloudFormation, Terraform or the AWS CLI.",
    )


def _url(**chosen: Any) -> str:
    return f"{reverse('admin:aws_setup')}?{urlencode(chosen)}"


@panel("broker.awsrole", position=16)
def what_iam_needs_for_a_relayed_token(request: HttpRequest, role: AwsRole) -> Panel | None:
    provider = role.relay_provider
    if role.trust != AwsRole.Trust.RELAYED_TOKEN or provider is None:
        return None
    policy = relayed_policy(
        account_id=role.account.account_id,
        partition=role.account.partition,
        issuer=provider.issuer,
        client_id=provider.client_id,
    )
    return Panel(
        "The trust policy that IAM needs",
        "admin/relayed_trust.html",
        {
            "policy": policy,
            "provider": provider,
            "known": provider.issuer.removeprefix("https://") in KNOWN_TO_AWS,
        },
        note="In the IAM console: the role, Trust relationships, Edit trust policy. docs/relay.md has the whole way.",
    )
