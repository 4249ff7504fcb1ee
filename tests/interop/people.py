"""Who signs in: one person for every way in which groups arrive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PASSWORD = "correct-horse"
ENGINEERS = "cloud-engineers"
"""The group that gives a role. Whoever is not in it sees none."""


@dataclass(frozen=True)
class Somebody:
    """A person at the providers. groups: as the provider keeps them; None for no such attribute at all.

    keys: what Daypass has to understand, exactly; None when it has to refuse.
    """

    login: str
    name: str
    groups: Any
    keys: tuple[str, ...] | None

    def attributes(self) -> dict[str, Any]:
        """As SAML attributes: lists of texts."""
        found: dict[str, Any] = {
            "uid": [self.login],
            "displayName": [self.name],
            "mail": [f"{self.login}@example.org"],
        }
        if self.groups is not None:
            found["groups"] = list(self.groups)
        return found

    def claims(self) -> dict[str, Any]:
        """As claims."""
        found: dict[str, Any] = {
            "preferred_username": self.login,
            "name": self.name,
            "email": f"{self.login}@example.org",
        }
        if self.groups is not None:
            found["groups"] = self.groups
        return found


MANY = (*(f"team-{number:03}" for number in range(199)), ENGINEERS)
AWKWARD = (
    "Ünïcøde 東京 Ω",
    "<b>bold</b> & \"quoted\" 'single' ]]> <!-- no comment -->",
    " blank at both ends ",
    "two  blanks inside",
    "comma, semicolon; colon: slash/ back\\slash|pipe",
    "CN=Cloud\\, Admins,OU=Groups,DC=example,DC=org",
    "Cloud-Engineers",
    "${jndi} {{ 7*7 }} %s",
)

ADA = Somebody(
    "ada", "Ada Example", ("staff", ENGINEERS, "on-call"), ("staff", ENGINEERS, "on-call")
)
EVERY_LIST = (
    ADA,
    Somebody("olga", "Olga One", (ENGINEERS,), (ENGINEERS,)),
    Somebody("nobu", "Nobu None", (), ()),
    Somebody("anna", "Anna Absent", None, ()),
    Somebody("aoife", "Aoife Ó Briain <script>", (*AWKWARD, ENGINEERS), (*AWKWARD, ENGINEERS)),
    Somebody("hugo", "Hugo Hundreds", MANY, MANY),
)
"""People whose groups are lists, as both protocols have them."""

SAML_PEOPLE = EVERY_LIST
SVEN = Somebody(
    "sven",
    "Sven Separated",
    f"staff {ENGINEERS} on-call",
    (f"staff {ENGINEERS} on-call",),
)
"""One text with blanks: one group, unless the claim map says that it is several."""
OIDC_PEOPLE = (
    *EVERY_LIST,
    SVEN,
    Somebody("otto", "Otto Object", {"cloud": [ENGINEERS]}, None),
    Somebody("mia", "Mia Mixed", [ENGINEERS, 42], None),
    Somebody("nils", "Nils Nested", [[ENGINEERS]], None),
)
