"""Claim maps as questions: fields, and how a path is written and read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from django import forms

from accounts.rules import ClaimMap, GroupForm
from broker.backoffice import LinesField, PairsField, code_input


class PathField(forms.CharField):
    """Where a value is: one attribute name, or steps into nested claims joined by `>`; cleaned to a list of names."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            required=False,
            max_length=2000,
            widget=code_input(),
            **kwargs,
        )

    def prepare_value(self, value: Any) -> Any:
        return written(value) if isinstance(value, list | tuple) else value

    def to_python(self, value: Any) -> Any:
        return read_path(str(value or ""))


def written(path: Sequence[str]) -> str:
    """A path as people write it; as JSON when a step itself looks like the notation."""
    if any(">" in step or step != step.strip() or step.startswith("[") for step in path):
        return json.dumps(list(path))
    return " > ".join(path)


def read_path(text: str) -> list[str]:
    """`realm_access > roles` -> ["realm_access", "roles"]. A JSON list says what this notation cannot."""
    text = text.strip()
    if text.startswith("["):
        try:
            steps_read = json.loads(text)
        except ValueError:
            raise forms.ValidationError("This looks like a JSON list, but is not one.") from None
        if not isinstance(steps_read, list) or not all(isinstance(s, str) for s in steps_read):
            raise forms.ValidationError("A JSON list of names, please.")
        return steps_read
    return [step.strip() for step in text.split(">") if step.strip()]


class ClaimMapFields(forms.Form):
    """The claim map as questions. `claim_map()` is the answer, checked by the rules themselves."""

    map_subject = PathField(
        label="Id of the person",
        help_text="The attribute with an id that never changes and is never given to somebody else. Empty: the NameID.",
    )
    map_username = PathField(
        label="User name", help_text="Looked at once, for a readable handle. For example uid."
    )
    map_name = PathField(
        label="Full name", help_text="For people to read. For example displayName."
    )
    map_email = PathField(
        label="Email",
        help_text="For people to read; nobody is ever recognised by it. For example mail.",
    )
    map_groups = PathField(
        label="Groups",
        help_text="Where the directory groups are. For example groups, or realm_access > roles for nested claims.",
    )
    map_groups_form = forms.ChoiceField(
        label="Groups are written as",
        choices=[
            (GroupForm.VALUES.value, "Values: engineering"),
            (GroupForm.SEPARATED.value, "One text with separators: engineering;sales"),
            (
                GroupForm.DISTINGUISHED_NAMES.value,
                "Distinguished names: CN=engineering,OU=Groups,DC=example",
            ),
            (
                GroupForm.LAST_SEGMENT.value,
                "Paths, of which the last part counts: /staff/engineering",
            ),
        ],
    )
    map_separator = forms.CharField(
        label="Separator",
        required=False,
        max_length=3,
        strip=False,
        help_text="Only for one text with separators. For example ;",
    )
    map_attributes = PairsField(
        label="Person attributes",
        required=False,
        example="department = department",
        help_text="Kept with the person, for session tags. One a line: name = where it is. For example cost_center = "
        "costCenter.",
    )
    map_mfa_contexts = LinesField(
        label="Contexts that mean multi-factor",
        required=False,
        help_text="AuthnContextClassRef (SAML) or acr (OpenID Connect) values, one a line, exactly as they arrive.",
    )
    map_mfa_methods = LinesField(
        label="Methods that mean multi-factor",
        required=False,
        help_text="amr values, one a line. For example mfa.",
    )

    @staticmethod
    def answers(claim_map: ClaimMap) -> dict[str, Any]:
        """A claim map as the initial values of the fields."""
        return {
            "map_subject": list(claim_map.subject),
            "map_username": list(claim_map.username),
            "map_name": list(claim_map.name),
            "map_email": list(claim_map.email),
            "map_groups": list(claim_map.groups),
            "map_groups_form": claim_map.groups_form.value,
            "map_separator": claim_map.separator
            if claim_map.groups_form is GroupForm.SEPARATED
            else "",
            "map_attributes": {n: written(path) for n, path in claim_map.attributes.items()},
            "map_mfa_contexts": list(claim_map.mfa_contexts),
            "map_mfa_methods": list(claim_map.mfa_methods),
        }


def claim_map_of(answers: Mapping[str, Any]) -> ClaimMap:
    """The claim map that the fields say. Raises BadInput in the words of the rules."""
    document: dict[str, Any] = {
        "groups_form": answers["map_groups_form"],
        "attributes": {
            name: read_path(path) for name, path in (answers["map_attributes"] or {}).items()
        },
        "mfa_contexts": answers["map_mfa_contexts"],
        "mfa_methods": answers["map_mfa_methods"],
    }
    for part in ("subject", "username", "name", "email", "groups"):
        document[part] = answers.get(f"map_{part}") or []
    if answers["map_groups_form"] == GroupForm.SEPARATED.value:
        document["separator"] = answers["map_separator"]
    return ClaimMap.from_json(document)
