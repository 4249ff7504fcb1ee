"""Accounts to set up, plain and hostile, for all languages alike."""

from __future__ import annotations

from dataclasses import replace

from broker.trust.rules import RoleTrust
from broker.trust.setup import AccountSetUp, Discovery, Options, RoleToMake, managed_policy

NUMBER = "111122223333"
ISSUER = "https://daypass.example.com"
METADATA = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<md:EntityDescriptor '
    'xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" entityID="https://daypass.example.com/aws/saml/metadata">\n'
    "<!-- it's ${jndi:x} %{ if true } $(id) `id` \\ é -->" + " " * 1000 + "</md:EntityDescriptor>\n"
)
HOSTILE_PATH = "/a'b\"$(touch${IFS}pwned)`id`/${AWS::Region}%{if}\\!#*?[;|&<>]{}:,-/"
HOSTILE_WORDS = (
    "file:///etc/passwd \"'; rm -rf / # ${aws:username} %{ for } $(id) `id` \\\né\u2028✓"
)


def subject(name="Developer", trust="web_identity", number=NUMBER, partition="aws", **more):
    common = {"account_id": number, "partition": partition, "role_name": name, "trust": trust}
    match trust:
        case "web_identity":
            own = {"issuer": ISSUER, "audience": "sts.amazonaws.com"}
        case "saml":
            own = {"saml_provider_name": "Daypass"}
        case _:
            broker = f"arn:{partition}:iam::999988887777:role/Daypass"
            own = {"external_id": "acme-42", "broker_arn": broker}
    return RoleTrust(**(common | own | more))


def role(name="Developer", trust="web_identity", number=NUMBER, partition="aws", **more):
    return RoleToMake(subject=subject(name, trust, number, partition), **more)


def discovery(number=NUMBER, partition="aws", **more):
    reader = replace(subject("DaypassDiscovery", number=number, partition=partition), caller="task")
    return Discovery(role=RoleToMake(subject=reader), **more)


def account(*roles, number=NUMBER, partition="aws", discovery=None):
    return AccountSetUp(
        account_id=number,
        partition=partition,
        roles=roles or (role(number=number, partition=partition),),
        discovery=discovery,
    )


PLAIN = account()
EVERY_WAY = account(
    role("Developer", max_seconds=28800, description="Deploy and debug."),
    role("Auditor", "saml"),
    role("Machine", "assume_role"),
    discovery=discovery(organisation=True, saml_provider="Daypass"),
)
HOSTILE = account(
    role("a+=,.@-b_", path=HOSTILE_PATH, description=HOSTILE_WORDS),
    role("a.b", "saml", description="-x"),
    role("ab", path="/--cli-input-json/", description="file:///etc/passwd"),
    role("yes"),
    role("1e3"),
)
ELSEWHERE = {
    partition: account(
        role("Developer", partition=partition),
        role("Auditor", "saml", partition=partition),
        partition=partition,
        discovery=discovery(partition=partition),
    )
    for partition in ("aws-us-gov", "aws-cn", "aws-eusc")
}
ACCOUNTS = {"plain": PLAIN, "every way": EVERY_WAY, "hostile": HOSTILE, **ELSEWHERE}

CHOSEN = Options(
    boundary=managed_policy(f"arn:aws:iam::{NUMBER}:policy/teams/Boundary"),
    policies=(managed_policy("arn:aws:iam::aws:policy/ReadOnlyAccess"),),
    saml_metadata=METADATA,
)
PRESENT = Options(make_providers=False, saml_metadata=METADATA)
FRESH = Options(saml_metadata=METADATA)
OPTIONS = {"fresh": FRESH, "chosen": CHOSEN, "present": PRESENT}


def several():
    """Three accounts of one organisation, each with something of its own."""
    one = account(role("Developer", number="111111111111"), number="111111111111")
    two = account(
        role("Developer", number="222222222222"),
        role("Auditor", "saml", number="222222222222"),
        number="222222222222",
        discovery=discovery("222222222222", organisation=True),
    )
    three = account(
        role("Developer", number="333333333333", max_seconds=43200),
        number="333333333333",
        discovery=discovery("333333333333"),
    )
    return [one, two, three]
