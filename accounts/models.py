"""Identity providers, people, directory groups and memberships.

Every group belongs to one provider, so that `admins` of one is never `admins` of another. A person is a subject at a
provider; the handle is Daypass's own and is never given to anybody else.
"""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

SLUG = RegexValidator(
    r"\A[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?\Z",
    "Use 1 to 40 lower-case letters, digits and hyphens, beginning and ending with a letter or digit.",
)


class Protocol(models.TextChoices):
    SAML = "saml", "SAML 2.0"
    OIDC = "oidc", "OpenID Connect"


class Encryption(models.TextChoices):
    """What a SAML provider may do with its assertions besides signing them."""

    REFUSED = "refused", "Not encrypted"
    ACCEPTED = "accepted", "May be encrypted"
    REQUIRED = "required", "Has to be encrypted"


class Pinning(models.TextChoices):
    """Who decides that a provider's new key, certificate or address is believed (threats.md R33)."""

    APPROVE = "approve", "An administrator, each time"
    SIGNED = "signed", "The signer of its metadata"
    FOLLOW = "follow", "The provider itself, at its own address"


class IdentityProvider(models.Model):
    """A SAML identity provider or an OpenID Connect provider that vouches for people.

    The id is what allauth knows as `provider_id`, so that two providers never share people. What is sealed (the OIDC
    client secret) is bound to this row and cleared when the issuer changes (threats.md R44).
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    slug = models.CharField(
        max_length=40,
        unique=True,
        validators=[SLUG],
        help_text="Part of this provider's addresses, e.g. okta.",
    )
    name = models.CharField(
        max_length=80, help_text="As people know it; shown on the sign-in button."
    )
    protocol = models.CharField(max_length=4, choices=Protocol.choices)
    enabled = models.BooleanField(
        default=False, help_text="Off: nobody signs in through it and its groups count for nothing."
    )
    position = models.PositiveSmallIntegerField(default=0, help_text="Order of the buttons.")

    # SAML 2.0
    metadata_url = models.CharField(blank=True, max_length=500)
    metadata_xml = models.TextField(blank=True)
    entity_id = models.CharField(max_length=1024, blank=True)
    sso_url = models.CharField(max_length=1024, blank=True)
    slo_url = models.CharField(max_length=1024, blank=True)
    certificates = models.JSONField(
        default=list, blank=True, help_text="PEM certificates that sign for this provider."
    )
    response_signed = models.BooleanField(
        "Response must be signed",
        default=True,
        help_text="The assertion always has to be. Switch off only for a provider that cannot sign the whole "
        "response as well.",
    )

    encryption = models.CharField(
        "Assertion encryption",
        max_length=8,
        choices=Encryption.choices,
        default=Encryption.REFUSED,
        help_text="With AES-GCM and RSA-OAEP only. Daypass shows an encryption certificate only where it is wanted.",
    )
    idp_initiated = models.BooleanField(
        "Sign-in may begin at the provider",
        default=False,
        help_text="Whoever can make a browser post an answer can then begin a sign-in. People confirm who they are.",
    )
    metadata_signers = models.JSONField(
        default=list, blank=True, help_text="PEM certificates that sign this provider's metadata."
    )
    metadata_valid_until = models.DateTimeField(null=True, blank=True, editable=False)
    metadata_valid_since = models.DateTimeField(null=True, blank=True, editable=False)

    # OpenID Connect
    issuer = models.CharField(max_length=1024, blank=True)
    client_id = models.CharField(max_length=255, blank=True)
    client_secret_sealed = models.TextField(blank=True)
    scopes = models.JSONField(default=list, blank=True)
    id_token_algorithm = models.CharField(
        max_length=10, default="RS256", choices=[("RS256", "RS256"), ("ES256", "ES256")]
    )
    groups_from_userinfo = models.BooleanField(default=False)
    discovery = models.JSONField(default=dict, blank=True, editable=False)
    jwks = models.JSONField(default=dict, blank=True, editable=False)

    # Both
    pinning = models.CharField(
        "New keys are believed by",
        max_length=8,
        choices=Pinning.choices,
        default=Pinning.APPROVE,
    )
    claim_map = models.JSONField(default=dict, blank=True)
    refreshed_at = models.DateTimeField(null=True, blank=True, editable=False)
    refresh_problem = models.CharField(max_length=500, blank=True, editable=False)
    refresh_failures = models.PositiveSmallIntegerField(default=0, editable=False)
    refresh_due_at = models.DateTimeField(null=True, blank=True, editable=False)
    refresh_asked_at = models.DateTimeField(null=True, blank=True, editable=False)
    certificate_expires_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering: ClassVar = ["position", "name"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["entity_id"],
                condition=Q(protocol="saml") & ~Q(entity_id=""),
                name="one_provider_per_entity_id",
            ),
            models.UniqueConstraint(
                fields=["issuer", "client_id"],
                condition=Q(protocol="oidc"),
                name="one_provider_per_issuer_and_client",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class ProviderProposal(models.Model):
    """What a refresh found new about a provider and an administrator has to look at before it is believed.

    The digest is over the content that was shown, so that what is accepted is what was seen.
    """

    class State(models.TextChoices):
        OPEN = "open", "waiting"
        ACCEPTED = "accepted", "accepted"
        DISMISSED = "dismissed", "dismissed"
        SUPERSEDED = "superseded", "overtaken by a later one"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    provider = models.ForeignKey(
        IdentityProvider, on_delete=models.CASCADE, related_name="proposals"
    )
    content = models.JSONField(default=dict, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    found_at = models.DateTimeField(default=timezone.now, editable=False)
    decided_at = models.DateTimeField(null=True, blank=True, editable=False)
    decided_by = models.ForeignKey(
        "accounts.Person", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        ordering: ClassVar = ["-found_at"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["provider"],
                condition=Q(state="open"),
                name="one_open_proposal_per_provider",
            ),
        ]

    def __str__(self) -> str:
        return f"news of {self.provider_id}"


class ServiceProviderKey(models.Model):
    """A key of Daypass as a SAML service provider: to sign requests, or to open what is encrypted for us. Sealed.

    A next key stands in our metadata before it is used; a retired one still opens what was encrypted for it.
    """

    class Purpose(models.TextChoices):
        SIGNING = "signing", "signing"
        DECRYPTION = "decryption", "decryption"

    class State(models.TextChoices):
        NEXT = "next", "next"
        ACTIVE = "active", "active"
        RETIRED = "retired", "retired"

    purpose = models.CharField(max_length=10, choices=Purpose.choices, default=Purpose.SIGNING)
    state = models.CharField(max_length=8, choices=State.choices, default=State.ACTIVE)
    private_sealed = models.TextField(editable=False)
    certificate = models.TextField(editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(editable=False)
    state_since = models.DateTimeField(default=timezone.now, editable=False)
    warned_days = models.PositiveSmallIntegerField(null=True, blank=True, editable=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["purpose", "state"],
                condition=Q(state__in=["next", "active"]),
                name="one_active_and_one_next_key_per_purpose",
            ),
        ]

    def __str__(self) -> str:
        return f"SAML service provider key of {self.created_at:%Y-%m-%d}"


class PersonManager(BaseUserManager["Person"]):
    def get_by_natural_key(self, username: str | None) -> Person:
        return self.get(handle=username)

    def create_superuser(self, handle: str, password: str | None = None, **fields: Any) -> Person:
        """The break-glass account: a local password, a second factor at first sign-in, no way to any AWS role."""
        person = self.model(handle=handle, is_staff=True, is_superuser=True, **fields)
        person.set_password(password)
        person.save(using=self._db)
        return person


class Person(AbstractBaseUser, PermissionsMixin):
    """Somebody whom an identity provider vouched for, or the local break-glass account. Never deleted: switched off."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    handle = models.CharField(max_length=32, unique=True, editable=False)
    name = models.CharField(max_length=200, blank=True)
    email = models.EmailField(blank=True, db_index=True)
    attributes = models.JSONField(
        default=dict, blank=True, help_text="Person attributes: name -> list of values."
    )
    provider = models.ForeignKey(
        IdentityProvider, null=True, blank=True, on_delete=models.PROTECT, related_name="people"
    )
    subject = models.CharField(max_length=255, blank=True, editable=False)
    is_active = models.BooleanField("active", default=True)
    is_staff = models.BooleanField("may use the admin", default=False)
    staff_from_group = models.BooleanField(default=False, editable=False)
    epoch = models.PositiveIntegerField(default=1, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    signed_in_at = models.DateTimeField(null=True, blank=True, editable=False)

    USERNAME_FIELD = "handle"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects = PersonManager()

    class Meta:
        verbose_name_plural = "people"
        ordering: ClassVar = ["handle"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["provider", "subject"],
                condition=Q(provider__isnull=False),
                name="one_person_per_subject",
            ),
            models.CheckConstraint(
                condition=Q(provider__isnull=True, subject="")
                | (Q(provider__isnull=False) & ~Q(subject="")),
                name="person_has_provider_and_subject_or_neither",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.handle})" if self.name else self.handle

    def get_full_name(self) -> str:
        return self.name or self.handle

    def get_short_name(self) -> str:
        return self.name or self.handle


