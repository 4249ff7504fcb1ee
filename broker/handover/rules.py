"""Temporary keys in every form that clients read. Pure: text in, text out; nothing is kept.

Quoting follows each shell's own rules: a secret may hold + / = and, as far as AWS promises anything, any printable
ASCII character.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class KeyForm:
    """The keys in one form. id is stable; filename and media_type are for the download."""

    id: str
    title: str
    text: str = field(repr=False)
    filename: str
    media_type: str


@dataclass(frozen=True, slots=True, repr=False)
class KeyFacts:
    """What the forms are made of. region "": none is written; profile: the section's name in the credentials file."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    expires_at: datetime
    account_id: str
    region: str
    profile: str


def key_forms(keys: KeyFacts) -> tuple[KeyForm, ...]:
    """Every form, in the order in which they are offered. One whose quoting cannot hold these values is left out."""
    made = (make(keys) for make in _FORMS)
    return tuple(form for form in made if form is not None)


def profile_name(account_id: str, role_name: str) -> str:
    """`111122223333_Developer`, as AWS's own access portal names it; safe in an ini section."""
    return f"{account_id}_{re.sub(r'[^A-Za-z0-9_.@-]', '-', role_name)}"


def expiration(at: datetime) -> str:
    """ISO 8601 in UTC, to the second, with Z."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_STALE = ("AWS_SECURITY_TOKEN", "AWS_PROFILE")
"""Unset: SDKs read the first before AWS_SESSION_TOKEN, and some let the second win over keys in the environment."""


def _variables(keys: KeyFacts) -> list[tuple[str, str]]:
    variables = [
        ("AWS_ACCESS_KEY_ID", keys.access_key_id),
        ("AWS_SECRET_ACCESS_KEY", keys.secret_access_key),
        ("AWS_SESSION_TOKEN", keys.session_token),
        ("AWS_CREDENTIAL_EXPIRATION", expiration(keys.expires_at)),
    ]
    if keys.region:
        variables += [("AWS_REGION", keys.region), ("AWS_DEFAULT_REGION", keys.region)]
    return variables


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def _bash(keys: KeyFacts) -> KeyForm:
    quoted = ((name, "'" + value.replace("'", "'\\''") + "'") for name, value in _variables(keys))
    text = _lines(
        [*(f"export {name}={value}" for name, value in quoted), f"unset {' '.join(_STALE)}"]
    )
    return KeyForm("bash", "bash or zsh", text, "daypass-keys.sh", "text/x-shellscript")


def _fish(keys: KeyFacts) -> KeyForm:
    quoted = (
        (name, "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'")
        for name, value in _variables(keys)
    )
    text = _lines(
        [
            *(f"set -gx {name} {value}" for name, value in quoted),
            *(f"set -e {name}" for name in _STALE),
        ]
    )
    return KeyForm("fish", "fish", text, "daypass-keys.fish", "text/x-fish")


def _powershell(keys: KeyFacts) -> KeyForm:
    quoted = ((name, "'" + value.replace("'", "''") + "'") for name, value in _variables(keys))
    text = _lines(
        [
            *(f"$Env:{name} = {value}" for name, value in quoted),
            *(f"Remove-Item Env:{name} -ErrorAction SilentlyContinue" for name in _STALE),
        ]
    )
    return KeyForm("powershell", "PowerShell", text, "daypass-keys.ps1", "text/x-powershell")


def _cmd(keys: KeyFacts) -> KeyForm | None:
    """`set "NAME=value"` keeps & | < > ^ literal; a quote, a percent sign or an exclamation mark has no sure escape."""
    variables = _variables(keys)
    if any(character in value for _, value in variables for character in '"%!'):
        return None
    lines = [
        *(f'set "{name}={value}"' for name, value in variables),
        *(f'set "{name}="' for name in _STALE),
    ]
    text = "\r\n".join(lines) + "\r\n"
    return KeyForm("cmd", "Windows cmd", text, "daypass-keys.cmd", "text/x-cmd")


def _credentials_file(keys: KeyFacts) -> KeyForm:
    text = _lines(
        [
            f"[{keys.profile}]",
            f"# until {expiration(keys.expires_at)}",
            f"aws_access_key_id = {keys.access_key_id}",
            f"aws_secret_access_key = {keys.secret_access_key}",
            f"aws_session_token = {keys.session_token}",
            *([f"region = {keys.region}"] if keys.region else []),
        ]
    )
    return KeyForm(
        "credentials_file", "~/.aws/credentials", text, "daypass-credentials.ini", "text/plain"
    )


_PLAIN = re.compile(r"[A-Za-z0-9+/=_.:-]+")


def _dotenv(keys: KeyFacts) -> KeyForm | None:
    """Without quotes, because `docker run --env-file` keeps quotes as part of the value."""
    variables = _variables(keys)
    if not all(_PLAIN.fullmatch(value) for _, value in variables):
        return None
    text = _lines(f"{name}={value}" for name, value in variables)
    return KeyForm("dotenv", ".env file", text, "daypass.env", "text/plain")


def _credential_process(keys: KeyFacts) -> KeyForm:
    document = {
        "Version": 1,
        "AccessKeyId": keys.access_key_id,
        "SecretAccessKey": keys.secret_access_key,
        "SessionToken": keys.session_token,
        "Expiration": expiration(keys.expires_at),
        "AccountId": keys.account_id,
    }
    return KeyForm(
        "credential_process",
        "credential_process JSON",
        json.dumps(document, indent=2) + "\n",
        "daypass-credentials.json",
        "application/json",
    )


_FORMS: tuple[Callable[[KeyFacts], KeyForm | None], ...] = (
    _bash,
    _fish,
    _powershell,
    _cmd,
    _credentials_file,
    _dotenv,
    _credential_process,
)
