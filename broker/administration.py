"""The administrators' site: Django's admin, arranged by task and not by table."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

from django.contrib.admin import AdminSite
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, URLPattern, URLResolver, path, reverse

from accounts import places
from broker import backoffice

NAVIGATION: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("", (("Today", "index"),)),
    (
        "Identity providers",
        (
            ("Identity providers", "accounts_identityprovider_changelist"),
            ("AWS applications", "accounts_relayapplication_changelist"),
            ("What they say anew", "accounts_providerproposal_changelist"),
        ),
    ),
    (
        "People and groups",
        (
            ("People", "accounts_person_changelist"),
            ("Directory groups", "accounts_directorygroup_changelist"),
        ),
    ),
    (
        "Accounts and roles",
        (
            ("AWS accounts", "broker_awsaccount_changelist"),
            ("AWS roles", "broker_awsrole_changelist"),
            ("Doctor", "broker_trustcheck_changelist"),
            ("Found in AWS", "broker_finding_changelist"),
            ("Environments", "broker_environment_changelist"),
        ),
    ),
    (
        "Mappings and denies",
        (("Mappings", "broker_mapping_changelist"), ("Denies", "broker_deny_changelist")),
    ),
    (
        "Sessions and audit",
        (
            ("Sessions", "broker_session_changelist"),
            ("Terminals", "broker_terminal_changelist"),
            ("Terminal policies", "broker_terminalpolicy_changelist"),
            ("Audit log", "broker_auditevent_changelist"),
        ),
    ),
    (
        "Health and keys",
        (
            ("Health", "health"),
            ("Signing keys", "broker_signingkey_changelist"),
            ("Keys towards SAML providers", "accounts_serviceproviderkey_changelist"),
        ),
    ),
)
"""Task -> its pages, each by the name of its address."""


class DaypassAdminSite(AdminSite):
    """Signed in by the company's identity provider with a group that confers staff, or by break-glass."""

    site_header = "Daypass"
    site_title = "Daypass"
    index_title = "Today"
    site_url = "/"
    enable_nav_sidebar = False
    empty_value_display = ""
    ours: ClassVar = {"accounts", "broker"}

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """Only our own models: what libraries register would be a door past services and audit (threats.md R43)."""
        candidates: list[Any] = (
            [model_or_iterable] if isinstance(model_or_iterable, type) else list(model_or_iterable)
        )
        for model in candidates:
            if model._meta.app_label in self.ours:
                super().register(model, admin_class, **options)

    def has_permission(self, request: HttpRequest) -> bool:
        return backoffice.may_administer(request)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return {**super().each_context(request), "navigation": self._navigation(request)}

    def _navigation(self, request: HttpRequest) -> list[dict[str, Any]]:
        if not self.has_permission(request):
            return []
        here = request.path
        tasks = []
        for title, pages in NAVIGATION:
            entries = []
            for name, address in pages:
                try:
                    url = reverse(f"admin:{address}")
                except NoReverseMatch:
                    continue
                current = here == url if address == "index" else here.startswith(url)
                entries.append({"name": name, "url": url, "current": current})
            if entries:
                tasks.append({"title": title, "pages": entries})
        return tasks

    # --- Doors

    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """The admin has no sign-in of its own: the portal's, and back. Who is signed in and may not is told so."""
        wanted = request.GET.get("next", "")
        if not wanted.startswith(reverse("admin:index")):
            wanted = reverse("admin:index")
        if self.has_permission(request):
            return HttpResponseRedirect(reverse("admin:index"))
        if getattr(request, "principal", None) is not None:
            return render(request, "admin/refused.html", {"title": "Not for you"}, status=403)
        return HttpResponseRedirect(places.sign_in_url(wanted))

    def logout(self, request: HttpRequest, extra_context: Any = None) -> Any:
        return HttpResponseRedirect(reverse("admin:index"))

    def password_change(self, request: HttpRequest, extra_context: Any = None) -> NoReturn:
        raise Http404

    def password_change_done(self, request: HttpRequest, extra_context: Any = None) -> NoReturn:
        raise Http404

    def app_index(
        self, request: HttpRequest, app_label: str, extra_context: Any = None
    ) -> NoReturn:
        raise Http404

    # --- Pages

    def get_urls(self) -> list[URLPattern | URLResolver]:
        own: list[URLPattern | URLResolver] = [
            path("find/", self.admin_view(self.find), name="find"),
            path("health/", self.admin_view(self.health), name="health"),
            *(
                path(page.route, self.admin_view(page.view), name=page.name)
                for page in backoffice.pages
            ),
        ]
        return own + super().get_urls()

    def index(self, request: HttpRequest, extra_context: Any = None) -> TemplateResponse:
        """What needs a hand today, the way from nothing to the first employee at work, and today's figures."""
        order = {"wrong": 0, "soon": 1, "note": 2}
        attentions = [item for source in backoffice.attentions for item in source(request)]
        steps = sorted((step(request) for step in backoffice.steps), key=lambda step: step.number)
        waiting = [step for step in steps if step.state != "done"]
        return TemplateResponse(
            request,
            "admin/index.html",
            {
                **self.each_context(request),
                "title": self.index_title,
                "attentions": sorted(attentions, key=lambda item: order[item.severity]),
                "steps": steps,
                "next_step": waiting[0] if waiting else None,
                "figures": sorted(
                    (item for source in backoffice.figures for item in source(request)),
                    key=lambda item: item.position,
                ),
                "charts": [chart(request) for chart in backoffice.charts],
            },
        )

    def find(self, request: HttpRequest) -> HttpResponse:
        """One search over everything: people, groups, accounts, roles, sessions, and reference numbers."""
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        text = request.GET.get("q", "").strip()[:200]
        hits = [hit for finder in backoffice.finders for hit in finder(text)] if text else []
        if len(hits) == 1:
            return HttpResponseRedirect(hits[0].url)
        found = "Found" if hits else "Nothing found"
        return render(
            request,
            "admin/find.html",
            {
                **self.each_context(request),
                "title": f"{found} for “{text}”" if text else "Find",
                "text": text,
                "hits": hits,
            },
        )

    def health(self, request: HttpRequest) -> HttpResponse:
        """Whether every part that Daypass stands on holds."""
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        return render(
            request,
            "admin/health.html",
            {
                **self.each_context(request),
                "title": "Health",
                "panels": [probe(request) for probe in backoffice.health],
            },
        )
