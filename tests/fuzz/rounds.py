"""One round at each door: an honest message, changed, and who came out of it.

The oracle: no answer is a server error and nothing is raised; whoever is signed in is the subject of what the
provider's key really signed in this round, with none but the groups in it; a logout ends nobody's session but those of
the subject or the session that was signed; nothing else about people changes.
"""

from __future__ import annotations

import base64
import json
import secrets
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from django.db import transaction
from lxml import etree

from accounts.models import Membership, Person
from tests.accounts import web
from tests.accounts.idp_saml import SAML, SAMLP
from tests.attacks.dsig import sign
from tests.attacks.registry import STAGES, World, nothing_counted
from tests.attacks.stages import GOOD, HONEST, OidcStage, SamlStage
from tests.fuzz import mutations


@dataclass
class Found:
    """What went wrong in a round, with the message that did it."""

    problem: str
    message: bytes


@dataclass
class Ended:
    """How a round ended. allowed: whom the provider signed, with which groups at most."""

    status: int
    message: bytes
    allowed: dict[str, set[str]] = field(default_factory=dict)


Play = Callable[[Random, Any], Ended]


@contextmanager
def _undone() -> Iterator[None]:
    with transaction.atomic():
        try:
            yield
        finally:
            transaction.set_rollback(True)


def play(door: str, random: Random, stage: Any) -> tuple[int, bool, Found | None]:
    """One round on a stage, undone afterwards. Answers the status, whether somebody was signed in, and a find."""
    nothing_counted()
    before = World.now()
    ended: Ended | None = None
    with _undone():
        try:
            ended = DOORS[door][1](random, stage)
        except Exception as error:  # whatever it is, it is a find
            return 0, False, Found(f"{type(error).__name__}: {error}", b"")
        after = World.now()
        problem = _judge(ended, before, after, door)
        came_in = after.signed_in != before.signed_in
    return ended.status, came_in, Found(problem, ended.message) if problem else None


def _judge(ended: Ended, before: World, after: World, door: str) -> str:
    if ended.status >= 500:
        return f"answered with {ended.status}"
    if after.trusted != before.trusted:
        return "what is pinned about a provider changed"
    if door in ("sls", "back-channel"):
        return "" if after.signed_in >= before.signed_in else "a session ended that nobody named"
    known = {row[0] for row in before.people}
    for person in Person.objects.exclude(pk__in=known):
        if person.subject not in ended.allowed:
            return f"{person.subject!r} came in; the provider signed {sorted(ended.allowed)!r}"
        held = set(Membership.objects.filter(person=person).values_list("group__key", flat=True))
        if not held <= ended.allowed[person.subject]:
            return f"{person.subject!r} came in with {sorted(held)!r}"
        if person.is_staff or person.is_superuser:
            return f"{person.subject!r} came in as an administrator"
    if {row for row in after.people if row[0] in known} != set(before.people):
        return "somebody else's row changed"
    return ""


def _few(random: Random) -> int:
    return random.choice((1, 1, 1, 2, 3, 5))


# --- SAML


def _signed_facts(root: etree._Element) -> dict[str, set[str]]:
    """Subjects and texts of every assertion in what the provider signed."""
    allowed: dict[str, set[str]] = {}
    for assertion in root.iter(f"{{{SAML}}}Assertion"):
        texts = {value.text or "" for value in assertion.iter(f"{{{SAML}}}AttributeValue")}
        for name in assertion.iter(f"{{{SAML}}}NameID"):
            allowed.setdefault(name.text or "", set()).update(texts)
    return allowed


def _acs(random: Random, stage: SamlStage) -> Ended:
    groups = random.sample(
        ["aws-admins", "aws-readers", "Zürich", "a,b", " padded "], k=random.randrange(4)
    )
    browser, root = stage.ask(
        name_id=f"u-{random.randrange(3)}", attributes=GOOD | {"groups": groups}
    )
    first = random.random() < 0.4
    if first:  # the provider itself signs something that is wrong
        for _ in range(_few(random)):
            mutations.tree(random, root)
    try:
        stage.sign(root, response=None if random.random() < 0.1 else HONEST)
    except Exception:  # nothing left that could be signed
        first = True
    allowed = _signed_facts(root)
    if not first or random.random() < 0.2:
        for _ in range(_few(random)):
            mutations.tree(random, root)
    raw = etree.tostring(root)
    if random.random() < 0.15:
        raw = mutations.octets(random, raw)
    answer = stage.post(
        browser, base64.b64encode(raw).decode(), random.choice(["acme"] * 9 + ["other"])
    )
    return Ended(answer.status_code, raw, allowed)


def _sls(random: Random, stage: SamlStage) -> Ended:
    """A logout message about somebody else, changed: the one who is signed in stays."""
    sls = f"{web.ORIGIN}/saml/acme/sls/"
    raw = stage.idp.logout_request(sls, name_id="somebody-else", session_index="elsewhere")
    root = etree.fromstring(raw)
    by_post, first = random.random() < 0.4, random.random() < 0.4
    if first:
        _change_logout(random, root)
    if by_post:
        try:
            sign(root, stage.idp.key)
        except Exception:
            first = False
    if not first:
        _change_logout(random, root)
    raw = etree.tostring(root)
    if by_post:
        data = {"SAMLRequest": base64.b64encode(raw).decode()}
        answer = stage.browser().post("/saml/acme/sls/", data, secure=True)
        return Ended(answer.status_code, raw)
    url = stage.idp.redirect(sls, "SAMLRequest", raw) if first else _badly_signed(random, sls, raw)
    answer = stage.browser().get(url.removeprefix(web.ORIGIN), secure=True)
    return Ended(answer.status_code, url.encode())


