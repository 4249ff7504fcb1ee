"""manage.py service_provider_keys: look after Daypass's own keys towards SAML identity providers."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import reverse
from django.utils import timezone

from accounts import services
from accounts.models import ServiceProviderKey
from accounts.services import By
from broker.errors import DaypassError

_BY = By(id="task:manage.py service_provider_keys", name="manage.py service_provider_keys")

Purpose = ServiceProviderKey.Purpose


class Command(BaseCommand):
    help = (
        "Look after Daypass's own keys towards SAML identity providers. To change one without an outage: prepare, let "
        "every provider listed import the metadata, activate; when all have the new metadata, remove the retired one."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("list", help="every key, its state and its dates")
        prepare = actions.add_parser(
            "prepare", help="make the next key and show it in the metadata"
        )
        activate = actions.add_parser("activate", help="use the next key, retire the other")
        for one in (prepare, activate):
            one.add_argument("purpose", choices=Purpose.values)
        retire = actions.add_parser(
            "retire", help="take a key that nobody needs out of the metadata"
        )
        remove = actions.add_parser("remove", help="destroy a retired key for good")
        for one in (retire, remove):
            one.add_argument("fingerprint", help="its beginning, as `list` shows it")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['action']}")(options)
        except DaypassError as error:
            raise CommandError(error.explained) from None

    def _list(self, options: dict[str, Any]) -> None:
        for key in ServiceProviderKey.objects.order_by("purpose", "created_at"):
            self.stdout.write(
                f"{key.purpose:10} {key.state:8} {services.fingerprint(key.certificate)[:16]}"
                f"  since {key.state_since:%Y-%m-%d}  certificate ends {key.expires_at:%Y-%m-%d}"
            )

    def _prepare(self, options: dict[str, Any]) -> None:
        purpose = Purpose(options["purpose"])
        key = services.prepare_key(purpose, by=_BY, now=timezone.now())
        self.stdout.write(f"Prepared {self._name(key)}. It is in the metadata from now on.")
        self._remind(purpose, "Let these providers import it, then activate the key:")

    def _activate(self, options: dict[str, Any]) -> None:
        purpose = Purpose(options["purpose"])
        key = services.activate_key(purpose, by=_BY, now=timezone.now())
        self.stdout.write(f"{self._name(key)} is in use now.")
        self._remind(purpose, "When these providers have the new metadata, remove the retired key:")

    def _retire(self, options: dict[str, Any]) -> None:
        key = services.find_key(options["fingerprint"])
        services.retire_key(key, by=_BY, now=timezone.now())
        self.stdout.write(f"Retired {self._name(key)}.")

    def _remove(self, options: dict[str, Any]) -> None:
        key = services.find_key(options["fingerprint"])
        name = self._name(key)
        services.remove_key(key, by=_BY, now=timezone.now())
        self.stdout.write(f"Removed {name}.")

    def _name(self, key: ServiceProviderKey) -> str:
        return f"{key.get_purpose_display()} key {services.fingerprint(key.certificate)[:16]}"

    def _remind(self, purpose: ServiceProviderKey.Purpose, what: str) -> None:
        providers = services.concerned(purpose)
        if providers:
            self.stdout.write(what)
        for provider in providers:
            address = reverse("saml_metadata", kwargs={"slug": provider.slug})
            self.stdout.write(f"  {provider.name}: {settings.DAYPASS_ORIGIN}{address}")
