"""Terminals, and the tokens and codes that lead to them. No token is kept, only its digest."""

from __future__ import annotations

import uuid
from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.db.models.lookups import IsNull
from django.utils import timezone


class Terminal(models.Model):
    """One client on a computer that a person let in: as whom it asks, for what, and until when.

    Every token of it hangs on this row, and ends with it. What the person proved at their sign-in is kept as it was
    (`proof`), so that the decision counts the age of that sign-in and no later one.
    """

    class Kind(models.TextChoices):
        SSO = "sso", "AWS SSO sign-in"
        LOGIN = "login", "aws login, for one role"
        SCRIPT = "script", "A token for scripts"

    class Flow(models.TextChoices):
        BROWSER = "browser", "In the browser of the same computer"
        DEVICE = "device", "By a code, from anywhere"
        PORTAL = "portal", "Made in the portal"

    class Ended(models.TextChoices):
        CLIENT = "client", "Signed out by the client"
        PERSON = "person", "Ended in the portal"
        ADMINISTRATOR = "administrator", "Ended by an administrator"
        SIGNED_OUT = "signed_out", "The browser session that let it in was signed out"
        REUSED = "reused", "One of its codes or tokens came twice"
        EXPIRED = "expired", "Its time was over"
        SHUT = "shut", "The person may not use Daypass any more"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    person = models.ForeignKey(
        "accounts.Person", on_delete=models.PROTECT, related_name="terminals"
    )
    kind = models.CharField(max_length=8, choices=Kind.choices)
    flow = models.CharField(max_length=8, choices=Flow.choices)
    role = models.ForeignKey(
        "broker.AwsRole",
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="+",
        help_text="The one role that it may ask for; none: every role of the person.",
    )
    label = models.CharField(max_length=64, blank=True, help_text="What the person called it.")
    client_name = models.CharField(max_length=100, blank=True, help_text="As it says; unverified.")
    client_digest = models.CharField(
        max_length=64, blank=True, help_text="SHA-256 of the client's id."
    )
    user_agent = models.CharField(max_length=200, blank=True)
    proof = models.JSONField(default=dict)
    epoch = models.PositiveIntegerField()
    line = models.CharField(
        max_length=32, blank=True, help_text="Of the browser session that let it in."
    )
    relay = models.CharField(
        max_length=64,
        blank=True,
        help_text="What that browser session keeps for AWS goes by this name.",
    )
    key_thumbprint = models.CharField(
        max_length=64, blank=True, help_text="aws login: RFC 7638 thumbprint of the client's key."
    )
    asked_from = models.GenericIPAddressField(null=True, blank=True)
    approved_from = models.GenericIPAddressField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    ends_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)
    used_from = models.GenericIPAddressField(null=True, blank=True)
    used_by = models.CharField(max_length=200, blank=True, help_text="The client's User-Agent.")
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_because = models.CharField(max_length=16, choices=Ended.choices, blank=True)

    class Meta:
        ordering: ClassVar = ["-created_at"]
        indexes: ClassVar = [
            models.Index(fields=["person", "-created_at"], name="terminal_by_person"),
            models.Index(
                fields=["line"], condition=Q(ended_at__isnull=True), name="terminal_by_line"
            ),
            models.Index(
                fields=["ends_at"], condition=Q(ended_at__isnull=True), name="terminal_open"
            ),
        ]

    def __str__(self) -> str:
        return self.label or self.client_name or f"terminal of {self.person_id}"


class TerminalToken(models.Model):
    """An opaque token or code of a terminal, by its digest: SHA-256 in hexadecimal.

    code: exchanged once, within a minute; refresh: exchanged for the next pair; access and script: a bearer's.
    `bound` says what a code was given for: redirect address, code challenge.
    """

    class Kind(models.TextChoices):
        CODE = "code", "authorization code"
        ACCESS = "access", "access token"
        REFRESH = "refresh", "refresh token"
        SCRIPT = "script", "script token"

    digest = models.CharField(max_length=64, primary_key=True)
    terminal = models.ForeignKey(Terminal, on_delete=models.CASCADE, related_name="tokens")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    bound = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(db_index=True)
    used_at = models.DateTimeField(
        null=True, blank=True, help_text="Code, refresh token: when it was first exchanged."
    )
    used = models.PositiveSmallIntegerField(default=0, help_text="How often it was exchanged.")

    def __str__(self) -> str:
        return f"{self.kind} of {self.terminal_id}"


class DeviceRequest(models.Model):
    """A client that waits for somebody to type its code. The person who does is who it will ask as."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        APPROVED = "approved", "Approved"
        DENIED = "denied", "Denied"
        USED = "used", "Used"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    device_digest = models.CharField(max_length=64, unique=True)
    user_code_digest = models.CharField(max_length=64, unique=True, help_text="Keyed.")
    state = models.CharField(max_length=8, choices=State.choices, default=State.WAITING)
    terminal = models.OneToOneField(
        Terminal, null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    client_name = models.CharField(max_length=100, blank=True)
    client_digest = models.CharField(max_length=64)
    user_agent = models.CharField(max_length=200, blank=True)
    asked_from = models.GenericIPAddressField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(db_index=True)
    interval = models.PositiveSmallIntegerField(default=5, help_text="Seconds between two polls.")
    polls = models.PositiveIntegerField(default=0)
    polled_at = models.DateTimeField(null=True, blank=True)
    polled_from = models.GenericIPAddressField(null=True, blank=True)

    def __str__(self) -> str:
        return f"code asked for from {self.asked_from}"


class UsedProof(models.Model):
    """A proof of a key that a client of `aws login` made for one request, so that nobody brings it again."""

    digest = models.CharField(max_length=64, primary_key=True)
    forget_at = models.DateTimeField(
        db_index=True, help_text="From then on it is refused as too old anyway."
    )

    def __str__(self) -> str:
        return self.digest


class TerminalPolicy(models.Model):
    """What administrators allow terminals: for the people of one provider, or (without one) for everybody else."""

    provider = models.OneToOneField(
        "accounts.IdentityProvider",
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="+",
        help_text="Empty: people of every provider that has no row of its own.",
    )
    enabled = models.BooleanField("AWS CLIs and SDKs may sign in", default=True)
    device_codes = models.BooleanField(
        "sign-in by device code", default=True, help_text="For computers without a browser."
    )
    device_networks = models.JSONField(
        default=list,
        blank=True,
        help_text="Networks (CIDR) from which codes may be asked for and approved. Empty: any.",
    )
    script_tokens = models.BooleanField(
        "tokens for scripts",
        default=True,
        help_text="Bearer tokens for credential_process, the container endpoint and the config file.",
    )
    longest_seconds = models.PositiveIntegerField(
        null=True,
        blank=True,
        help_text="How long a terminal may live. Empty: as long as a browser session.",
    )

    class Meta:
        verbose_name = "terminal policy"
        verbose_name_plural = "terminal policies"
        constraints: ClassVar = [
            models.UniqueConstraint(
                IsNull(F("provider"), True),
                condition=Q(provider__isnull=True),
                name="one_terminal_policy_for_everybody",
            ),
        ]

    def __str__(self) -> str:
        return f"people of {self.provider}" if self.provider else "everybody else"
