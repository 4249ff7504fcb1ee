"""Where an ARN or a console address that somebody pasted leads: account, region, role, and the page to open. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlsplit

from broker.arns import PARTITIONS, Partition, safe_console_destination
from broker.errors import BadInput

LONGEST = 4096

_ARN = re.compile(
    r"arn:(?P<partition>aws(?:-us-gov|-cn|-eusc)?):(?P<service>[a-z0-9-]+):(?P<region>[a-z0-9-]*):"
    r"(?P<account>\d{12}|aws)?:(?P<resource>[^\s\x00-\x1f\"'<>]+)",
    re.ASCII,
)
_SESSION_LABEL = re.compile(r"(?P<account>\d{12})-[a-z0-9]+", re.ASCII)
_ACCOUNT = re.compile(r"\d{12}|[a-z0-9](?:[a-z0-9-]{1,61}[a-z0-9])", re.ASCII)
_ROLE_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_ROLE_WITH_PATH = re.compile(r"(?:/?[\x21-\x7e]{1,510}/)?[\w+=,.@-]{1,64}", re.ASCII)
"""In a link to switch roles."""


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere in AWS. "" is unknown.

    account: a 12-digit id or an alias. destination: a console page that `safe_console_destination` accepts.
    """

    partition: str
    account: str = ""
    region: str = ""
    role: str = ""
    destination: str = ""


def read_place(text: str) -> Place | None:
    """Understand a pasted ARN, console address, switch-role link or access-portal link; None: it is none of these."""
    text = text.strip()
    if len(text) > LONGEST:
        return None
    if text.startswith("arn:"):
        return _of_arn(text)
    if not text.startswith("https://"):
        return None
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").lower()
    except ValueError:
        return None
    if host.endswith((".awsapps.com", ".app.aws")):
        return _of_portal(parts.fragment)
    for partition in PARTITIONS.values():
        signin = partition.signin_host
        if host == signin or host.endswith(f".{signin}"):
            return _of_switch_role(partition, parts.path, parts.query)
        if host == partition.console_domain or host.endswith(f".{partition.console_domain}"):
            return _of_console(partition, text, host)
    return None


def _of_arn(text: str) -> Place | None:
    match = _ARN.fullmatch(text)
    if match is None:
        return None
    partition = PARTITIONS[match["partition"]]
    account = match["account"] if match["account"] != "aws" else ""
    region = match["region"] if partition.owns_region(match["region"]) else ""
    kind, _, rest = match["resource"].partition("/")
    if (match["service"], kind) == ("iam", "role"):
        return Place(partition.name, account or "", region, role=rest.rpartition("/")[2])
    if (match["service"], kind) == ("sts", "assumed-role"):
        return Place(partition.name, account or "", region, role=rest.partition("/")[0])
    if partition.name == "aws":
        # The console's own way from an ARN to the page of the resource, in the commercial partition.
        destination = f"https://{partition.console_domain}/go/view?arn={quote(text, safe='')}"
    else:
        destination = partition.console_url(region)
    return Place(partition.name, account or "", region, destination=_safe(partition, destination))


def _of_console(partition: Partition, text: str, host: str) -> Place:
    parts = urlsplit(text)
    query = parse_qs(parts.query)
    labels = host.removesuffix(partition.console_domain).strip(".").split(".")
    account = ""
    if session := _SESSION_LABEL.fullmatch(labels[0]):
        # The address of one browser session (multi-session console): it says the account, and works nowhere else.
        account = session["account"]
        labels = labels[1:]
        host = ".".join([*labels, partition.console_domain])
        text = parts._replace(netloc=host).geturl()
    if not account and (named := _ARN.search(unquote(text))):
        account = named["account"] or ""
    regions = [*query.get("region", []), *labels]
    return Place(
        partition.name,
        account=account if account != "aws" else "",
        region=next((region for region in regions if partition.owns_region(region)), ""),
        destination=_safe(partition, text),
    )


def _of_switch_role(partition: Partition, path: str, query: str) -> Place | None:
    if path.rstrip("/") != "/switchrole":
        return None
    asked = parse_qs(query)
    return Place(
        partition.name,
        account=_first(asked, "account", _ACCOUNT),
        role=_first(asked, "roleName", _ROLE_WITH_PATH).rpartition("/")[2],
    )


def _of_portal(fragment: str) -> Place | None:
    """`#/console?account_id=...&role_name=...&destination=...`, as AWS's own access portal writes its links."""
    path, _, query = fragment.partition("?")
    if path.rstrip("/") != "/console":
        return None
    asked = parse_qs(query)
    destination = (asked.get("destination") or [""])[0]
    there = read_place(destination) if destination.startswith("https://") else None
    return Place(
        there.partition if there else "aws",
        account=_first(asked, "account_id", _ACCOUNT),
        region=there.region if there else "",
        role=_first(asked, "role_name", _ROLE_NAME),
        destination=there.destination if there else "",
    )


def _first(asked: dict[str, list[str]], name: str, shape: re.Pattern[str]) -> str:
    value = (asked.get(name) or [""])[0]
    return value if shape.fullmatch(value) else ""


def _safe(partition: Partition, url: str) -> str:
    try:
        return safe_console_destination(partition, url)
    except BadInput:
        return ""
