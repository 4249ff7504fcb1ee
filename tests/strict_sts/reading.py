"""Requests, read as STS reads them."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping

from tests.strict_sts.policies import _listed
from tests.strict_sts.values import NAME, POLICY_SPACE, TAG_OVERHEAD, TAG_SPACE, Refusal, StrictRole


def _role_arn(form: Mapping[str, str]) -> str:
    arn = form.get("RoleArn", "")
    if not re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:role/[\x21-\x7e]+", arn):
        raise Refusal("ValidationError", f"{arn} is invalid")
    return arn


def session_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise Refusal(
            "ValidationError",
            f"1 validation error detected: Value '{name}' at 'roleSessionName' failed to "
            r"satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*",
        )
    return name


def asked_seconds(form: Mapping[str, str]) -> int:
    seconds = int(form.get("DurationSeconds", 3600))
    if not 900 <= seconds <= 43200:
        side = "greater than or equal to 900" if seconds < 900 else "less than or equal to 43200"
        raise Refusal(
            "ValidationError",
            f"1 validation error detected: Value '{seconds}' at 'durationSeconds' failed "
            f"to satisfy constraint: Member must have value {side}",
        )
    return seconds


def check_seconds(seconds: int, role: StrictRole) -> None:
    if seconds > role.max_seconds:
        raise Refusal(
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        )


def invalid_length(name: str, least: int, most: int) -> Refusal:
    return Refusal(
        "ValidationError",
        f"1 validation error detected: Value at '{name}' failed to satisfy constraint: "
        f"Member must have length between {least} and {most}",
    )


def check_source_identity(text: str) -> None:
    if text and (not NAME.fullmatch(text) or text.lower().startswith("aws:")):
        raise Refusal(
            "ValidationError",
            f"1 validation error detected: Value '{text}' at 'sourceIdentity' failed to "
            r"satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*",
        )


def check_tags(tags: Mapping[str, str], transitive: Iterable[str]) -> None:
    if len(tags) > 50 or len({key.lower() for key in tags}) < len(tags):
        raise Refusal(
            "InvalidParameterValue",
            "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
        )
    for key, value in tags.items():
        fits = re.compile(r"[\w\s.:/=+\-@]*")
        if not 1 <= len(key) <= 128 or len(value) > 256 or key.lower().startswith("aws:"):
            raise Refusal(
                "ValidationError",
                f"1 validation error detected: Value '{key}' at 'tags' failed to satisfy "
                "constraint",
            )
        if not fits.fullmatch(key) or not fits.fullmatch(value):
            raise Refusal(
                "ValidationError",
                f"1 validation error detected: Value '{value}' at 'tags' failed to "
                r"satisfy constraint: [\p{L}\p{Z}\p{N}_.:/=+\-@]*",
            )
    missing = [key for key in transitive if key not in tags]
    if missing:
        raise Refusal(
            "InvalidParameterValue",
            "The specified transitive tag key must be included in the requested "
            f"tags: {missing[0]}",
        )


_POLICY_CHARACTERS = re.compile("[\t\n\r -\xff]+")


def _packed(form: Mapping[str, str], tags: Mapping[str, str]) -> int:
    """Percent of the space that policies and tags take together."""
    policy = form.get("Policy", "")
    if policy:
        if len(policy) > 2048:
            raise invalid_length("policy", 1, 2048)
        if not _POLICY_CHARACTERS.fullmatch(policy):
            raise Refusal(
                "ValidationError",
                "1 validation error detected: Value at 'policy' failed to satisfy constraint: Member must satisfy "
                r"regular expression pattern: [\u0009\u000A\u000D\u0020-\u00FF]+",
            )
        try:
            statements = json.loads(policy)["Statement"]
            fine = all(
                {"Effect"} <= set(one) and {"Action", "NotAction"} & set(one)
                for one in _listed(statements)
            )
        except (ValueError, KeyError, TypeError):
            fine = False
        if not fine:
            raise Refusal("MalformedPolicyDocument", "The policy is not in the valid JSON format.")
    arns = [item["arn"] for item in members(form, "PolicyArns")]
    if len(arns) > 10:
        raise invalid_length("policyArns", 0, 10)
    tagged = sum(len((key + value).encode()) + TAG_OVERHEAD for key, value in tags.items())
    policies = len(zlib.compress((policy + "".join(arns)).encode())) if policy or arns else 0
    percent = round(100 * (tagged / TAG_SPACE + policies / POLICY_SPACE))
    if percent > 100:
        what = "session tags" if tagged / TAG_SPACE > policies / POLICY_SPACE else "policy"
        raise Refusal(
            "PackedPolicyTooLarge", f"Packed size of {what} consumes {percent}% of allotted space."
        )
    return percent


def _list(form: Mapping[str, str], name: str) -> list[str]:
    found = (
        (key, value) for key, value in form.items() if re.fullmatch(rf"{name}\.member\.\d+", key)
    )
    return [value for _, value in sorted(found, key=lambda item: int(item[0].rsplit(".", 1)[1]))]


def members(form: Mapping[str, str], name: str) -> list[dict[str, str]]:
    found: dict[int, dict[str, str]] = {}
    for key, value in form.items():
        match = re.fullmatch(rf"{name}\.member\.(\d+)\.(\w+)", key)
        if match:
            found.setdefault(int(match[1]), {})[match[2]] = value
    return [found[number] for number in sorted(found)]
