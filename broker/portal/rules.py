"""What the pages say and offer: words for times and lengths, rows and groups, the way out of a refusal. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from broker.arns import Partition
from broker.entitlements.rules import Allowed, Decision, NextStep, Refused, RoleFacts
from broker.errors import BadInput

_MINUTE = 60
_HOUR = 3600
_DAY = 86400


def duration_in_words(seconds: int) -> str:
    """A length of time as people say it: "15 min", "1 hour", "8 hours", "1 h 30 min". Rounded down to minutes."""
    if seconds < _MINUTE:
        return "less than a minute"
    hours, minutes = divmod(seconds // _MINUTE, 60)
    if not hours:
        return f"{minutes} min"
    if not minutes:
        return "1 hour" if hours == 1 else f"{hours} hours"
    return f"{hours} h {minutes} min"


def time_left(until: datetime, now: datetime) -> str:
    """How long something still lives: "52 min left", "3 h 5 min left", "ended". Never promises more than there is."""
    seconds = int((until - now).total_seconds())
    if seconds <= 0:
        return "ended"
    if seconds < _MINUTE:
        return "less than a minute left"
    hours, minutes = divmod(seconds // _MINUTE, 60)
    if not hours:
        return f"{minutes} min left"
    return f"{hours} h {minutes} min left" if minutes else f"{hours} h left"


def time_ago(moment: datetime, now: datetime) -> str:
    """How long ago something happened: "just now", "12 min ago", "3 h ago", "2 days ago"."""
    seconds = int((now - moment).total_seconds())
    if seconds < _MINUTE:
        return "just now"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min ago"
    if seconds < _DAY:
        return f"{seconds // _HOUR} h ago"
    days = seconds // _DAY
    return "yesterday" if days == 1 else f"{days} days ago"


def highlight(text: str, words: Sequence[str]) -> tuple[tuple[str, bool], ...]:
    """Cut `text` into pieces and say of each whether it matches a word, without regard to case.

    The pieces joined give `text` again; matches that touch or overlap become one piece.
    """
    wanted = [word for word in words if word]
    if not wanted or not text:
        return ((text, False),) if text else ()
    marked = bytearray(len(text))
    lowered = text.lower()
    if len(lowered) != len(text):  # a letter whose lower case is longer: positions would not agree
        return ((text, False),)
    for word in wanted:
        for match in re.finditer(re.escape(word.lower()), lowered):
            marked[match.start() : match.end()] = b"\x01" * (match.end() - match.start())
    pieces: list[tuple[str, bool]] = []
    start = 0
    for position in range(1, len(text) + 1):
        if position == len(text) or marked[position] != marked[start]:
            pieces.append((text[start:position], bool(marked[start])))
            start = position
    return tuple(pieces)


def duration_choices(longest_seconds: int) -> tuple[tuple[int, str], ...]:
    """The lengths worth offering up to the longest that is allowed, longest first, in words."""
    steps = [step * _MINUTE for step in (15, 30, 60, 120, 240, 480, 720)]
    offered = {step for step in steps if step < longest_seconds} | {longest_seconds}
    return tuple((seconds, duration_in_words(seconds)) for seconds in sorted(offered, reverse=True))


def day_of(moment: datetime, now: datetime) -> str:
    """The heading of a day in a list of the past: "Today", "Yesterday", "Thursday 20 November 2025"."""
    age = now.date() - moment.date()
    if age == timedelta(0):
        return "Today"
    if age == timedelta(days=1):
        return "Yesterday"
    return f"{moment:%A} {moment.day} {moment:%B %Y}"


_BROWSERS = (
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


_PROGRAMS = {
    "aws-cli": "AWS CLI",
    "boto3": "boto3",
    "botocore": "botocore",
    "aws-sdk-js": "AWS SDK for JavaScript",
    "aws-sdk-go-v2": "AWS SDK for Go",
    "aws-sdk-ruby3": "AWS SDK for Ruby",
    "aws-sdk-rust": "AWS SDK for Rust",
    "aws-sdk-java": "AWS SDK for Java",
    "aws-sdk-dotnet": "AWS SDK for .NET",
    "aws-sdk-php": "AWS SDK for PHP",
    "aws-sdk-cpp": "AWS SDK for C++",
    "aws-sdk-go": "AWS SDK for Go",
    "curl": "curl",
}
_PROGRAM = re.compile(r"([a-z0-9-]+)/([0-9][0-9a-z.]{0,15})", re.IGNORECASE)
_PROGRAM_ON = re.compile(r"(?:\bos/|\s)(linux|windows|macos|darwin)\b", re.IGNORECASE)


def _program_in_words(user_agent: str) -> str:
    """The AWS client and its version: "AWS CLI 2.38.1 on Linux"; "" when it is none."""
    found = _PROGRAM.match(user_agent)
    title = _PROGRAMS.get(found[1].lower(), "") if found else ""
    if not found or not title:
        return ""
    system = _PROGRAM_ON.search(user_agent)
    named = {"linux": "Linux", "windows": "Windows", "macos": "macOS", "darwin": "macOS"}
    on = f" on {named[system[1].lower()]}" if system else ""
    return f"{title} {found[2]}{on}"


def client_in_words(user_agent: str) -> str:
    """Which browser on which system, as far as the User-Agent tells: "Firefox on Windows". Only ever a hint.

    Of AWS's own clients also the version: "AWS CLI 2.38.1 on Linux".
    """
    program = _program_in_words(user_agent)
    if program:
        return program
    browser = next((name for sign, name in _BROWSERS if sign in user_agent), "")
    system = next((name for sign, name in _SYSTEMS if sign in user_agent), "")
    if browser and system:
        return f"{browser} on {system}"
    return browser or system or "".join(c for c in user_agent[:60] if c.isprintable())


# ---- The way out of a refusal


@dataclass(frozen=True, slots=True)
class WayOut:
    """What a refused person can do next.

    kind: which button the page shows; "none" when a sentence is all there is. sentence: what to do, in plain words.
    """

    kind: Literal["sign_in", "provider", "console", "keys", "again", "ask", "none"]
    label: str
    sentence: str


def way_out(refused: Refused, hand_over: Literal["console", "keys"]) -> WayOut:
    """The button and the sentence that go with a refusal."""
    match refused.next_step:
        case NextStep.SIGN_IN_AGAIN:
            return WayOut("sign_in", "Sign in again", "Sign in again, then it works at once.")
        case NextStep.ASK_PROVIDER:
            return WayOut("provider", "Ask it now", "Daypass asks, and brings you back here.")
        case NextStep.USE_MFA:
            return WayOut("sign_in", "Sign in with MFA", "Sign in again with your second factor.")
        case NextStep.USE_ALLOWED_NETWORK:
            return WayOut(
                "again", "Try again", "Connect to the company network or VPN, then try again."
            )
        case NextStep.USE_OTHER_HAND_OVER:
            if hand_over == "console":
                return WayOut("keys", "Get keys", "You may take keys for this role instead.")
            return WayOut("console", "Open console", "You may open the console instead.")
        case NextStep.USE_OTHER_DOOR:
            return WayOut(
                "none", "", "Let the client in from a browser on the same computer instead."
            )
        case NextStep.ASK_FOR_LESS:
            what = "Open the console" if hand_over == "console" else "Get keys"
            return WayOut(
                "again", f"{what} for as long as allowed", "Take it for as long as is allowed."
            )
        case NextStep.WAIT:
            ending = "" if refused.wait_until else "."
            return WayOut("none", "", f"Come back when its time has come{ending}")
        case NextStep.ASK_ADMINISTRATOR:
            return WayOut("ask", "Ask for help", "Only an administrator can change this.")


@dataclass(frozen=True, slots=True)
class Remedy:
    """What mends something: what comes first, the steps of "(1) ...; (2) ...", and what follows them."""

    lead: str
    steps: tuple[str, ...]
    rest: str


def in_steps(text: str) -> Remedy:
    """Cut a remedy at its numbers; one without numbers is all lead."""
    lead, *steps = re.split(r"\s*\([1-9]\) ", text)
    if not steps:
        return Remedy(text, (), "")
    last, dot, rest = steps[-1].partition(". ")
    return Remedy(lead, (*(one.rstrip(";") for one in steps[:-1]), last + dot.strip()), rest)


# ---- Rows of the role list


@dataclass(frozen=True, slots=True)
class Row:
    """One role as the list shows it.

    console, keys: whether each can be had now. marks: short words beside the name. trouble: why nothing can be had
    now, with the way out; None when something can.
    """

    role: RoleFacts
    console: bool
    keys: bool
    longest_seconds: int | None
    marks: tuple[str, ...]
    trouble: Refused | None
    way_out: WayOut | None
    pinned: bool


def row_of(role: RoleFacts, console: Decision, keys: Decision, *, pinned: bool = False) -> Row:
    """The row of a role, from the two decisions about it."""
    marks = ["Sensitive"] if role.sensitive else []
    allowed = [one for one in (console, keys) if isinstance(one, Allowed)]
    refused = [one for one in (console, keys) if isinstance(one, Refused)]
    if isinstance(console, Allowed) and isinstance(keys, Refused):
        marks.append(_mark(keys, "keys", "Console only"))
    if isinstance(keys, Allowed) and isinstance(console, Refused):
        marks.append(_mark(console, "console", "Keys only"))
    trouble = None if allowed else _most_telling(refused)
    return Row(
        role=role,
        console=isinstance(console, Allowed),
        keys=isinstance(keys, Allowed),
        longest_seconds=max((one.longest_seconds for one in allowed), default=None),
        marks=tuple(marks),
        trouble=trouble,
        way_out=way_out(trouble, "console") if trouble else None,
        pinned=pinned,
    )


def _mark(refused: Refused, what: str, only: str) -> str:
    match refused.next_step:
        case NextStep.USE_MFA:
            return f"MFA for {what}"
        case NextStep.SIGN_IN_AGAIN:
            return f"Fresh sign-in for {what}"
        case NextStep.ASK_PROVIDER:
            return f"Ask again for {what}"
        case NextStep.USE_ALLOWED_NETWORK:
            return f"Company network for {what}"
        case NextStep.WAIT:
            return f"{what.capitalize()} later"
        case (
            NextStep.USE_OTHER_HAND_OVER
            | NextStep.USE_OTHER_DOOR
            | NextStep.ASK_FOR_LESS
            | NextStep.ASK_ADMINISTRATOR
        ):
            return only


_EASIEST_FIRST = (
    NextStep.ASK_PROVIDER,
    NextStep.SIGN_IN_AGAIN,
    NextStep.USE_MFA,
    NextStep.USE_ALLOWED_NETWORK,
    NextStep.USE_OTHER_DOOR,
    NextStep.ASK_FOR_LESS,
    NextStep.WAIT,
    NextStep.ASK_ADMINISTRATOR,
    NextStep.USE_OTHER_HAND_OVER,
)


def _most_telling(refused: Sequence[Refused]) -> Refused:
    """The refusal that the person can do most about: where console and keys are both refused, it speaks for both."""
    return min(refused, key=lambda one: _EASIEST_FIRST.index(one.next_step))


@dataclass(frozen=True, slots=True)
class AccountGroup:
    """One account and those of its roles that are on this page."""

    account_id: str
    name: str
    environment: str
    colour: str
    production: bool
    rows: tuple[Row, ...]


def grouped(rows: Iterable[Row]) -> tuple[AccountGroup, ...]:
    """The rows by account, in the order in which they came."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.role.account_id, []).append(row)
    return tuple(
        AccountGroup(
            account_id=account_id,
            name=of[0].role.account_name,
            environment=of[0].role.environment,
            colour=of[0].role.environment_colour,
            production=of[0].role.production,
            rows=tuple(of),
        )
        for account_id, of in found.items()
    )


