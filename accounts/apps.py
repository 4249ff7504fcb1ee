"""Django's handle on accounts."""

from typing import Any

from allauth.usersessions.apps import UserSessionsConfig
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


class BrowserSessionsConfig(UserSessionsConfig):
    """allauth's list of browser sessions, without a look at all the others of a person whenever they sign in.

    That look finds sessions that are over; `accounts.services.sessions` clears those away every hour. Signing in costs
    the same however many sessions a person has.
    """

    def ready(self) -> None:
        from allauth.account.signals import user_logged_in
        from allauth.usersessions import signals

        super().ready()
        user_logged_in.disconnect(signals.on_user_logged_in)
        user_logged_in.connect(_list_session)


def _list_session(sender: Any, *, request: Any, **kwargs: Any) -> None:
    from allauth.usersessions.models import UserSession

    UserSession.objects.create_from_request(request)
