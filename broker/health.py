"""Health endpoints: live (the process answers) and ready (it can do its work)."""

from __future__ import annotations

import logging

from django.core.cache import cache
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpResponse, JsonResponse

log = logging.getLogger("daypass.health")


def live() -> HttpResponse:
    return JsonResponse({"status": "live"}, headers={"Cache-Control": "no-store"})


def ready() -> HttpResponse:
    """200 when database, its migrations and Redis are usable; 503 names the part that is not, never why."""
    parts = {"database": _try(_database), "redis": _try(_redis)}
    healthy = all(parts.values())
    return JsonResponse(
        {
            "status": "ready" if healthy else "not ready",
            **{k: "ok" if v else "failed" for k, v in parts.items()},
        },
        status=200 if healthy else 503,
        headers={"Cache-Control": "no-store"},
    )


_migrated = False


def _database() -> None:
    global _migrated
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    if not _migrated:
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            raise RuntimeError("migrations are missing")
        _migrated = True


def _redis() -> None:
    cache.get_many(["health"])  # the one question that fails when Redis is away (broker/cache.py)


def _try(probe: object) -> bool:
    try:
        probe()  # type: ignore[operator]
    except Exception as error:  # a probe reports, whatever went wrong
        log.warning(
            "health probe failed",
            extra={"probe": getattr(probe, "__name__", ""), "error": type(error).__name__},
        )
        return False
    return True