def _change_logout(random: Random, root: etree._Element) -> None:
    for _ in range(_few(random)):
        mutations.tree(random, root)
    # What is signed may come to name the victim by chance: that would be the provider's word, and no find.
    for name in root.iter(f"{{{SAML}}}NameID", f"{{{SAMLP}}}SessionIndex"):
        if (name.text or "") in ("u-0001", "s-1"):
            name.text = "somebody-else"


def _badly_signed(random: Random, sls: str, raw: bytes) -> str:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = base64.b64encode(packer.compress(raw) + packer.flush()).decode()
    fields = {
        "SAMLRequest": packed,
        "SigAlg": random.choice(
            ["http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", *mutations.WORDS]
        ),
        "Signature": random.choice(
            ["", "AAAA", "!", base64.b64encode(secrets.token_bytes(256)).decode()]
        ),
        "RelayState": random.choice(mutations.WORDS),
    }
    names = random.sample(list(fields), k=random.randrange(1, 5)) + random.sample(list(fields), k=1)
    return f"{sls}?" + "&".join(f"{quote(n)}={quote(fields[n], safe='')}" for n in names)


# --- OpenID Connect


def _segment(document: Any) -> str:
    raw = json.dumps(document).encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _opened(part: str) -> dict[str, Any]:
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def _signed(stage: OidcStage, head: dict[str, Any], claims: dict[str, Any]) -> str:
    """The provider's own signature over whatever it is, whatever the header says."""
    text = f"{_segment(head)}.{_segment(claims)}"
    private = stage.op.key.get_op_key("sign")
    made = private.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{text}.{base64.urlsafe_b64encode(made).rstrip(b'=').decode()}"


def _facts(claims: dict[str, Any]) -> dict[str, set[str]]:
    subject, groups = claims.get("sub"), claims.get("groups")
    listed = groups if isinstance(groups, list) else [groups]
    return (
        {subject: {one for one in listed if isinstance(one, str)}}
        if isinstance(subject, str)
        else {}
    )


def _changed_token(random: Random, stage: OidcStage, text: str) -> tuple[str, dict[str, set[str]]]:
    """A token that was changed and perhaps signed again, and whom the provider's signature then stands for."""
    first, second, signature = text.split(".")
    head, claims = _opened(first), _opened(second)
    allowed = _facts(claims)
    for _ in range(_few(random)):
        if random.random() < 0.8:
            mutations.claims(random, claims)
        else:
            mutations.header(random, head)
    if random.random() < 0.6:
        text, allowed = _signed(stage, head, claims), _facts(claims)
    else:
        text = f"{_segment(head)}.{_segment(claims)}.{signature}"
    return (mutations.token(random, text) if random.random() < 0.25 else text), allowed


def _callback(random: Random, stage: OidcStage) -> Ended:
    made: list[tuple[str, dict[str, set[str]]]] = []

    def bend(text: str) -> str:
        made.append(_changed_token(random, stage, text))
        return made[-1][0]

    def bend_answer(answer: dict[str, Any]) -> None:
        if random.random() < 0.15:
            mutations.claims(random, answer)

    stage.op.bend_token, stage.op.bend_answer = bend, bend_answer
    stage.op.person = {**stage.op.person, "sub": f"s-{random.randrange(3)}"}
    browser = stage.browser()
    address = stage.callback(browser)
    if random.random() < 0.1:
        address += "&" + urlencode(
            {random.choice(["state", "code", "iss", "error"]): random.choice(mutations.WORDS)}
        )
    answer = web.call_back(browser, address)
    text, allowed = made[-1] if made else (address, {})
    return Ended(answer.status_code, text.encode("utf-8", "surrogatepass"), allowed)


def _back_channel(random: Random, stage: OidcStage) -> Ended:
    """A logout token about somebody else, changed: the one who is signed in stays."""
    text = stage.op.logout_token(sid="elsewhere")
    head, claims = (_opened(part) for part in text.split(".")[:2])
    claims["sub"] = "somebody-else"
    for _ in range(_few(random)):
        mutations.claims(random, claims)
        if random.random() < 0.2:
            mutations.header(random, head)
    if claims.get("sub") == stage.subject:
        claims["sub"] = "somebody-else"
    text = _signed(stage, head, claims)
    if random.random() < 0.3:
        text = mutations.token(random, text)
    answer = stage.browser().post("/oidc/globex/logout/", {"logout_token": text}, secure=True)
    return Ended(answer.status_code, text.encode("utf-8", "surrogatepass"))


DOORS: dict[str, tuple[str, Play]] = {
    "acs": ("saml", _acs),
    "sls": ("saml", _sls),
    "callback": ("oidc", _callback),
    "back-channel": ("oidc", _back_channel),
}


@contextmanager
def stage_for(door: str) -> Iterator[Any]:
    """The stage of a door, with somebody signed in where the door could sign them out. Undone afterwards."""
    with _undone():
        nothing_counted()
        with STAGES[DOORS[door][0]]() as stage:
            if door == "sls":
                web.saml_sign_in(stage.browser(), stage.idp, attributes=GOOD)
            if door == "back-channel":
                stage.sign_in()
            yield stage
