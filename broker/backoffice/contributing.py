"""What stages contribute to pages that are not theirs, and where it is put until a page asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from django.db import models
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.text import slugify


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
    asks: Callable[[Any], str] | None = None
    """The heading of that page, where the label and the object beside each other are no good one."""
    blocked: Callable[[Any], str] = lambda thing: ""
    """Why it cannot be done as long as other things are as they are; that page then says so and has no button."""
    danger: bool = False
    leaves: bool = False
    """Afterwards there is no page to go back to."""
    later: bool = False
    """The worker does it: when the sentence is shown, nothing is done yet."""


PanelMaker = Callable[[HttpRequest, Any], Panel | None]
Teller = Callable[[Any], str]
Contribution = TypeVar("Contribution", bound=Callable[..., Any])

_panels: dict[str, list[tuple[int, PanelMaker]]] = {}
_consequences: dict[tuple[str, str], list[Teller]] = {}
_choices: dict[str, list[Choice]] = {}
_deeds: dict[str, list[Deed]] = {}
pages: list[Page] = []
_marks: dict[str, list[Teller]] = {}
attentions: list[Callable[[HttpRequest], Iterable[Attention]]] = []
steps: list[Callable[[HttpRequest], Step]] = []
figures: list[Callable[[HttpRequest], Iterable[Figure]]] = []
charts: list[Callable[[HttpRequest], Chart]] = []
finders: list[Callable[[str], Iterable[Hit]]] = []
health: list[Callable[[HttpRequest], Panel]] = []


def contributes(room: list[Any]) -> Callable[[Contribution], Contribution]:
    """Put a function into one of the lists above (`attentions`, `steps`, ...)."""

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


def add_deed(label: str, deed: Deed) -> None:
    """Offer a deed on the page of every object of a model ("broker.awsaccount") that belongs to a stage below."""
    _deeds.setdefault(label, []).append(deed)


def choices_of(label: str) -> list[Choice]:
    """What stages contributed for a selection from the list of this model."""
    return _choices.get(label, [])


def consequences_of(thing: models.Model, deed: str) -> list[str]:
    """What stages say that this deed does to an object."""
    tellers = _consequences.get((thing._meta.label_lower, deed), [])
    return [said for teller in tellers if (said := teller(thing))]


def deeds_of(label: str) -> list[Deed]:
    """What stages offer on the page of every object of this model."""
    return _deeds.get(label, [])


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
