"""Celery's part of accounts."""
