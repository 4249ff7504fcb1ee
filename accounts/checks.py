"""System checks of sign-in: what is unsafe or contradictory stops the start, with an id and a hint."""

from __future__ import annotations
