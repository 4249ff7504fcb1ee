"""AWS accounts, AWS roles, mappings and denies.

A mapping gives the members of one directory group some roles, within limits. A deny beats every mapping.
"""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from broker.arns import PARTITIONS, RoleArn


def partition_choices() -> list[tuple[str, str]]:
    return [(p.name, p.title) for p in PARTITIONS.values()]


class Environment(models.Model):
    """What kind of account it is (Production, Staging, ...): a word and a colour on every account of it."""

    class Colour(models.TextChoices):
        RED = "red", "Red"
        AMBER = "amber", "Amber"
        GREEN = "green", "Green"
        BLUE = "blue", "Blue"
        VIOLET = "violet", "Violet"
        GREY = "grey", "Grey"

    name = models.CharField(max_length=40, unique=True)
    colour = models.CharField(max_length=8, choices=Colour.choices, default=Colour.GREY)
    production = models.BooleanField(
        default=False, help_text="Marked unmistakably wherever its roles appear."
    )
    position = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering: ClassVar = ["position", "name"]

    def __str__(self) -> str:
        return self.name


RELAYED = ("relayed_token", "relayed_assertion")
"""Trusts in which a company's own provider speaks for the person."""


class AwsAccount(models.Model):
    """One AWS account that people may be let into."""

    account_id = models.CharField("account id", max_length=12, help_text="12 digits.")
    partition = models.CharField(max_length=12, choices=partition_choices, default="aws")
    name = models.CharField(
        max_length=100, help_text="As people call it, for example Payments production."
    )
    alias = models.CharField(
        max_length=63, blank=True, help_text="The account alias in IAM, if it has one."
    )
    environment = models.ForeignKey(
        Environment, null=True, blank=True, on_delete=models.PROTECT, related_name="accounts"
    )
    region = models.CharField(
        max_length=32,
        blank=True,
        help_text="Where STS is asked and the console opens, for example eu-west-1.",
    )
    saml_provider_name = models.CharField(
        max_length=128,
        default="Daypass",
        help_text="The name of the IAM SAML provider that holds Daypass's metadata.",
    )
    second_region = models.CharField(
        max_length=32, blank=True, help_text="Who is asked when the first region does not answer."
    )
    external_id = models.CharField(
        max_length=1224,
        blank=True,
        help_text="AssumeRole only: what roles of this account demand that name none of their own.",
    )
    discovery_role = models.CharField(
        max_length=576,
        blank=True,
        help_text="Name, with its path, of the role through which Daypass reads this account, "
        "for example DaypassDiscovery.",
    )
    management = models.BooleanField(
        "lists the organisation",
        default=False,
        help_text="The discovery role of this account may list the accounts of the organisation.",
    )
    saml_kids = models.JSONField(
        default=list, editable=False, help_text="Keys that the account's SAML provider holds."
    )
    saml_checked_at = models.DateTimeField(null=True, editable=False)
    saml_problem = models.TextField(
        blank=True,
        editable=False,
        help_text="Why Daypass could not look after the SAML provider itself.",
    )
    vanished_at = models.DateTimeField(null=True, editable=False)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = "AWS account"
        ordering: ClassVar = ["name", "account_id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account_id"], name="one_row_per_aws_account"),
            models.UniqueConstraint(
                fields=["alias"], condition=~Q(alias=""), name="one_account_per_alias"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.account_id})"


class AwsRole(models.Model):
    """One IAM role, and how the broker gets into it."""

    class Trust(models.TextChoices):
        WEB_IDENTITY = "web_identity", "Web identity: the role trusts Daypass as OIDC issuer"
        SAML = "saml", "SAML: the role trusts Daypass as SAML identity provider"
        ASSUME_ROLE = "assume_role", "AssumeRole: the role trusts the broker's own AWS role"
        FEDERATION_TOKEN = (
            "federation_token",
            "Federation token: a federated user of the broker's own IAM user, not a role",
        )
        RELAYED_TOKEN = (
            "relayed_token",
            "Relayed ID token: the role trusts the company's own OpenID Connect provider",
        )
        RELAYED_ASSERTION = (
            "relayed_assertion",
            "Relayed SAML assertion: the company's own application for AWS says who may use the role",
        )

    class Console(models.TextChoices):
        FEDERATION = "federation", "Console link by the federation endpoint"
        SAML_FORM = "saml_form", "SAML form: the browser signs in at AWS directly (SAML trust only)"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    account = models.ForeignKey(AwsAccount, on_delete=models.PROTECT, related_name="roles")
    name = models.CharField(max_length=64)
    path = models.CharField(max_length=512, default="/")
    arn = models.CharField("ARN", max_length=2048, unique=True, editable=False)
    description = models.CharField(
        max_length=200, blank=True, help_text="One line for the people who use it."
    )
    trust = models.CharField(max_length=24, choices=Trust.choices, default=Trust.WEB_IDENTITY)
    relay_provider = models.ForeignKey(
        "accounts.IdentityProvider",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="Relayed only: the identity provider whose token or assertion the role trusts.",
    )
    session_name = models.CharField(
        "session name template",
        max_length=64,
        blank=True,
        help_text="For example {handle}.{random}, which it is when nothing is said.",
    )
    console = models.CharField(max_length=12, choices=Console.choices, default=Console.FEDERATION)
    external_id = models.CharField(
        max_length=1224, blank=True, help_text="AssumeRole only: what the role's trust demands."
    )
    max_seconds = models.PositiveIntegerField(
        "longest session (seconds)",
        default=3600,
        validators=[MinValueValidator(900), MaxValueValidator(43200)],
        help_text="The role's MaxSessionDuration in IAM: 3600 to 43200.",
    )
    sensitive = models.BooleanField(default=False)
    vanished_at = models.DateTimeField(null=True, editable=False)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = "AWS role"
        ordering: ClassVar = ["account", "name"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["account", "name"], name="one_role_per_account_and_name"
            ),
            models.CheckConstraint(
                condition=~Q(console="saml_form") | Q(trust="saml"),
                name="saml_form_needs_saml_trust",
            ),
            models.CheckConstraint(
                condition=Q(trust__in=RELAYED, relay_provider__isnull=False)
                | (~Q(trust__in=RELAYED) & Q(relay_provider__isnull=True)),
                name="relayed_trust_names_a_provider",
            ),
            models.CheckConstraint(
                condition=Q(max_seconds__gte=900, max_seconds__lte=43200),
                name="role_max_seconds_in_range",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} in {self.account.name}"

    @property
    def role_arn(self) -> RoleArn:
        return RoleArn(
            self.account.partition,
            self.account.account_id,
            self.path,
            self.name,
            federated=self.trust == self.Trust.FEDERATION_TOKEN,
        )


