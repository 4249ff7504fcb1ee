"""An index for Celery: it finds the tasks of every stage here. Imports only."""

from broker.audit.tasks import verify_recent, verify_whole
from broker.sessions.tasks import expire_due, resolve_pending

__all__ = ["expire_due", "resolve_pending", "verify_recent", "verify_whole"]
