"""What every stage's admin.py is built from: one model of rights, writes through services, and what it contributes.

A stage adds to pages that belong to a stage below it (a person's roles belong to entitlements, the person's page to
accounts) by contributing a panel here, so that imports keep flowing one way. This module knows no stage.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar, cast

from django import forms
from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db import models
from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce
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
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst, slugify

from broker.errors import DaypassError

# --- Who may


def may_administer(request: HttpRequest) -> bool:
    """Whether whoever sent this request may use the admin; True opens all of it, there are no half rights.

    Active staff, vouched for by an identity provider, or the local break-glass superuser after a second factor.
    """
    user = request.user
    principal = getattr(request, "principal", None)
    if principal is None or not principal.active or not user.is_active or not user.is_staff:
        return False
    if principal.proof.method == "local":
        return bool(user.is_superuser and principal.proof.mfa)
    return principal.proof.provider_id is not None


# --- What stages contribute


@dataclass(frozen=True, slots=True)
class Panel:
    """A section of an object's page. The template sees `panel.context` as `panel.context.…`."""

    title: str
    template: str
    context: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def anchor(self) -> str:
        """Where on the page it is."""
        return slugify(self.title)


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that needs a hand today. wrong: people are kept from working, or a promise is broken; soon: will be."""

    severity: Literal["wrong", "soon", "note"]
    text: str
    url: str
    action: str


@dataclass(frozen=True, slots=True)
class Step:
    """One step from nothing to the first employee at work. number: its place; pages count from one."""

    number: int
    title: str
    state: Literal["done", "waiting", "wrong"]
    text: str
    url: str
    action: str


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of today, with what it counts. position: its place among the others."""

    value: str
    label: str
    url: str = ""
    note: str = ""
    position: int = 50


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a chart: what stands under it, how much, and how much of that went wrong."""

    label: str
    value: int
    bad: int = 0


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars over time, as small as they are useful. `drawn` places them in a box of 840 by 112."""

    title: str
    bars: tuple[Bar, ...]
    empty: str

    width: ClassVar[int] = 840
    height: ClassVar[int] = 112

    @property
    def total(self) -> int:
        return sum(bar.value for bar in self.bars)

    def drawn(self) -> Iterator[dict[str, Any]]:
        most = max((bar.value for bar in self.bars), default=0) or 1
        step = self.width / max(len(self.bars), 1)
        for number, bar in enumerate(self.bars):
            height = max(round(bar.value / most * self.height), 2)
            bad = round(bar.bad / most * self.height)
            yield {
                "bar": bar,
                "x": round(number * step + step * 0.2, 1),
                "middle": round(number * step + step / 2, 1),
                "width": round(step * 0.6, 1),
                "y": self.height - height,
                "height": height,
                "bad": max(bad, 2) if bar.bad else 0,
                "bad_y": self.height - max(bad, 2),
            }


@dataclass(frozen=True, slots=True)
class Hit:
    """One thing found by the search above every page."""

    kind: str
    title: str
    note: str
    url: str


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a stage's own, below /admin/. name: of its address, in the namespace of the admin."""

    route: str
    name: str
    view: Callable[[HttpRequest], HttpResponse]


@dataclass(frozen=True, slots=True)
class Choice:
    """Something to do with the objects that were ticked in a list; run(request, objects) answers with a page."""

    name: str
    label: str
    run: Callable[[HttpRequest, models.QuerySet[Any]], HttpResponse]


PanelMaker = Callable[[HttpRequest, Any], Panel | None]
Teller = Callable[[Any], str]
Contribution = TypeVar("Contribution", bound=Callable[..., Any])

_panels: dict[str, list[tuple[int, PanelMaker]]] = {}
_consequences: dict[tuple[str, str], list[Teller]] = {}
_choices: dict[str, list[Choice]] = {}
pages: list[Page] = []
_marks: dict[str, list[Teller]] = {}
attentions: list[Callable[[HttpRequest], Iterable[Attention]]] = []
steps: list[Callable[[HttpRequest], Step]] = []
figures: list[Callable[[HttpRequest], Iterable[Figure]]] = []
charts: list[Callable[[HttpRequest], Chart]] = []
finders: list[Callable[[str], Iterable[Hit]]] = []
health: list[Callable[[HttpRequest], Panel]] = []


