"""Administration of rights: register accounts and roles, map groups to roles, deny. The only writer of this stage.

Every verb checks its draft, writes, and records who changed what from what to what, in one transaction. What is wrong
comes back as FieldErrors, a sentence a field; what cannot be done at all as BadInput.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from collections.abc import Mapping as MappingOf
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any, TypeVar, assert_never
from uuid import UUID

from django.db import IntegrityError, models, transaction
from django.db.models.deletion import ProtectedError
from django.utils import timezone

from accounts.models import (
    DirectoryGroup,
    IdentityProvider,
    Membership,
    Person,
    Protocol,
    RelayApplication,
)
from broker.arns import RoleArn
from broker.audit.rules import Kind
from broker.audit.services import Actor, Subject, record
from broker.entitlements.drafts import (
    AccountDraft,
    DenyDraft,
    EnvironmentDraft,
    FieldErrors,
    MappingDraft,
    RoleDraft,
    check_account,
    check_deny,
    check_environment,
    check_mapping,
    check_role,
    narrowed,
    problem_of_policy_arns,
)
from broker.entitlements.models import (
    AwsAccount,
    AwsRole,
    Deny,
    Environment,
    Mapping,
    MappingRole,
)
from broker.errors import BadInput

Row = TypeVar("Row", Environment, AwsAccount, AwsRole, Mapping, Deny)
Switchable = AwsAccount | AwsRole | Mapping | Deny

_NAMES: dict[type[models.Model], str] = {
    Environment: "environment",
    AwsAccount: "account",
    AwsRole: "role",
    Mapping: "mapping",
    Deny: "deny",
}


# --- environments


def create_environment(draft: EnvironmentDraft, *, actor: Actor, address: str = "") -> Environment:
    """A kind of account. Raises FieldErrors."""
    draft = check_environment(draft)
    with _writing("name", "There is an environment of this name already."):
        if Environment.objects.filter(name=draft.name).exists():
            raise FieldErrors({"name": "There is an environment of this name already."})
        made = Environment.objects.create(**asdict(draft))
        _record_created(made, actor, address)
    return made


def update_environment(
    environment: int, draft: EnvironmentDraft, *, actor: Actor, address: str = ""
) -> Environment:
    """Raises FieldErrors, or BadInput when it is gone."""
    draft = check_environment(draft)
    with _writing("name", "There is an environment of this name already."):
        row = _locked(Environment, environment)
        if Environment.objects.filter(name=draft.name).exclude(pk=row.pk).exists():
            raise FieldErrors({"name": "There is an environment of this name already."})
        _change(row, asdict(draft), actor, address)
    return row


# --- accounts


def register_account(draft: AccountDraft, *, actor: Actor, address: str = "") -> AwsAccount:
    """An AWS account that people may be let into. Raises FieldErrors."""
    draft = check_account(draft)
    with _writing("account_id", "This account is registered already."):
        _check_account_in_place(draft)
        made = AwsAccount.objects.create(**_account_fields(draft))
        _record_created(made, actor, address)
    return made


def update_account(
    account: int, draft: AccountDraft, *, actor: Actor, address: str = ""
) -> AwsAccount:
    """Its id and partition stay as long as it has roles, whose ARNs contain them. Raises FieldErrors, BadInput."""
    draft = check_account(draft)
    with _writing("account_id", "This account is registered already."):
        row = _locked(AwsAccount, account)
        _check_account_in_place(draft, row)
        more = draft.enabled and not row.enabled
        raises = more and _reaches(actor, MappingRole.objects.filter(role__account=row))
        _change(row, _account_fields(draft), actor, address, raises_own_rights=raises)
    return row


def _account_fields(draft: AccountDraft) -> dict[str, Any]:
    fields = asdict(draft)
    fields["environment_id"] = fields.pop("environment")
    return fields


def _check_account_in_place(draft: AccountDraft, row: AwsAccount | None = None) -> None:
    errors = {}
    others = AwsAccount.objects.exclude(pk=row.pk) if row else AwsAccount.objects.all()
    if others.filter(account_id=draft.account_id).exists():
        errors["account_id"] = "This account is registered already."
    if draft.alias and others.filter(alias=draft.alias).exists():
        errors["alias"] = "Another account has this alias; an alias belongs to one account."
    if (
        draft.environment is not None
        and not Environment.objects.filter(pk=draft.environment).exists()
    ):
        errors["environment"] = "This environment does not exist any more."
    if row is not None and row.roles.exists():
        for field in ("account_id", "partition"):
            if getattr(row, field) != getattr(draft, field):
                errors[field] = "It is part of the ARNs of this account's roles and has to stay."
    if errors:
        raise FieldErrors(errors)


# --- roles


def register_role(
    draft: RoleDraft, *, actor: Actor, address: str = "", account_name: str | None = None
) -> AwsRole:
    """A role by its ARN. With account_name, its account is registered as well when it is not known yet.

    Raises FieldErrors.
    """
    draft, arn = check_role(draft)
    with _writing("arn", "This role is registered already."):
        account = AwsAccount.objects.filter(account_id=arn.account_id).first()
        if account is None and account_name is not None:
            account = register_account(
                AccountDraft(account_id=arn.account_id, name=account_name, partition=arn.partition),
                actor=actor,
                address=address,
            )
        if account is None:
            raise FieldErrors(
                {"arn": f"The account {arn.account_id} is not registered; register it first."}
            )
        if account.partition != arn.partition:
            raise FieldErrors(
                {"arn": f"The account {arn.account_id} is in the partition {account.partition}."}
            )
        if AwsRole.objects.filter(account=account, name=arn.name).exists():
            raise FieldErrors({"arn": "This account has a role of this name already."})
        _check_role_in_place(draft)
        made = AwsRole.objects.create(
            account=account, name=arn.name, path=arn.path, **asdict(draft)
        )
        _record_created(made, actor, address)
    return made


def update_role(role: UUID, draft: RoleDraft, *, actor: Actor, address: str = "") -> AwsRole:
    """Everything but its ARN, by which sessions and the audit know it. Raises FieldErrors, BadInput."""
    draft, _ = check_role(draft)
    with _writing("arn", "This role is registered already."):
        row = _locked(AwsRole, role)
        if row.arn != draft.arn:
            raise FieldErrors(
                {"arn": "A role keeps its ARN. Register the other one and switch this one off."}
            )
        _check_role_in_place(draft)
        more = draft.enabled and (not row.enabled or draft.max_seconds > row.max_seconds)
        raises = more and _reaches(actor, MappingRole.objects.filter(role=row))
        _change(row, asdict(draft), actor, address, raises_own_rights=raises)
    return row


def _check_role_in_place(draft: RoleDraft) -> None:
    relayed = draft.relay_provider_id
    if relayed is None:
        return
    if draft.trust == "relayed_assertion":
        if not RelayApplication.objects.filter(provider_id=relayed).exists():
            raise FieldErrors(
                {"relay_provider_id": "This provider's application for AWS is not connected yet."}
            )
    elif not IdentityProvider.objects.filter(pk=relayed, protocol=Protocol.OIDC).exists():
        raise FieldErrors(
            {"relay_provider_id": "Only an OpenID Connect provider gives ID tokens; choose one."}
        )


# --- mappings


def create_mapping(
    draft: MappingDraft, *, actor: Actor, address: str = "", now: datetime | None = None
) -> Mapping:
    """Members of a group may use some roles, within limits. Raises FieldErrors."""
    draft = check_mapping(draft)
    if draft.valid_until is not None and draft.valid_until <= (now or timezone.now()):
        raise FieldErrors({"valid_until": "This moment has passed; nobody would get anything."})
    with _writing("group", "This group does not exist any more."):
        _check_mapping_in_place(draft)
        made = Mapping.objects.create(**_mapping_fields(draft))
        _link(made, draft.roles)
        _record_created(
            made,
            actor,
            address,
            roles=_arns_of(made),
            raises_own_rights=draft.enabled and _is_member(actor, draft.group),
        )
    return made


def update_mapping(
    mapping: UUID,
    draft: MappingDraft,
    *,
    actor: Actor,
    address: str = "",
    seen_at: datetime | None = None,
) -> Mapping:
    """seen_at: the `updated_at` that the administrator saw; somebody else's change since then is not overwritten.

    Raises FieldErrors, or BadInput when it is gone or was changed meanwhile.
    """
    draft = check_mapping(draft)
    with _writing("group", "This group does not exist any more."):
        row = _locked(Mapping, mapping)
        if seen_at is not None and row.updated_at != seen_at:
            raise BadInput(
                "Somebody else changed this mapping meanwhile. Open it anew to see how it stands, then make your "
                "change again.",
                code="changed_meanwhile",
            )
        _check_mapping_in_place(draft)
        roles_before = _arns_of(row)
        _link(row, draft.roles)
        _change(
            row,
            _mapping_fields(draft),
            actor,
            address,
            roles=(roles_before, _arns_of(row)),
            raises_own_rights=draft.enabled and _is_member(actor, draft.group),
        )
        _refresh_links(row)
    return row


def _mapping_fields(draft: MappingDraft) -> dict[str, Any]:
    fields = asdict(draft)
    del fields["roles"]
    fields["group_id"] = fields.pop("group")
    fields["networks"] = list(draft.networks)
    fields["policy_arns"] = list(draft.policy_arns)
    fields["session_tags"] = dict(draft.session_tags)
    fields["transitive_tag_keys"] = list(draft.transitive_tag_keys)
    return fields


def _check_mapping_in_place(draft: MappingDraft) -> None:
    errors = {}
    if not DirectoryGroup.objects.filter(pk=draft.group).exists():
        errors["group"] = "This group does not exist any more."
    found = list(AwsRole.objects.filter(pk__in=draft.roles).select_related("account"))
    for role in found:
        if role.trust == AwsRole.Trust.FEDERATION_TOKEN and not narrowed(draft):
            errors["session_policy"] = (
                f"{role} is a federation token, which Daypass never gives without a session policy. "
                "Write one here, or name managed policies that narrow."
            )
    roles: list[RoleArn] = [role.role_arn for role in found]
    if len(roles) < len(draft.roles):
        errors["roles"] = "One of these roles does not exist any more."
    problem = problem_of_policy_arns(draft.policy_arns, roles)
    if problem:
        errors["policy_arns"] = problem
    if errors:
        raise FieldErrors(errors)


def _link(mapping: Mapping, roles: tuple[UUID, ...]) -> None:
    """The mapping's links name exactly these roles."""
    links = MappingRole.objects.filter(mapping=mapping)
    links.exclude(role_id__in=roles).delete()
    there = set(links.values_list("role_id", flat=True))
    MappingRole.objects.bulk_create(
        MappingRole(
            mapping=mapping,
            role_id=role,
            group_id=mapping.group_id,
            enabled=mapping.enabled,
            valid_until=mapping.valid_until,
        )
        for role in roles
        if role not in there
    )


