"""The shape of what the pages of terminals send. Meaning is checked by the services behind them."""

from __future__ import annotations

from django import forms

LONGEST = 90 * 86400


class CodeForm(forms.Form):
    """A code that somebody reads off another screen: in groups or not, large or small letters."""

    user_code = forms.CharField(
        label="Code",
        max_length=40,
        error_messages={"required": "Type the code that the other computer shows."},
        widget=forms.TextInput(
            attrs={
                "class": "code-input",
                "autocomplete": "off",
                "autocapitalize": "characters",
                "spellcheck": "false",
                "autofocus": True,
                "aria-describedby": "code-help code-error",
            }
        ),
    )


class ScriptTokenForm(forms.Form):
    """A token for scripts: what it is called, how long it lives, and for which role (none: all of the person's)."""

    label = forms.CharField(
        max_length=64, error_messages={"required": "Give it a name by which you will know it."}
    )
    seconds = forms.IntegerField(min_value=1, max_value=LONGEST)
    role = forms.UUIDField(required=False)
