"""What a role's sessions are called in AWS: the template that an administrator writes, and what comes of it. Pure.

A name leads to one person for ever, so every template has the handle, which is given out once, and the random part,
by which Daypass tells the sessions of one person apart. Both stand there once and whole: from the name and the
template the handle can be read back, so no two people can come by the same name (threats.md R36).
"""

from __future__ import annotations

import re

DEFAULT = "{handle}.{random}"
LONGEST = 64
HANDLE_LENGTH = 32
"""The longest handle there is (accounts.rules.HANDLE)."""
RANDOM_LENGTH = 8

_PLACEHOLDER = re.compile(r"\{[^{}]*\}")
_LITERAL = re.compile(r"[A-Za-z0-9_+,.@{}-]*", re.ASCII)


def problem_of_template(template: str) -> str:
    """Why this cannot be a template, in one sentence; "" when it can. An empty one stands for DEFAULT."""
    if not template:
        return ""
    placeholders = _PLACEHOLDER.findall(template)
    strange = [one for one in placeholders if one not in ("{handle}", "{random}")]
    if strange:
        return f"There is no {strange[0][:40]}. Use {{handle}} and {{random}}."
    for needed, why in (
        ("{handle}", "so that it leads to one person"),
        ("{random}", "so that it leads to one session"),
    ):
        if placeholders.count(needed) != 1:
            return f"Write {needed} exactly once, {why}."
    if _LITERAL.fullmatch(template) is None or re.search(r"[{}]", _PLACEHOLDER.sub("", template)):
        return (
            "Beside the placeholders use letters, digits and _ + , . @ - only. "
            "The equals sign marks Daypass's own tasks."
        )
    longest = len(_PLACEHOLDER.sub("", template)) + HANDLE_LENGTH + RANDOM_LENGTH
    if longest > LONGEST:
        return (
            f"With the longest handle, this makes {longest} characters; AWS takes {LONGEST}. "
            f"Leave out {longest - LONGEST}."
        )
    return ""


def fill(template: str, *, handle: str, random: str) -> str:
    """The name of one session. The template has to be without problem."""
    return (template or DEFAULT).replace("{handle}", handle).replace("{random}", random)


def example(template: str) -> str:
    """What a session of somebody called alice is named."""
    return fill(template, handle="alice", random="9f3k2c7d")