# ---- Where the console may land


@dataclass(frozen=True, slots=True)
class Service:
    """One front page of the console. path: after the host, in a region."""

    id: str
    title: str
    path: str


SERVICES = (
    Service("apigateway", "API Gateway", "/apigateway/main/apis"),
    Service("cloudformation", "CloudFormation", "/cloudformation/home"),
    Service("cloudwatch", "CloudWatch", "/cloudwatch/home"),
    Service("dynamodb", "DynamoDB", "/dynamodbv2/home"),
    Service("ec2", "EC2", "/ec2/home"),
    Service("ecs", "ECS", "/ecs/v2/clusters"),
    Service("eks", "EKS", "/eks/home"),
    Service("iam", "IAM", "/iam/home"),
    Service("lambda", "Lambda", "/lambda/home"),
    Service("rds", "RDS", "/rds/home"),
    Service("s3", "S3", "/s3/home"),
    Service("secretsmanager", "Secrets Manager", "/secretsmanager/home"),
    Service("sqs", "SQS", "/sqs/v3/home"),
    Service("states", "Step Functions", "/states/home"),
    Service("systems-manager", "Systems Manager", "/systems-manager/home"),
    Service("vpc", "VPC", "/vpcconsole/home"),
)


def console_destination(partition: Partition, *, service: str, region: str) -> str:
    """The address of a service's page in a region; "" when neither is named, so that the account's own rules hold.

    Raises BadInput for a region that the partition does not have.
    """
    if region and not partition.owns_region(region):
        raise BadInput(
            f"This account cannot use {region}. Choose a region that it can, for example {partition.home_region}.",
            code="bad_region",
        )
    chosen = next((one for one in SERVICES if one.id == service), None)
    if chosen is None and not region:
        return ""
    address = partition.console_url(region or partition.home_region)
    return address if chosen is None else address.replace("/console/home", chosen.path, 1)


