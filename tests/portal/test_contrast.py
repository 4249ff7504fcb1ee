"""The colours of the stylesheet, computed: WCAG 2.2 asks 4.5 : 1 for text and 3 : 1 for the edges of controls."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CSS = (Path(__file__).parents[2] / "static" / "daypass.css").read_text(encoding="utf-8")
TOKENS = {
    name: {"light": light, "dark": dark}
    for name, light, dark in re.findall(
        r"--([\w-]+):\s*light-dark\((#[0-9a-f]{6}),\s*(#[0-9a-f]{6})\)", CSS
    )
}
COLOURS = ("red", "amber", "green", "blue", "violet", "grey")

TEXT = [
    *[
        (ink, ground)
        for ink in ("ink", "ink-soft", "accent")
        for ground in ("paper", "surface", "hover")
    ],
    ("ink", "sunken"),
    ("ink-soft", "sunken"),
    ("ink", "highlight"),
    ("on-accent", "accent"),
    ("on-accent", "accent-strong"),
    ("accent-strong", "accent-tint"),
    ("accent", "accent-tint"),
    ("ink", "accent-tint"),
    *[
        (f"{c}-ink", ground)
        for c in COLOURS
        for ground in (f"{c}-tint", "paper", "surface", "hover")
    ],
    *[("ink", f"{c}-tint") for c in COLOURS],
    *[("ink-soft", f"{c}-tint") for c in COLOURS],
    *[(f"{c}-on", f"{c}-solid") for c in COLOURS],
    ("red-on", "red-ink"),
]
EDGES = [
    *[("edge", ground) for ground in ("paper", "surface", "sunken")],
    *[("focus", ground) for ground in ("paper", "surface", "sunken", "hover")],
    *[(f"{c}-solid", ground) for c in COLOURS for ground in ("paper", "surface")],
]


def luminance(colour: str) -> float:
    """Relative luminance as WCAG defines it."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_computed_as_wcag_defines_it():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("ink", "ground"), TEXT)
def test_text_can_be_read_on_its_ground(ink, ground, theme):
    assert contrast(TOKENS[ink][theme], TOKENS[ground][theme]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("edge", "ground"), EDGES)
def test_edges_of_controls_can_be_seen(edge, ground, theme):
    assert contrast(TOKENS[edge][theme], TOKENS[ground][theme]) >= 3


def test_every_colour_that_the_stylesheet_uses_is_a_token():
    used = set(re.findall(r"var\(--([\w-]+)", CSS))
    defined = set(re.findall(r"--([\w-]+):", CSS))

    assert used <= defined
    outside_tokens = CSS[CSS.index('[data-theme="light"]') :]
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b", outside_tokens)