def contributes(room: list[Any]) -> Callable[[Contribution], Contribution]:
    """Put a function into one of the lists above."""

    def contribute(source: Contribution) -> Contribution:
        room.append(source)
        return source

    return contribute


def panel(*labels: str, position: int = 50) -> Callable[[PanelMaker], PanelMaker]:
    """Contribute a section to the page of every object of these models ("accounts.person"); None leaves it out."""

    def contribute(maker: PanelMaker) -> PanelMaker:
        for label in labels:
            _panels.setdefault(label, []).append((position, maker))
        return maker

    return contribute


def panels_of(request: HttpRequest, thing: models.Model) -> list[Panel]:
    makers = sorted(_panels.get(thing._meta.label_lower, []), key=lambda entry: entry[0])
    return [made for _, maker in makers if (made := maker(request, thing)) is not None]


def consequence(label: str, deed: str) -> Callable[[Teller], Teller]:
    """Contribute a sentence on what a deed does to an object, shown before it is done; "" when it does nothing."""

    def contribute(teller: Teller) -> Teller:
        _consequences.setdefault((label, deed), []).append(teller)
        return teller

    return contribute


def choice(name: str, label: str, *labels: str) -> Callable[[Contribution], Contribution]:
    """Contribute something to do with a selection from the lists of these models ("broker.awsrole")."""

    def contribute(run: Contribution) -> Contribution:
        for model in labels:
            _choices.setdefault(model, []).append(Choice(name, label, run))
        return run

    return contribute


def mark(label: str) -> Callable[[Teller], Teller]:
    """Contribute a chip, or "", to the state of every object of this model in its list; it may ask for no row."""

    def contribute(teller: Teller) -> Teller:
        _marks.setdefault(label, []).append(teller)
        return teller

    return contribute


def marks_of(thing: models.Model) -> SafeString:
    """What stages above say about the state of an object, as chips."""
    said = [teller(thing) for teller in _marks.get(thing._meta.label_lower, ())]
    return format_html_join(" ", "{}", ((one,) for one in said if one))


# --- Writing through services


class ServiceForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form whose saving is one service call, made as the last step of validation.

    The service knows the meaning, so it may still refuse; what it says then stands at its field like any other error.
    """

    request: ClassVar[HttpRequest]

    def write(self) -> models.Model:
        """Call the service with what was cleaned; answers the object as it now is."""
        raise NotImplementedError

    def _post_clean(self) -> None:
        # Without ModelForm's own: it would write the new values into the instance before the service compares them.
        if self.errors:
            return
        try:
            self.instance = self.write()
        except DaypassError as error:
            self.refused(error)

    def refused(self, error: DaypassError) -> None:
        """Put what the service said at the fields that it named, or above the form."""
        named: Mapping[str, Any] = getattr(error, "errors", None) or {}
        for name, said in named.items():
            sentences = [said] if isinstance(said, str) else list(said)
            self.add_error(name if name in self.fields else None, sentences)
        if not named:
            self.add_error(None, f"{error.message} {error.remedy}".strip())

    def save(self, commit: bool = True) -> Any:
        return self.instance

    def save_m2m(self) -> None:
        """The service did it."""


# --- The pages


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that can be done to an object by a button on its page.

    run(request, thing) does it through a service and answers the sentence to show. A deed with `warn` is confirmed on a
    page of its own first, which shows warn(thing) and every contributed consequence.
    """

    name: str
    label: str
    run: Callable[[HttpRequest, Any], str]
    available: Callable[[Any], bool] = lambda thing: True
    warn: Callable[[Any], str] | None = None
    danger: bool = False
    leaves: bool = False
    """Afterwards there is no page to go back to."""


_deeds: dict[str, list[Deed]] = {}


