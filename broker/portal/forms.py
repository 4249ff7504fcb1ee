"""The shape of what the pages send. Meaning is checked by the rules and services behind them."""

from __future__ import annotations

from django import forms

from broker.portal.rules import SERVICES

_SECONDS = (
    "A session lasts from 15 minutes to 12 hours: a whole number of seconds from 900 to 43200."
)
_WRONG_SECONDS = {"invalid": _SECONDS, "min_value": _SECONDS, "max_value": _SECONDS}


class ConsoleForm(forms.Form):
    """Where in the console to land, and for how long; everything may be left out."""

    destination = forms.CharField(
        required=False,
        max_length=2048,
        error_messages={
            "max_length": "This address is too long: at most %(limit_value)d characters."
        },
    )
    service = forms.ChoiceField(
        required=False,
        choices=[("", ""), *((one.id, one.title) for one in SERVICES)],
        error_messages={
            "invalid_choice": "This link asks for a console page that Daypass does not know."
        },
    )
    region = forms.RegexField(
        r"\A[a-z0-9-]{1,32}\Z",
        required=False,
        error_messages={
            "invalid": "That is no region. Write it as AWS does, for example eu-west-1."
        },
    )
    seconds = forms.IntegerField(
        required=False, min_value=900, max_value=43200, error_messages=_WRONG_SECONDS
    )


class KeysForm(forms.Form):
    """For how long; may be left out."""

    seconds = forms.IntegerField(
        required=False, min_value=900, max_value=43200, error_messages=_WRONG_SECONDS
    )


class SearchForm(forms.Form):
    """What is looked for, and which page of it."""

    q = forms.CharField(required=False, max_length=2100)
    page = forms.IntegerField(required=False, min_value=1, max_value=100_000)
