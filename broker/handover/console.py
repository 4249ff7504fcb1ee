"""Opening the console: a link from the federation endpoint, or a form with which the browser signs in by itself.

Both are bearer secrets for some minutes. They are made after they were recorded, given to one response, and kept
nowhere; their `repr` is masked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.views.decorators.debug import sensitive_variables

from accounts.identity import Principal
from broker.arns import PARTITIONS, safe_console_destination
from broker.assume import services as assume
from broker.assume.services import Issued, OpenSession
from broker.audit.rules import Kind
from broker.audit.services import Actor, Entry, Subject, record
from broker.aws import signin
from broker.aws.credentials import Credentials
from broker.entitlements.rules import Ask, Refused, RoleFacts
from broker.errors import AwsError, BadInput


@dataclass(frozen=True, slots=True)
class ConsoleLink:
    """Where the browser is redirected to. For one `303` with no-store and no-referrer; never rendered or kept."""

    session_id: UUID
    role: RoleFacts
    expires_at: datetime
    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SamlForm:
    """What the browser posts to AWS: hidden fields by name, for a form that submits itself."""

    session_id: UUID
    role: RoleFacts
    expires_at: datetime
    action: str
    fields: dict[str, str] = field(repr=False)


@sensitive_variables()
def open_console(
    principal: Principal,
    ask: Ask,
    *,
    destination: str = "",
    now: datetime,
    client: str = "",
) -> ConsoleLink | SamlForm | Refused:
    """Open the AWS console in a role, on `destination` ("": the console's front page in the account's region).

    Raises BadInput for a destination that is not a console page of the role's partition, AwsError and its kin.
    """
    if ask.hand_over != "console":
        raise ValueError("the console is opened for an ask with hand_over console")
    if destination:
        _some_console_page(destination)
    opened = assume.begin(principal, ask, now, client=client)
    if isinstance(opened, Refused):
        return opened
    role = opened.plan.role
    partition = PARTITIONS[role.partition]
    try:
        landing = (
            safe_console_destination(partition, destination)
            if destination
            else partition.console_url(role.region)
        )
    except BadInput as error:
        assume.abandon(opened, error)
        raise
    if role.console == "saml_form":
        return _form(opened, landing)
    return _link(opened, landing)


@sensitive_variables()
def try_console(
    credentials: Credentials,
    *,
    partition: str,
    region: str,
    second_region: str,
    role_arn: str,
    seconds: int,
) -> None:
    """See whether the sign-in service takes these credentials, which allow nothing; its token is thrown away here.

    seconds: as `console_seconds` takes them, 0 to send none. Raises AwsError, AwsUnavailable.
    """
    signin.signin_token(
        credentials.reveal(),
        partition=PARTITIONS[partition],
        region=region,
        role_arn=role_arn,
        seconds=seconds or None,
        second_region=second_region,
    )


@sensitive_variables()
def _link(opened: OpenSession, landing: str) -> ConsoleLink | Refused:
    issued = assume.obtain(opened, also=[_handing_over(opened, "link", landing)])
    if isinstance(issued, Refused):
        return issued
    role = issued.role
    try:
        token = signin.signin_token(
            issued.credentials.reveal(),
            partition=PARTITIONS[role.partition],
            region=role.region,
            role_arn=role.arn,
            seconds=signin.console_seconds(
                issued.seconds, role_max=role.max_seconds, chained=issued.chained
            ),
            second_region=role.second_region,
        )
    except AwsError as error:
        _failed(opened, issued, error)
        raise
    return ConsoleLink(
        issued.session_id, role, issued.expires_at, signin.login_url(token, destination=landing)
    )


@sensitive_variables()
def _form(opened: OpenSession, landing: str) -> SamlForm | Refused:
    planned = opened.plan.role
    door = signin.saml_door(PARTITIONS[planned.partition], planned.region, planned.second_region)
    vouched = assume.vouch(
        opened, recipient=door.recipient, also=[_handing_over(opened, "saml_form", landing)]
    )
    if isinstance(vouched, Refused):
        return vouched
    role = vouched.role
    return SamlForm(
        vouched.session_id,
        role,
        vouched.expires_at,
        door.action,
        {"SAMLResponse": vouched.response.reveal(), "RelayState": landing},
    )


def _some_console_page(destination: str) -> None:
    """Refuse what is no console page anywhere before anything is issued. Raises BadInput."""
    problem: BadInput | None = None
    for partition in PARTITIONS.values():
        try:
            safe_console_destination(partition, destination)
        except BadInput as error:
            problem = problem or error
        else:
            return
    assert problem is not None
    raise problem


def _handing_over(opened: OpenSession, way: str, landing: str) -> Entry:
    planned = opened.plan
    return Entry(
        Kind.HAND_OVER_CONSOLE,
        actor=Actor(id=str(opened.principal.person_id), name=opened.principal.handle),
        subject=Subject("session", str(opened.id)),
        data={
            "role": planned.role.arn,
            "session_name": planned.session_name,
            "way": way,
            "destination": landing.split("?")[0].split("#")[0],
        },
        address=opened.principal.address,
    )


def _failed(opened: OpenSession, issued: Issued, error: AwsError) -> None:
    with transaction.atomic():
        record(
            Kind.HAND_OVER_FAILED,
            actor=Actor(id=str(opened.principal.person_id), name=opened.principal.handle),
            subject=Subject("session", str(issued.session_id)),
            data={
                "role": issued.role.arn,
                "session_name": issued.session_name,
                "code": error.code,
                "aws_code": error.aws_code,
                "cause": error.cause,
            },
            address=opened.principal.address,
        )
