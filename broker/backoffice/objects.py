"""The list of a kind of object, and the page of each: facts, panels and deeds, and a form where there is one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db import models
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils.functional import cached_property
from django.utils.text import capfirst

from broker.backoffice.contributing import (
    Choice,
    Deed,
    choices_of,
    consequences_of,
    deeds_of,
    panels_of,
)
from broker.backoffice.pieces import list_url, url_of
from broker.backoffice.rights import Rights, may_administer
from broker.backoffice.writing import ServiceForm
from broker.errors import DaypassError


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than people page: on ten million rows an exact count costs more than it tells."""

    most = 10_000

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        if isinstance(rows, models.QuerySet):
            return rows.order_by()[: self.most].count()
        return len(rows)


def _action(one: Choice) -> Callable[..., HttpResponse]:
    """A choice as Django calls it."""
    return lambda model_admin, request, chosen: one.run(request, chosen)


class DaypassAdmin(Rights, admin.ModelAdmin):  # type: ignore[type-arg]
    """A list and, per object, a page with facts, panels and deeds; and a form where there is something to fill in."""

    actions = None
    list_per_page = 50
    show_full_result_count = False
    paginator = CappedPaginator
    save_on_top = False
    deeds: Sequence[Deed] = ()
    empty_title = ""
    empty = "Nothing here yet."
    intro = ""
    add_title = ""
    list_title = ""
    """What the menu calls the list, where that is not the plural of what is in it."""
    early: Sequence[str] = ()
    """Titles of the panels that stand above the form."""

    def form_class(self, request: HttpRequest, obj: Any) -> type[ServiceForm]:
        """The form of this object, or with None of a new one. It declares every field that it asks."""
        return cast(type[ServiceForm], self.form)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form = self.form_class(request, obj)
        return type(form.__name__, (form,), {"request": request})

    # The service has written already (ServiceForm); the audit log is the one record of who changed what.
    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None: ...
    def save_related(
        self, request: HttpRequest, form: Any, formsets: Any, change: bool
    ) -> None: ...
    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any: ...
    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any: ...

    @property
    def media(self) -> forms.Media:
        """Django's, without its script for actions, which looks for a bar that the lists here do not have."""
        whole: Any = super().media
        scripts = [one for one in whole._js if not str(one).endswith("admin/js/actions.js")]
        return forms.Media(js=scripts, css=whole._css)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """What stages contribute for a selection; Django then puts a box before every row."""
        if not may_administer(request):
            return {}
        return {
            one.name: (_action(one), one.name, one.label)
            for one in choices_of(self.opts.label_lower)
        }

    def every_deed(self) -> list[Deed]:
        """Its own, and what other stages offer."""
        return [*self.deeds, *deeds_of(self.opts.label_lower)]

    def facts(self, request: HttpRequest, thing: Any) -> Sequence[tuple[str, Any]]:
        """Label and value of what the object is, for the head of its page."""
        return ()

    def heading(self, thing: Any) -> str:
        """What stands above its page, and above the pages of its deeds."""
        return str(thing)

    def lead(self, thing: Any) -> str:
        """One sentence under the heading: the state it is in."""
        return ""

    def page(self, request: HttpRequest, thing: Any) -> dict[str, Any]:
        """What every page about one object shows."""
        return {
            "title": self.heading(thing),
            "subtitle": None,
            "lead": self.lead(thing),
            "facts": self.facts(request, thing),
            "panels": panels_of(request, thing),
            "early": self.early,
            "deeds": [
                {
                    "label": deed.label,
                    "url": self.deed_url(thing, deed),
                    "confirmed": deed.warn is not None,
                    "danger": deed.danger,
                }
                for deed in sorted(self.every_deed(), key=lambda one: one.danger)
                if deed.available(thing)
            ],
        }

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        extra = {
            "title": self.list_title or capfirst(str(self.opts.verbose_name_plural)),
            "empty": self.empty,
            "intro": self.intro,
            "choices": choices_of(self.opts.label_lower),
            **(extra_context or {}),
        }
        return super().changelist_view(request, extra)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: Any = None,
    ) -> HttpResponse:
        extra = {
            "show_save_and_add_another": False,
            "list_title": self.list_title,
            **(extra_context or {}),
        }
        if object_id is None:
            extra.setdefault("title", self.add_title or f"Add {self.opts.verbose_name}")
        else:
            thing = self.get_object(request, object_id)
            if thing is None:
                raise Http404
            extra = {**self.page(request, thing), **extra}
        # Not Django's transaction around the whole view: the service owns it, and may ask others before it begins.
        view: Any = getattr(self, "_changeform_view")  # noqa: B009
        answer: HttpResponse = view(request, object_id, form_url, extra)
        return answer

    # Deeds

    def get_urls(self) -> list[URLPattern]:
        own = path(
            "<path:object_id>/do/<slug:name>/",
            self.admin_site.admin_view(self.deed_view),
            name=f"{self.opts.app_label}_{self.opts.model_name}_do",
        )
        return [own, *super().get_urls()]

    def deed_url(self, thing: models.Model, deed: Deed) -> str:
        return reverse(
            f"admin:{self.opts.app_label}_{self.opts.model_name}_do", args=(thing.pk, deed.name)
        )

    def url_of(self, thing: models.Model) -> str:
        return url_of(thing)

    def deed_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        thing = self.get_object(request, object_id)
        deed = next((d for d in self.every_deed() if d.name == name), None)
        if thing is None or deed is None or not may_administer(request):
            raise Http404
        heading = self.heading(thing)
        if not deed.available(thing):
            messages.info(
                request,
                f"{heading}: “{deed.label}” is not possible or not needed now. Nothing was changed.",
            )
            return HttpResponseRedirect(self.url_of(thing))
        if request.method == "POST":
            after = self.url_of(thing)
            try:
                said = deed.run(request, thing)
                (messages.info if deed.later else messages.success)(request, said)
                if deed.leaves:
                    after = list_url(self.model)
            except DaypassError as error:
                messages.error(request, error.explained)
            return HttpResponseRedirect(after)
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "POST"])
        off = next((d for d in self.every_deed() if d.name == "off" and d.available(thing)), None)
        return render(
            request,
            "admin/deed.html",
            {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "title": deed.asks(thing) if deed.asks else f"{deed.label}: {heading}",
                "thing": heading,
                "thing_url": self.url_of(thing),
                "label": deed.label,
                "danger": deed.danger,
                "later": deed.later,
                "about_you": thing == request.user,
                "blocked": deed.blocked(thing),
                "off": off,
                "off_url": self.deed_url(thing, off) if off else "",
                "warning": deed.warn(thing) if deed.warn else "",
                "consequences": consequences_of(thing, name),
            },
        )

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        """The audit log holds the history of everything; there is no second one."""
        if not may_administer(request):
            raise Http404
        return HttpResponseRedirect(
            reverse("admin:broker_auditevent_changelist") + f"?subject_id={object_id}"
        )


class DetailAdmin(DaypassAdmin):
    """Nothing to fill in: the object's page is for reading, and for the deeds it offers."""

    addable = False
    changeable = False
    detail_template = "admin/detail.html"

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: Any = None,
    ) -> HttpResponse:
        if object_id is None or not may_administer(request):
            raise Http404
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        thing = self.get_object(request, object_id)
        if thing is None:
            raise Http404
        return render(
            request,
            self.detail_template,
            {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "original": thing,
                "list_title": self.list_title,
                **self.page(request, thing),
            },
        )