class Handle(models.Model):
    """Every handle that was ever given out, so that none is given to a second person, even if the first is gone."""

    value = models.CharField(primary_key=True, max_length=32)
    person = models.ForeignKey(Person, null=True, on_delete=models.SET_NULL, related_name="+")
    given_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.value


class DirectoryGroup(models.Model):
    """One group of one provider, by the immutable id (or exact name) that arrives in its claims."""

    provider = models.ForeignKey(IdentityProvider, on_delete=models.PROTECT, related_name="groups")
    key = models.CharField(
        max_length=512, help_text="Exactly as it arrives: no trimming, no case folding."
    )
    name = models.CharField(
        max_length=200, blank=True, help_text="For people to read; the decision never looks at it."
    )
    confers_staff = models.BooleanField(default=False, help_text="Members may use the admin.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering: ClassVar = ["provider", "name", "key"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["provider", "key"], name="one_group_per_provider_and_key"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name or self.key} ({self.provider.name})"


class Membership(models.Model):
    """A person in a group: told by a sign-in (grows stale) or kept current by SCIM."""

    class Source(models.TextChoices):
        SIGN_IN = "sign_in", "sign-in"
        SCIM = "scim", "SCIM"

    person = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="memberships")
    group = models.ForeignKey(DirectoryGroup, on_delete=models.CASCADE, related_name="memberships")
    source = models.CharField(max_length=8, choices=Source.choices, default=Source.SIGN_IN)
    confirmed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["person", "group"], name="one_membership_per_person_and_group"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.person_id} in {self.group_id}"


