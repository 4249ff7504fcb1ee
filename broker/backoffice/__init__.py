"""What every stage's admin.py is built from: one model of rights, writes through services, and what it contributes.

A stage adds to pages that belong to a stage below it (a person's roles belong to entitlements, the person's page to
accounts) by contributing a panel here, so that imports keep flowing one way. This package knows no stage.
"""

from __future__ import annotations

from broker.backoffice.contributing import (
    Attention,
    Bar,
    Chart,
    Choice,
    Deed,
    Figure,
    Hit,
    Page,
    Panel,
    Step,
    add_deed,
    attentions,
    charts,
    choice,
    consequence,
    contributes,
    figures,
    finders,
    health,
    mark,
    marks_of,
    pages,
    panel,
    panels_of,
    steps,
)
from broker.backoffice.fields import (
    LengthField,
    LinesField,
    MomentField,
    MomentInput,
    PairsField,
    spoken,
)
from broker.backoffice.objects import CappedPaginator, DaypassAdmin, DetailAdmin
from broker.backoffice.pieces import NOTHING, how_many, list_url, titled, url_of
from broker.backoffice.rights import Rights, may_administer
from broker.backoffice.writing import ServiceForm

__all__ = [
    "NOTHING",
    "Attention",
    "Bar",
    "CappedPaginator",
    "Chart",
    "Choice",
    "DaypassAdmin",
    "Deed",
    "DetailAdmin",
    "Figure",
    "Hit",
    "LengthField",
    "LinesField",
    "MomentField",
    "MomentInput",
    "Page",
    "PairsField",
    "Panel",
    "Rights",
    "ServiceForm",
    "Step",
    "add_deed",
    "attentions",
    "charts",
    "choice",
    "consequence",
    "contributes",
    "figures",
    "finders",
    "health",
    "how_many",
    "list_url",
    "mark",
    "marks_of",
    "may_administer",
    "pages",
    "panel",
    "panels_of",
    "spoken",
    "steps",
    "titled",
    "url_of",
]
