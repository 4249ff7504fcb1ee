"""An index for Celery: it finds the tasks of every stage here. Imports only."""

from broker.audit.tasks import verify_recent, verify_whole

__all__ = ["verify_recent", "verify_whole"]