def _refresh_links(mapping: Mapping) -> None:
    """The copies beside each link say what the mapping says."""
    MappingRole.objects.filter(mapping=mapping).update(
        group_id=mapping.group_id, enabled=mapping.enabled, valid_until=mapping.valid_until
    )


def _arns_of(mapping: Mapping) -> list[str]:
    links = MappingRole.objects.filter(mapping=mapping)
    return list(links.order_by("role__arn").values_list("role__arn", flat=True))


# --- denies


def create_deny(draft: DenyDraft, *, actor: Actor, address: str = "") -> Deny:
    """Somebody may not use something, whatever mappings say. Raises FieldErrors."""
    draft = check_deny(draft)
    with _writing("reason", "What this deny names does not exist any more."):
        _check_deny_in_place(draft)
        made = Deny.objects.create(**_deny_fields(draft))
        _record_created(made, actor, address, raises_own_rights=False)
    return made


def update_deny(deny: UUID, draft: DenyDraft, *, actor: Actor, address: str = "") -> Deny:
    """Raises FieldErrors, or BadInput when it is gone."""
    draft = check_deny(draft)
    with _writing("reason", "What this deny names does not exist any more."):
        row = _locked(Deny, deny)
        _check_deny_in_place(draft)
        concerned = _is_denied(actor, row)
        _change(row, _deny_fields(draft), actor, address, raises_own_rights=concerned)
    return row


