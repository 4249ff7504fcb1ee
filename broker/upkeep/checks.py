"""System check: where the documents are to be published has to be understood before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from broker.errors import BadInput
from broker.upkeep.places import place


@register("daypass")
def publish_to(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    if not settings.DAYPASS_PUBLISH_TO:
        return []
    try:
        place(settings.DAYPASS_PUBLISH_TO)
    except BadInput as error:
        hint = "For example file:///srv/issuer or s3://my-issuer/daypass?region=eu-west-1."
        return [Error(error.message, hint=hint, id="daypass.E023")]
    return []
