"""An index for Celery: it finds the tasks of every stage here. Imports only."""

from broker.audit.tasks import verify_recent, verify_whole
from broker.awssso.checks import test_header
from broker.awssso.tasks import clear_terminals
from broker.discovery.tasks import discover_account, discover_all
from broker.doctor.tasks import check_account, check_due
from broker.sessions.tasks import expire_due, resolve_pending
from broker.upkeep.tasks import follow_up, follow_up_all, publish_copy, turn_keys

__all__ = [
    "check_account",
    "check_due",
    "clear_terminals",
    "discover_account",
    "discover_all",
    "expire_due",
    "follow_up",
    "follow_up_all",
    "publish_copy",
    "resolve_pending",
    "test_header",
    "turn_keys",
    "verify_recent",
    "verify_whole",
]
