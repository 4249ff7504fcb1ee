"""Addresses of the portal."""

from __future__ import annotations

from django.urls import path

from broker.portal import views

urlpatterns = [
    path("", views.home, name="home"),
    path("sessions/", views.sessions, name="sessions"),
]
