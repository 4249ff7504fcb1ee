"""Fields that read what people write."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from django import forms

_PART = re.compile(
    r"(\d+)\s*(days?|d|hours?|h|minutes?|min|m|seconds?|sec|s)(?![a-z])", re.IGNORECASE
)
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def code_input(**attributes: Any) -> forms.TextInput:
    """For what is typed exactly: an id, an ARN, an address."""
    return forms.TextInput(attrs={"class": "typed", "spellcheck": "false", **attributes})


def code_area(rows: int) -> forms.Textarea:
    """The same for more than a line."""
    return forms.Textarea(attrs={"rows": rows, "class": "typed", "spellcheck": "false"})


def spoken(seconds: int | None) -> str:
    """A length of time as people say it: 1 h 30 min, and from two days on 90 days. Empty for None."""
    if seconds is None:
        return ""
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    days, hours = divmod(hours, 24) if hours >= 48 else (0, hours)
    said = [
        f"{days} days" if days else "",
        f"{hours} h" if hours else "",
        f"{minutes} min" if minutes else "",
        f"{left} s" if left else "",
    ]
    return " ".join(filter(None, said)) or "0 s"


class LengthField(forms.CharField):
    """A length of time as people write it (1 h, 90 min, 1 h 30 min, 3600); cleaned to whole seconds or None."""

    def __init__(self, *, least: int = 1, most: int = 10**9, **kwargs: Any) -> None:
        self.least, self.most = least, most
        super().__init__(max_length=40, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return spoken(value) if isinstance(value, int) else value

    def to_python(self, value: Any) -> Any:
        text = str(value or "").strip()
        if not text:
            return None
        if text.isascii() and text.isdigit():
            seconds = int(text)
        elif _PART.sub("", text).strip(" ,"):
            raise forms.ValidationError("Write a length of time such as 1 h, 90 min or 1 h 30 min.")
        else:
            seconds = sum(int(n) * _UNITS[unit[0].lower()] for n, unit in _PART.findall(text))
        if not self.least <= seconds <= self.most:
            raise forms.ValidationError(
                f"It has to be from {spoken(self.least)} to {spoken(self.most)}."
            )
        return seconds

    def validate(self, value: Any) -> None:
        if self.required and value is None:
            raise forms.ValidationError(self.error_messages["required"], code="required")

    def run_validators(self, value: Any) -> None: ...

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.prepare_value(initial) != data)


class LinesField(forms.CharField):
    """One value a line; cleaned to a list without blanks and without repetitions, in the order given."""

    def __init__(self, *, rows: int = 3, **kwargs: Any) -> None:
        kwargs.setdefault("widget", code_area(rows))
        super().__init__(**kwargs)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list | tuple) else value

    def to_python(self, value: Any) -> Any:
        return list(
            dict.fromkeys(line.strip() for line in str(value or "").splitlines() if line.strip())
        )

    def run_validators(self, value: Any) -> None: ...


class PairsField(forms.CharField):
    """One `key = value` a line; cleaned to a dict."""

    def __init__(self, *, example: str, rows: int = 3, **kwargs: Any) -> None:
        self.example = example
        kwargs.setdefault("widget", code_area(rows))
        super().__init__(**kwargs)

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return "\n".join(f"{key} = {item}" for key, item in value.items())
        return value

    def to_python(self, value: Any) -> Any:
        pairs: dict[str, str] = {}
        for line in str(value or "").splitlines():
            if not line.strip():
                continue
            key, equals, item = line.partition("=")
            if not equals or not key.strip() or not item.strip():
                raise forms.ValidationError(
                    f"“{line.strip()}” is not a pair such as {self.example}."
                )
            if key.strip() in pairs:
                raise forms.ValidationError(f"“{key.strip()}” is there twice.")
            pairs[key.strip()] = item.strip()
        return pairs

    def run_validators(self, value: Any) -> None: ...


class MomentInput(forms.DateTimeInput):
    """The browser's own date and time field; times are UTC, as everywhere in the admin."""

    input_type = "datetime-local"

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%dT%H:%M")


class MomentField(forms.DateTimeField):
    """A date and time, in UTC."""

    widget = MomentInput
    input_formats = ("%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M")