def add_deed(label: str, deed: Deed) -> None:
    """Offer a deed on the page of every object of a model ("broker.awsaccount") that belongs to a stage below."""
    _deeds.setdefault(label, []).append(deed)


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than people page: on ten million rows an exact count costs more than it tells."""

    most = 10_000

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        if isinstance(rows, models.QuerySet):
            return rows.order_by()[: self.most].count()
        return len(rows)


class Rights:
    """Rights are the site's: who may open the admin may do all that a page offers. Django's own rights are unused."""

    addable = True
    changeable = True

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may_administer(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_administer(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.addable and may_administer(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.changeable and may_administer(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Nothing is deleted from the admin: what is not wanted any more is switched off, and the audit stays readable.
        return False


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
    empty = "Nothing here yet."
    intro = ""
    add_title = ""
    list_title = ""
    """What the menu calls the list, where that is not the plural of what is in it."""

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
            for one in _choices.get(self.opts.label_lower, [])
        }

    def every_deed(self) -> list[Deed]:
        """Its own, and what other stages offer."""
        return [*self.deeds, *_deeds.get(self.opts.label_lower, [])]

    def facts(self, request: HttpRequest, thing: Any) -> Sequence[tuple[str, Any]]:
        """Label and value of what the object is, for the head of its page."""
        return ()

    def lead(self, thing: Any) -> str:
        """One sentence under the heading: the state it is in."""
        return ""

    def page(self, request: HttpRequest, thing: Any) -> dict[str, Any]:
        """What every page about one object shows."""
        return {
            "title": str(thing),
            "subtitle": None,
            "lead": self.lead(thing),
            "facts": self.facts(request, thing),
            "panels": panels_of(request, thing),
            "deeds": [
                {
                    "label": deed.label,
                    "url": self.deed_url(thing, deed),
                    "confirmed": deed.warn is not None,
                    "danger": deed.danger,
                }
                for deed in self.every_deed()
                if deed.available(thing)
            ],
        }

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        extra = {
            "title": self.list_title or capfirst(str(self.opts.verbose_name_plural)),
            "empty": self.empty,
            "intro": self.intro,
            "choices": _choices.get(self.opts.label_lower, []),
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
        extra = {"show_save_and_add_another": False, **(extra_context or {})}
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
        if not deed.available(thing):
            messages.info(request, f"{deed.label}: nothing to do, it is done already.")
            return HttpResponseRedirect(self.url_of(thing))
        if request.method == "POST":
            after = self.url_of(thing)
            try:
                messages.success(request, deed.run(request, thing))
                if deed.leaves:
                    after = list_url(self.model)
            except DaypassError as error:
                said = " ".join(filter(None, (error.message, error.cause, error.remedy)))
                messages.error(request, said)
            return HttpResponseRedirect(after)
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "POST"])
        tellers = _consequences.get((thing._meta.label_lower, name), [])
        return render(
            request,
            "admin/deed.html",
            {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "title": f"{deed.label}: {thing}",
                "thing": thing,
                "thing_url": self.url_of(thing),
                "label": deed.label,
                "danger": deed.danger,
                "warning": deed.warn(thing) if deed.warn else "",
                "consequences": [said for teller in tellers if (said := teller(thing))],
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
                **self.page(request, thing),
            },
        )


def url_of(thing: models.Model) -> str:
    """The address of an object's page in the admin."""
    return reverse(
        f"admin:{thing._meta.app_label}_{thing._meta.model_name}_change", args=(thing.pk,)
    )


def how_many(rows: models.QuerySet[Any], by: str) -> Any:
    """A column that counts `rows` of each object on a page, by the name of their foreign key to it.

    A subquery, so that it costs as much as the page shows and not as much as the table holds.
    """
    mine = rows.filter(**{by: OuterRef("pk")}).order_by().values(by)
    return Coalesce(Subquery(mine.annotate(number=Count("pk")).values("number")), 0)


def titled(title: str, kind: type[admin.FieldListFilter]) -> type[admin.FieldListFilter]:
    """A filter of Django's, under a heading of our own."""

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        kind.__init__(self, *args, **kwargs)
        self.title = title

    return type(kind.__name__, (kind,), {"__init__": init})