def _deny_fields(draft: DenyDraft) -> dict[str, Any]:
    return {
        "reason": draft.reason,
        "group_id": draft.group,
        "person_id": draft.person,
        "role_id": draft.role,
        "account_id": draft.account,
        "enabled": draft.enabled,
        "valid_until": draft.valid_until,
    }


def _check_deny_in_place(draft: DenyDraft) -> None:
    named: tuple[tuple[str, type[models.Model], object], ...] = (
        ("group", DirectoryGroup, draft.group),
        ("person", Person, draft.person),
        ("role", AwsRole, draft.role),
        ("account", AwsAccount, draft.account),
    )
    errors = {
        field: f"This {field} does not exist any more."
        for field, model, key in named
        if key is not None and not model._default_manager.filter(pk=key).exists()
    }
    if errors:
        raise FieldErrors(errors)


# --- on, off, gone


def switch(row: Switchable, enabled: bool, *, actor: Actor, address: str = "") -> bool:
    """Switch an account, a role, a mapping or a deny on or off. False: somebody did so before."""
    with transaction.atomic():
        key: Any = row.pk
        moved = {"updated_at": timezone.now()} if isinstance(row, Mapping) else {}
        changed = (
            type(row)
            ._default_manager.filter(pk=key, enabled=not enabled)
            .update(enabled=enabled, **moved)
        )
        if changed != 1:
            return False
        row.refresh_from_db()
        if isinstance(row, Mapping):
            _refresh_links(row)
        _record(
            row,
            "switched on" if enabled else "switched off",
            actor,
            address,
            before={"enabled": not enabled},
            after={"enabled": enabled},
            raises_own_rights=_raises_by_switch(row, enabled, actor),
        )
    return True


