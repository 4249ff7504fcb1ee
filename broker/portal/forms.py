"""The shape of what the pages send. Meaning is checked by the rules and services behind them."""

from __future__ import annotations

from django import forms

from broker.portal.rules import SERVICES


class ConsoleForm(forms.Form):
    """Where in the console to land, and for how long; everything may be left out."""

    destination = forms.CharField(required=False, max_length=2048)
    service = forms.ChoiceField(
        required=False, choices=[("", ""), *((one.id, one.title) for one in SERVICES)]
    )
    region = forms.RegexField(r"\A[a-z0-9-]{1,32}\Z", required=False)
    seconds = forms.IntegerField(required=False, min_value=900, max_value=43200)


class KeysForm(forms.Form):
    """For how long; may be left out."""

    seconds = forms.IntegerField(required=False, min_value=900, max_value=43200)


class SearchForm(forms.Form):
    """What is looked for, and which page of it."""

    q = forms.CharField(required=False, max_length=2100)
    page = forms.IntegerField(required=False, min_value=1, max_value=100_000)
