"""The administrators' site: Django's admin, arranged by task and not by table."""

from __future__ import annotations

from django.contrib.admin import AdminSite


class DaypassAdminSite(AdminSite):
    """Signed in by the company's identity provider with a group that confers staff, or by break-glass."""

    site_header = "Daypass"
    site_title = "Daypass"
    index_title = "Administration"