class ConsumedMessage(models.Model):
    """One-use state: the id of a SAML assertion or the like that was accepted, until it would be too old anyway."""

    provider = models.ForeignKey(IdentityProvider, on_delete=models.CASCADE, related_name="+")
    digest = models.CharField(max_length=64, help_text="SHA-256 of the message's kind and id.")
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["provider", "digest"], name="message_is_consumed_once"),
        ]

    def __str__(self) -> str:
        return self.digest


class ProviderSession(models.Model):
    """A browser session and what its provider calls it, so that the provider's word ends it wherever it is.

    Digests are SHA-256 of the NameID or `sub`, and of the SessionIndex or `sid`, in hexadecimal; "" for none.
    """

    provider = models.ForeignKey(IdentityProvider, on_delete=models.CASCADE, related_name="+")
    person = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="+")
    session_key = models.CharField(max_length=40, unique=True)
    subject_digest = models.CharField(max_length=64, blank=True)
    index_digest = models.CharField(max_length=64, blank=True)
    line = models.CharField(max_length=32, blank=True)
    began_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["provider", "subject_digest"], name="session_by_subject"),
            models.Index(fields=["provider", "index_digest"], name="session_by_index"),
        ]

    def __str__(self) -> str:
        return f"session of {self.person_id}"


class RelayedToken(models.Model):
    """The ID token of a browser session's sign-in, for AWS roles that trust the provider itself. Sealed, short-lived.

    It goes with the session: whatever ends that ends this. The reference is what the rest of Daypass knows the session
    by (`accounts.services.relay_reference`).
    """

    session = models.OneToOneField(ProviderSession, on_delete=models.CASCADE, related_name="+")
    reference = models.CharField(max_length=64, unique=True)
    sealed = models.TextField()
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"relayed token of session {self.session_id}"


class RelayApplication(models.Model):
    """The application for AWS that a company has at its identity provider, whose assertions are passed on there.

    It is the same directory of the same people as the provider they sign in with, and mostly has an entity id and a
    certificate of its own. A `subject_attribute` of "" means the NameID.
    """

    provider = models.OneToOneField(
        IdentityProvider, on_delete=models.CASCADE, related_name="relay_application"
    )
    partition = models.CharField(max_length=12, default="aws")
    entity_id = models.CharField(max_length=1024)
    certificates = models.JSONField(default=list)
    start_url = models.CharField(max_length=1024)
    subject_attribute = models.CharField(max_length=512, blank=True)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = "AWS application"

    def __str__(self) -> str:
        return f"AWS application of {self.provider.name}"


class RelayedAssertion(models.Model):
    """What an AWS application said of the person of a browser session: sealed, for minutes. As RelayedToken otherwise.

    roles: pairs of role ARN and SAML provider ARN, as its Role attribute lists them.
    """

    session = models.OneToOneField(ProviderSession, on_delete=models.CASCADE, related_name="+")
    reference = models.CharField(max_length=64, unique=True)
    sealed = models.TextField()
    roles = models.JSONField(default=list)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"relayed assertion of session {self.session_id}"


class SignInTest(models.Model):
    """A test sign-in: what arrived from the provider and what it became. Grants nothing; kept for an hour."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    provider = models.ForeignKey(IdentityProvider, on_delete=models.CASCADE, related_name="tests")
    started_by = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="+")
    started_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)
    arrived = models.JSONField(default=dict)
    became = models.JSONField(default=dict)
    checks = models.JSONField(default=list)
    problem = models.CharField(max_length=500, blank=True)

    def __str__(self) -> str:
        return f"test sign-in at {self.provider_id}"
