"""Django's handle on accounts."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "People and groups"

    def ready(self) -> None:
        from accounts import checks  # noqa: F401  (registers the system checks)
