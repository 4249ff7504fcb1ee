"""Addresses of the portal."""

from __future__ import annotations

from django.urls import path

from broker.portal import views

urlpatterns = [
    path("", views.home, name="home"),
    path("roles/<uuid:role_id>/", views.role, name="role"),
    path("roles/<uuid:role_id>/pin/", views.pin, name="pin"),
    path("console/<uuid:role_id>/", views.console, name="open_console"),
    path("keys/<uuid:role_id>/", views.keys, name="get_keys"),
    path("go/<str:account>/<str:role>/", views.go, name="go"),
    path("sessions/", views.sessions, name="sessions"),
    path("sessions/live/", views.live, name="live"),
    path("sessions/<uuid:session_id>/end/", views.session_end, name="session_end"),
]