def _raises_by_switch(row: Switchable, enabled: bool, actor: Actor) -> bool:
    match row:
        case Mapping():
            return enabled and _is_member(actor, row.group_id)
        case Deny():
            return not enabled and _is_denied(actor, row)
        case AwsAccount():
            return enabled and _reaches(actor, MappingRole.objects.filter(role__account=row))
        case AwsRole():
            return enabled and _reaches(actor, MappingRole.objects.filter(role=row))
        case _:
            assert_never(row)


def delete(row: Row, *, actor: Actor, address: str = "") -> None:
    """For good, with what it said kept in the audit. Raises BadInput when something still depends on it."""
    with transaction.atomic():
        kept = _locked(type(row), row.pk)
        before = _said(kept)
        raises = False
        if isinstance(kept, Mapping):
            before["roles"] = _arns_of(kept)
        if isinstance(kept, Deny):
            raises = kept.enabled and _is_denied(actor, kept)
        subject, label = _subject(kept), _label(kept)
        if isinstance(kept, AwsRole) and kept.links.exists():
            raise BadInput(
                "Mappings still give this role. Take it out of them, or switch the role off.",
                code="in_use",
            )
        try:
            with transaction.atomic():
                kept.delete()
        except (ProtectedError, IntegrityError):
            if isinstance(kept, Environment):
                raise BadInput(
                    "Accounts still use this environment. Move them to another one first.",
                    code="in_use",
                ) from None
            raise BadInput(
                f"Other things still refer to this {_NAMES[type(kept)]}. Switch it off instead, so that "
                "what happened with it stays readable.",
                code="in_use",
            ) from None
        record(
            Kind.ADMIN_CHANGED,
            actor=actor,
            subject=subject,
            data={
                "label": label,
                "action": "deleted",
                "before": before,
                "after": {},
                "raises_own_rights": raises,
            },
            address=address,
        )


# --- what they share