# ---- How to use each form of keys

KEY_TITLES = {
    "bash": "bash, zsh",
    "cmd": "cmd",
    "credentials_file": "Credentials file",
    "dotenv": ".env",
    "credential_process": "JSON",
}
"""Short names for the tabs, where the form's own title is longer."""

KEY_HINTS = {
    "bash": "Paste into the terminal where you work; it holds for that window only.",
    "fish": "Paste into the terminal where you work; it holds for that window only.",
    "powershell": "Paste into the PowerShell window where you work; it holds for that window only.",
    "cmd": "Paste into the command prompt where you work; it holds for that window only.",
    "credentials_file": "Add to ~/.aws/credentials, then use the profile it names.",
    "dotenv": "For tools that read a .env file. Do not commit it.",
    "credential_process": "What a credential_process prints: for tools and scripts.",
}


@dataclass(frozen=True, slots=True)
class ShownKey:
    """One tab of the keys dialog: the text as it is, and as it is shown until asked for."""

    id: str
    title: str
    text: str = field(repr=False)
    masked: str
    filename: str
    media_type: str
    hint: str


_SECRET_VALUE = re.compile(
    r"^(?P<name>.*?(?:secret_?access_?key|session_?token)\W{1,6})(?P<value>.*?)(?P<end>['\"]?,?\r?)$",
    re.IGNORECASE | re.MULTILINE,
)


def masked(text: str) -> str:
    """The text with the values of secret access key and session token as dots; everything else stays readable."""
    return _SECRET_VALUE.sub("\\g<name>" + "\u2022" * 12 + "\\g<end>", text)
