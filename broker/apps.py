"""Django's handle on the broker, and the switchboard: every subscription to an announcement is in this list."""

from __future__ import annotations

from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps


class BrokerConfig(AppConfig):
    name = "broker"
    verbose_name = "AWS access"
    default = True

    def ready(self) -> None:
        import broker.celery  # noqa: F401  (tasks find their application in web processes too)
        from accounts import events
        from accounts.services import relay_for
        from broker import (
            checks,  # noqa: F401  (registers the system checks)
            switchboard,
        )
        from broker.entitlements.queries import relays_from
        from broker.minting import keys
        from broker.upkeep import checks as upkeep_checks  # noqa: F401  (registers its own)
        from broker.upkeep.queueing import keys_changed

        relay_for(relays_from)
        keys.tell_of_changes(keys_changed)
        events.subscribe(events.SignedIn, switchboard.signed_in, name="audit: signed in")
        events.subscribe(
            events.SignInRefused, switchboard.sign_in_refused, name="audit: sign-in refused"
        )
        # All of them before the audit log is locked: whoever ends a terminal locks that first, and then the log.
        events.subscribe(events.LinesOver, switchboard.terminals_end, name="terminals: lines over")
        events.subscribe(events.SignedOut, switchboard.signed_out, name="audit: signed out")
        events.subscribe(events.RelayKept, switchboard.relay_kept, name="audit: relay kept")
        events.subscribe(
            events.StaffChanged, switchboard.staff_changed, name="audit: staff changed"
        )
        events.subscribe(
            events.ProviderNews, switchboard.provider_news, name="audit: provider news"
        )
        events.subscribe(
            events.ServiceProviderKeyNews,
            switchboard.service_provider_key_news,
            name="audit: service provider key news",
        )
        events.subscribe(events.Changed, switchboard.changed, name="audit: changed")


class DaypassAdminConfig(admin_apps.AdminConfig):
    default_site = "broker.administration.DaypassAdminSite"
    default = False