NOTHING = "\N{EN DASH}"
"""What stands where there is no value."""


def list_url(model: type[models.Model], **filters: Any) -> str:
    """The address of a model's list, filtered."""
    from urllib.parse import urlencode

    base = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return f"{base}?{urlencode(filters)}" if filters else base


# --- Fields that read what people write

_PART = re.compile(
    r"(\d+)\s*(days?|d|hours?|h|minutes?|min|m|seconds?|sec|s)(?![a-z])", re.IGNORECASE
)
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def spoken(seconds: int | None) -> str:
    """A length of time as people say it: 1 h 30 min. Empty for None."""
    if seconds is None:
        return ""
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    said = [
        f"{hours} h" if hours else "",
        f"{minutes} min" if minutes else "",
        f"{left} s" if left else "",
    ]
    return " ".join(filter(None, said)) or "0 s"


class LengthField(forms.CharField):
    """A length of time as people write it (1 h, 90 min, 1 h 30 min, 3600); cleaned to whole seconds or None."""

    def __init__(self, *, least: int = 1, most: int = 10**9, **kwargs: Any) -> None:
        self.least, self.most = least, most
        super().__init__(max_length=40, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return spoken(value) if isinstance(value, int) else value

    def to_python(self, value: Any) -> Any:
        text = str(value or "").strip()
        if not text:
            return None
        if text.isascii() and text.isdigit():
            seconds = int(text)
        elif _PART.sub("", text).strip(" ,"):
            raise forms.ValidationError("Write a length of time such as 1 h, 90 min or 1 h 30 min.")
        else:
            seconds = sum(int(n) * _UNITS[unit[0].lower()] for n, unit in _PART.findall(text))
        if not self.least <= seconds <= self.most:
            raise forms.ValidationError(
                f"It has to be from {spoken(self.least)} to {spoken(self.most)}."
            )
        return seconds

    def validate(self, value: Any) -> None:
        if self.required and value is None:
            raise forms.ValidationError(self.error_messages["required"], code="required")

    def run_validators(self, value: Any) -> None: ...

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.prepare_value(initial) != data)


class LinesField(forms.CharField):
    """One value a line; cleaned to a list without blanks and without repetitions, in the order given."""

    def __init__(self, *, rows: int = 3, **kwargs: Any) -> None:
        kwargs.setdefault(
            "widget", forms.Textarea(attrs={"rows": rows, "spellcheck": "false", "class": "typed"})
        )
        super().__init__(**kwargs)

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list | tuple) else value

    def to_python(self, value: Any) -> Any:
        return list(
            dict.fromkeys(line.strip() for line in str(value or "").splitlines() if line.strip())
        )

    def run_validators(self, value: Any) -> None: ...


class PairsField(forms.CharField):
    """One `key = value` a line; cleaned to a dict."""

    def __init__(self, *, example: str, rows: int = 3, **kwargs: Any) -> None:
        self.example = example
        kwargs.setdefault(
            "widget", forms.Textarea(attrs={"rows": rows, "spellcheck": "false", "class": "typed"})
        )
        super().__init__(**kwargs)

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return "\n".join(f"{key} = {item}" for key, item in value.items())
        return value

    def to_python(self, value: Any) -> Any:
        pairs: dict[str, str] = {}
        for line in str(value or "").splitlines():
            if not line.strip():
                continue
            key, equals, item = line.partition("=")
            if not equals or not key.strip() or not item.strip():
                raise forms.ValidationError(
                    f"“{line.strip()}” is not a pair such as {self.example}."
                )
            if key.strip() in pairs:
                raise forms.ValidationError(f"“{key.strip()}” is there twice.")
            pairs[key.strip()] = item.strip()
        return pairs

    def run_validators(self, value: Any) -> None: ...


class MomentInput(forms.DateTimeInput):
    """The browser's own date and time field; times are UTC, as everywhere in the admin."""

    input_type = "datetime-local"

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%dT%H:%M")


class MomentField(forms.DateTimeField):
    """A date and time, in UTC."""

    widget = MomentInput
    input_formats = ("%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M")
