"""Writing through services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.db import models
from django.http import HttpRequest

from broker.errors import DaypassError


class ServiceForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form whose saving is one service call, made as the last step of validation.

    The service knows the meaning, so it may still refuse; what it says then stands at its field like any other error.
    """

    request: ClassVar[HttpRequest]

    def write(self) -> models.Model:
        """Call the service with what was cleaned; answers the object as it now is."""
        raise NotImplementedError

    def _post_clean(self) -> None:
        # Without ModelForm's own: it would write the new values into the instance before the service compares them.
        if self.errors:
            return
        try:
            self.instance = self.write()
        except DaypassError as error:
            self.refused(error)

    def refused(self, error: DaypassError) -> None:
        """Put what the service said at the fields that it named, or above the form."""
        named: Mapping[str, Any] = getattr(error, "errors", None) or {}
        for name, said in named.items():
            sentences = [said] if isinstance(said, str) else list(said)
            self.add_error(name if name in self.fields else None, sentences)
        if not named:
            said = f"{error.message} {error.remedy}".strip()
            self.add_error(None, ValidationError(said, code=error.code))

    def save(self, commit: bool = True) -> Any:
        return self.instance

    def save_m2m(self) -> None:
        """The service did it."""