@contextmanager
def _writing(field: str, sentence: str) -> Iterator[None]:
    """One transaction; a constraint that somebody else's write was quicker to claim becomes a sentence at a field."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        raise FieldErrors({field: sentence}) from error


def _locked(model: type[Row], key: Any) -> Row:
    row = model._default_manager.select_for_update().filter(pk=key).first()
    if row is None:
        raise BadInput(f"This {_NAMES[model]} does not exist any more.", code="gone")
    return row


def _change(
    row: Switchable | Environment,
    fields: MappingOf[str, Any],
    actor: Actor,
    address: str,
    *,
    roles: tuple[list[str], list[str]] | None = None,
    raises_own_rights: bool = False,
) -> None:
    """Write what differs and record it; nothing differs, nothing is written."""
    before = _said(row)
    for name, value in fields.items():
        setattr(row, name, value)
    after = _said(row)
    if roles is not None:
        before["roles"], after["roles"] = roles
    differing = [name for name in after if before[name] != after[name]]
    if not differing:
        return
    row.save()
    _record(
        row,
        "changed",
        actor,
        address,
        before={name: before[name] for name in differing},
        after={name: after[name] for name in differing},
        raises_own_rights=raises_own_rights,
    )


def _record_created(
    row: Switchable | Environment,
    actor: Actor,
    address: str,
    *,
    roles: list[str] | None = None,
    raises_own_rights: bool = False,
) -> None:
    after = _said(row)
    if roles is not None:
        after["roles"] = roles
    _record(
        row,
        "created",
        actor,
        address,
        before={},
        after=after,
        raises_own_rights=raises_own_rights,
    )


def _record(
    row: Switchable | Environment,
    action: str,
    actor: Actor,
    address: str,
    *,
    before: MappingOf[str, Any],
    after: MappingOf[str, Any],
    raises_own_rights: bool,
) -> None:
    record(
        Kind.ADMIN_CHANGED,
        actor=actor,
        subject=_subject(row),
        data={
            "label": _label(row),
            "action": action,
            "before": before,
            "after": after,
            "raises_own_rights": raises_own_rights,
        },
        address=address,
    )


def _label(row: models.Model) -> str:
    return row.who_gets_what() if isinstance(row, Mapping) else str(row)


def _subject(row: models.Model) -> Subject:
    return Subject(_NAMES[type(row)], str(row.pk))


_UNSAID = {"id", "created_at", "updated_at"}


def _said(row: models.Model) -> dict[str, Any]:
    """What a row says, as the audit keeps it."""
    said: dict[str, Any] = {}
    for field in row._meta.concrete_fields:
        if field.name in _UNSAID:
            continue
        value = getattr(row, field.attname)
        if field.name == "external_id":
            value = _marked(value)
        elif isinstance(value, dict):
            # As values, not as names: whoever names a tag after a secret is not refused by the log.
            value = sorted(f"{key} = {attribute}" for key, attribute in value.items())
        elif isinstance(value, datetime):
            value = value.isoformat()
        elif isinstance(value, UUID):
            value = str(value)
        said[field.name] = value
    return said


def _marked(value: str) -> str:
    """An external id is no secret to AWS, but nobody needs it in the log: only whether and when it changed."""
    return f"set ({hashlib.sha256(value.encode()).hexdigest()[:12]})" if value else ""


# --- who raises their own rights: noted in the audit for those who look for it


def _person_of(actor: Actor) -> UUID | None:
    try:
        return UUID(actor.id)
    except ValueError:
        return None


def _is_member(actor: Actor, group: int) -> bool:
    person = _person_of(actor)
    return (
        person is not None and Membership.objects.filter(person_id=person, group_id=group).exists()
    )


def _is_denied(actor: Actor, deny: Deny) -> bool:
    if deny.group_id is not None:
        return _is_member(actor, deny.group_id)
    return deny.person_id == _person_of(actor)


def _reaches(actor: Actor, links: models.QuerySet[MappingRole]) -> bool:
    person = _person_of(actor)
    return person is not None and links.filter(group__memberships__person_id=person).exists()
