"""Django's handle on accounts."""

from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured

try:
    # Before any module that needs them: two series of libxml2 in one process end the start right there, and what
    # xmlsec says about it helps nobody. (accounts.E005)
    import xmlsec  # noqa: F401
except Exception as error:
    raise ImproperlyConfigured(
        f"lxml and xmlsec cannot be used together: {error}. Install exactly the versions of requirements.txt; they "
        "are pinned as a pair. (accounts.E005)"
    ) from None


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "People and groups"

    def ready(self) -> None:
        from accounts import checks  # noqa: F401  (registers the system checks)