class Mapping(models.Model):
    """The members of one directory group may use some roles, within these limits. Empty limit: no limit of its own."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    group = models.ForeignKey(
        "accounts.DirectoryGroup", on_delete=models.PROTECT, related_name="mappings"
    )
    roles = models.ManyToManyField(AwsRole, through="MappingRole", related_name="mappings")
    note = models.CharField(max_length=200, blank=True, help_text="Why this mapping exists.")
    enabled = models.BooleanField(default=True)
    max_seconds = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(900), MaxValueValidator(43200)]
    )
    allow_console = models.BooleanField(default=True)
    allow_keys = models.BooleanField(default=True)
    require_mfa = models.BooleanField(default=False)
    max_sign_in_age = models.PositiveIntegerField(
        null=True, blank=True, help_text="Seconds since the sign-in."
    )
    networks = models.JSONField(
        default=list, blank=True, help_text="CIDR networks, for example 192.0.2.0/24."
    )
    valid_from = models.DateTimeField(null=True, blank=True)
    valid_until = models.DateTimeField(null=True, blank=True)
    session_policy = models.TextField(
        blank=True, help_text="IAM policy (JSON) that narrows the session."
    )
    policy_arns = models.JSONField(
        default=list, blank=True, help_text="Managed policies that narrow the session."
    )
    session_tags = models.JSONField(
        default=dict, blank=True, help_text="Tag key -> name of the person attribute."
    )
    transitive_tag_keys = models.JSONField(
        default=list, blank=True, help_text="Keys of tags that stay on when a role is chained."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering: ClassVar = ["group", "created_at"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(max_seconds__isnull=True)
                | Q(max_seconds__gte=900, max_seconds__lte=43200),
                name="mapping_max_seconds_in_range",
            ),
            models.CheckConstraint(
                condition=Q(allow_console=True) | Q(allow_keys=True),
                name="mapping_allows_some_hand_over",
            ),
            models.CheckConstraint(
                condition=Q(valid_from__isnull=True)
                | Q(valid_until__isnull=True)
                | Q(valid_until__gt=F("valid_from")),
                name="mapping_begins_before_it_ends",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.group} → {self.note or 'roles'}"

    def who_gets_what(self) -> str:
        """By its roles: which one, or how many."""
        links = self.links.select_related("role__account")
        first = list(links[:2])
        gives = str(first[0].role) if len(first) == 1 else f"{links.count()} roles"
        return f"{self.group} → {gives}"


class MappingRole(models.Model):
    """One role of one mapping, with what the list of a person's roles asks of the mapping copied beside it.

    The copies let that list be read from one index, starting at the person's groups, without visiting the mappings.
    Services write them together with the mapping. No right hangs on them: the decision reads the mapping itself.
    """

    mapping = models.ForeignKey(
        Mapping, on_delete=models.CASCADE, related_name="links", db_index=False
    )
    role = models.ForeignKey(
        AwsRole, on_delete=models.CASCADE, related_name="links", db_index=False
    )
    group = models.ForeignKey(
        "accounts.DirectoryGroup",
        on_delete=models.PROTECT,
        related_name="links",
        db_index=False,
        editable=False,
    )
    enabled = models.BooleanField(default=True, editable=False)
    valid_until = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["mapping", "role"], name="one_link_per_mapping_and_role"
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["group", "enabled", "role", "valid_until"], name="link_by_group"),
            models.Index(fields=["role", "group"], name="link_by_role"),
        ]

    def __str__(self) -> str:
        return f"{self.mapping_id} → {self.role_id}"


class Deny(models.Model):
    """Members of a group, or one person, may not use a role, or any role of an account, or any role at all.

    Exactly one of group and person; at most one of role and account (neither: every role).
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    group = models.ForeignKey(
        "accounts.DirectoryGroup",
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="denies",
    )
    person = models.ForeignKey(
        "accounts.Person", null=True, blank=True, on_delete=models.PROTECT, related_name="denies"
    )
    role = models.ForeignKey(
        AwsRole, null=True, blank=True, on_delete=models.PROTECT, related_name="denies"
    )
    account = models.ForeignKey(
        AwsAccount, null=True, blank=True, on_delete=models.PROTECT, related_name="denies"
    )
    reason = models.CharField(max_length=200, help_text="Shown to the person who is refused.")
    enabled = models.BooleanField(default=True)
    valid_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name_plural = "denies"
        ordering: ClassVar = ["-created_at"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(group__isnull=True, person__isnull=False)
                | Q(group__isnull=False, person__isnull=True),
                name="deny_names_a_group_or_a_person",
            ),
            models.CheckConstraint(
                condition=Q(role__isnull=True) | Q(account__isnull=True),
                name="deny_names_a_role_or_an_account",
            ),
        ]

    def __str__(self) -> str:
        return self.reason
