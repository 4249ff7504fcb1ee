"""Verified SAML attributes or OIDC claims + a claim map -> a person and groups, or a refusal. Pure.

What arrives here was signed by the provider; this module decides what of it Daypass believes and how it is written.
Text is taken byte for byte: nothing is trimmed, folded or split unless the claim map says so.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from broker.errors import BadInput, SignInRefused

MAX_GROUPS = 2000
MAX_GROUP_LENGTH = 512
MAX_ATTRIBUTE_VALUES = 50
MAX_ATTRIBUTE_LENGTH = 1024
MAX_ATTRIBUTES = 50
MAX_SUBJECT_LENGTH = 255

Path = tuple[str, ...]
"""Where a value is: one SAML attribute Name, or the steps into nested claims ("realm_access", "roles")."""

ENTRA_GROUPS = "http://schemas.microsoft.com/ws/2008/06/identity/claims/groups"
ENTRA_GROUPS_LINK = "http://schemas.microsoft.com/claims/groups.link"
ENTRA_METHODS = "http://schemas.microsoft.com/claims/authnmethodsreferences"
"""The SAML attribute in which Entra ID and AD FS list how somebody authenticated; read as OIDC's `amr`."""

TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"

_ADDRESS = re.compile(r"[^@\s<>\"(),:;\\\[\]]{1,64}@[A-Za-z0-9.-]{1,189}")
_ATTRIBUTE_NAME = re.compile(r"[A-Za-z0-9 _.:/=+@-]{1,128}")


class GroupForm(StrEnum):
    """How the values at the groups path are written."""

    VALUES = "values"
    SEPARATED = "separated"
    DISTINGUISHED_NAMES = "distinguished_names"
    LAST_SEGMENT = "last_segment"


@dataclass(frozen=True, slots=True)
class ClaimMap:
    """How one provider's attributes or claims become a person and groups.

    subject: where the immutable id of a person is. Empty: the SAML NameID, and always `sub` for OpenID Connect.
    username: only looked at once, to derive a readable handle. name, email: for people to read.
    groups, groups_form, separator: where group keys are and how they are written. An empty path: no groups.
    attributes: person attributes by name, for session tags.
    mfa_contexts, mfa_methods: the AuthnContextClassRef or acr values, and the amr values, that mean multi-factor.
    """

    subject: Path = ()
    username: Path = ()
    name: Path = ()
    email: Path = ()
    groups: Path = ()
    groups_form: GroupForm = GroupForm.VALUES
    separator: str = " "
    attributes: Mapping[str, Path] = field(default_factory=dict)
    mfa_contexts: tuple[str, ...] = ()
    mfa_methods: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads; empty parts are left out."""
        whole: dict[str, Any] = {
            "subject": list(self.subject),
            "username": list(self.username),
            "name": list(self.name),
            "email": list(self.email),
            "groups": list(self.groups),
            "groups_form": self.groups_form.value,
            "separator": self.separator if self.groups_form is GroupForm.SEPARATED else "",
            "attributes": {name: list(path) for name, path in self.attributes.items()},
            "mfa_contexts": list(self.mfa_contexts),
            "mfa_methods": list(self.mfa_methods),
        }
        return {key: value for key, value in whole.items() if value}

    @classmethod
    def from_json(cls, document: object) -> ClaimMap:
        """Read what an administrator wrote or `to_json` made. A path is a text or a list of texts.

        Raises BadInput naming the part that cannot be understood.
        """
        if not isinstance(document, Mapping):
            raise BadInput("The claim map has to be an object with parts such as name and groups.")
        known = {
            "subject",
            "username",
            "name",
            "email",
            "groups",
            "groups_form",
            "separator",
            "attributes",
            "mfa_contexts",
            "mfa_methods",
        }
        unknown = sorted(str(key) for key in set(document) - known)
        if unknown:
            raise BadInput(f"The claim map does not know “{unknown[0]}”.")
        try:
            form = GroupForm(document.get("groups_form", GroupForm.VALUES.value))
        except ValueError:
            raise BadInput(
                "How groups are written has to be one of: " + ", ".join(f.value for f in GroupForm)
            ) from None
        separator = document.get("separator", " ")
        if not isinstance(separator, str) or not 1 <= len(separator) <= 3:
            raise BadInput("The separator has to be one to three characters.")
        attributes = document.get("attributes", {})
        if not isinstance(attributes, Mapping) or len(attributes) > MAX_ATTRIBUTES:
            raise BadInput(
                f"Person attributes have to be at most {MAX_ATTRIBUTES} names, each with a path."
            )
        for name in attributes:
            if not isinstance(name, str) or not _ATTRIBUTE_NAME.fullmatch(name):
                raise BadInput(
                    f"“{name}” cannot be the name of a person attribute: use 1 to 128 letters, digits, "
                    "spaces and _.:/=+@-"
                )
        return cls(
            subject=_path(document.get("subject", ()), "subject"),
            username=_path(document.get("username", ()), "username"),
            name=_path(document.get("name", ()), "name"),
            email=_path(document.get("email", ()), "email"),
            groups=_path(document.get("groups", ()), "groups"),
            groups_form=form,
            separator=separator,
            attributes={
                name: _required(_path(path, name), name) for name, path in attributes.items()
            },
            mfa_contexts=_words(document.get("mfa_contexts", ()), "mfa_contexts"),
            mfa_methods=_words(document.get("mfa_methods", ()), "mfa_methods"),
        )


def _path(value: object, where: str) -> Path:
    if isinstance(value, str):
        value = [value] if value else []
    if not isinstance(value, list | tuple) or len(value) > 8:
        raise BadInput(f"The path of “{where}” has to be a name, or a list of up to eight names.")
    for step in value:
        if not isinstance(step, str) or not step or len(step) > 512 or _has_control(step):
            raise BadInput(f"The path of “{where}” has a step that is not a name.")
    return tuple(value)


def _required(path: Path, where: str) -> Path:
    if not path:
        raise BadInput(f"The person attribute “{where}” needs a path.")
    return path


def _words(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or len(value) > 50:
        raise BadInput(f"“{where}” has to be a list of texts.")
    for word in value:
        if not isinstance(word, str) or not word or len(word) > 512 or _has_control(word):
            raise BadInput(f"“{where}” has an entry that is not a text.")
    return tuple(dict.fromkeys(value))


_MFA_CONTEXTS = (
    "https://refeds.org/profile/mfa",
    "http://schemas.microsoft.com/claims/multipleauthn",
)
_SOAP = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/"

PRESETS: Mapping[str, ClaimMap] = {
    "saml": ClaimMap(
        username=("uid",),
        name=("displayName",),
        email=("mail",),
        groups=("groups",),
        mfa_contexts=_MFA_CONTEXTS,
    ),
    "oidc": ClaimMap(
        username=("preferred_username",),
        name=("name",),
        email=("email",),
        groups=("groups",),
        mfa_methods=("mfa",),
    ),
    "entra-saml": ClaimMap(
        subject=("http://schemas.microsoft.com/identity/claims/objectidentifier",),
        username=(_SOAP + "name",),
        name=("http://schemas.microsoft.com/identity/claims/displayname",),
        email=(_SOAP + "emailaddress",),
        groups=(ENTRA_GROUPS,),
        mfa_contexts=_MFA_CONTEXTS,
        mfa_methods=("http://schemas.microsoft.com/claims/multipleauthn",),
    ),
    "entra-oidc": ClaimMap(
        username=("preferred_username",),
        name=("name",),
        email=("email",),
        groups=("groups",),
        mfa_methods=("mfa",),
    ),
    "keycloak-oidc": ClaimMap(
        username=("preferred_username",),
        name=("name",),
        email=("email",),
        groups=("realm_access", "roles"),
        mfa_methods=("mfa", "otp"),
    ),
    "okta-saml": ClaimMap(
        username=("login",),
        name=("displayName",),
        email=("email",),
        groups=("groups",),
        mfa_contexts=_MFA_CONTEXTS,
    ),
    "adfs-saml": ClaimMap(
        username=(_SOAP + "upn",),
        name=(_SOAP + "name",),
        email=(_SOAP + "emailaddress",),
        groups=("http://schemas.xmlsoap.org/claims/Group",),
        mfa_contexts=_MFA_CONTEXTS,
        mfa_methods=("http://schemas.microsoft.com/claims/multipleauthn",),
    ),
}
"""Starting points for an administrator, by the names that common providers use."""


@dataclass(frozen=True, slots=True)
class VerifiedAttributes:
    """What a provider's verified message says. Only `accounts.saml` and `accounts.oidc` make one.

    subject: the SAML NameID (None when there was none) or the OIDC `sub`, as it arrived.
    attributes: SAML attribute Name -> tuple of values, or the ID token's claims. A SAML value that is not plain text
    stands as None. group_claims: where groups are read instead (the userinfo answer about the same subject).
    at: when the person authenticated, where the message says so. session_ends: when the provider wants it to end.
    evidence: ids that tie a session to the message; logout: what a sign-out at the provider needs.
    checks: what was checked and what was seen there, in words, for the administrator who tries the provider.
    """

    protocol: Literal["saml", "oidc"]
    subject: str | None
    attributes: Mapping[str, Any]
    group_claims: Mapping[str, Any] | None = None
    context: str = ""
    methods: tuple[str, ...] = ()
    at: datetime | None = None
    session_ends: datetime | None = None
    evidence: Mapping[str, str] = field(default_factory=dict)
    logout: Mapping[str, str] = field(default_factory=dict)
    checks: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PersonClaims:
    """A person as one provider vouches for them: what a claim map made of a verified message."""

    subject: str
    username: str
    name: str
    email: str
    groups: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]
    mfa: bool
    context: str
    methods: tuple[str, ...]
    at: datetime | None


def understand(verified: VerifiedAttributes, claim_map: ClaimMap) -> PersonClaims:
    """Apply a claim map. Raises SignInRefused; its `cause` and `remedy` are for administrators."""
    claims = verified.attributes
    if verified.protocol == "saml":
        methods = tuple(
            value
            for value in (*verified.methods, *_listed(claims.get(ENTRA_METHODS)))
            if isinstance(value, str)
        )
        verified = replace(verified, methods=methods)
    attributes = {
        name: texts(
            find(claims, path),
            f"the person attribute “{name}”",
            most=MAX_ATTRIBUTE_VALUES,
            longest=MAX_ATTRIBUTE_LENGTH,
        )
        for name, path in claim_map.attributes.items()
    }
    return PersonClaims(
        subject=_subject(verified, claim_map),
        username=_shown(find(claims, claim_map.username), 255),
        name=_shown(find(claims, claim_map.name), 200),
        email=_email(_shown(find(claims, claim_map.email), 254)),
        groups=_groups(verified, claim_map),
        attributes={name: values for name, values in attributes.items() if values},
        mfa=(bool(verified.context) and verified.context in claim_map.mfa_contexts)
        or not set(verified.methods).isdisjoint(claim_map.mfa_methods),
        context=verified.context[:512],
        methods=verified.methods[:50],
        at=verified.at,
    )


def find(claims: Mapping[str, Any], path: Path) -> Any:
    """The value at a path, None when there is none. SAML attributes and claims are looked up alike."""
    if not path:
        return None
    found: Any = claims
    for step in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(step)
    return found


def texts(value: Any, what: str, *, most: int, longest: int) -> tuple[str, ...]:
    """One text or a list of texts, as they arrived, without repetition. Nothing at all is an empty tuple.

    A text is one value and never taken apart; empty texts say nothing and are left out. Raises SignInRefused for
    anything else than text, for control characters, and for more or longer values than are allowed.
    """
    values = _listed(value)
    if len(values) > most:
        raise _unusable(
            f"{what} has {len(values)} values; at most {most} are read",
            "Send fewer values: only the groups that are assigned to Daypass, or a narrower claim.",
            code="too_many_values",
        )
    for one in values:
        if not isinstance(one, str):
            raise _unusable(
                f"{what} holds a value that is not text ({type(one).__name__})",
                "Point the claim map at the text itself, or let the provider send plain text values.",
            )
        if len(one) > longest:
            raise _unusable(
                f"{what} holds a value of {len(one)} characters; {longest} are allowed",
                "Send ids or short names instead.",
            )
        unseen = next(filter(_is_control, one), None)
        if unseen is not None:
            raise _unusable(
                f"{what} holds {ascii(one)[:120]}, in which U+{ord(unseen):04X} is a control character or another "
                "that cannot be seen",
                "Remove it in the directory or at the provider.",
            )
    return tuple(dict.fromkeys(one for one in values if one))


def check_subject(value: object) -> str:
    """The id of a person at a provider, or SignInRefused (threats.md R6, R7)."""
    if not isinstance(value, str):
        raise _no_subject(
            "is missing" if value is None else f"is not text ({type(value).__name__})"
        )
    if not value or value.isspace():
        raise _no_subject("is empty")
    if len(value) > MAX_SUBJECT_LENGTH:
        raise _no_subject(f"is longer than {MAX_SUBJECT_LENGTH} characters")
    if value != value.strip():
        raise _no_subject("begins or ends with white space")
    if _has_control(value):
        raise _no_subject("holds a control character")
    if unicodedata.normalize("NFKC", value) != value:
        raise _no_subject("is written with characters that have a simpler equal (it is not NFKC)")
    return value


def _subject(verified: VerifiedAttributes, claim_map: ClaimMap) -> str:
    if verified.protocol == "oidc":
        subject = check_subject(verified.subject)
        if not subject.isascii():
            raise _no_subject("is not ASCII, which OpenID Connect demands")
        return subject
    if not claim_map.subject and verified.logout.get("format") == TRANSIENT:
        raise _no_subject("is another one at every sign-in (the NameID is transient)")
    if not claim_map.subject:
        return check_subject(verified.subject)
    values = _listed(find(verified.attributes, claim_map.subject))
    if len(values) != 1:
        raise _no_subject(
            f"is read from the attribute “{claim_map.subject[-1]}”, which has {len(values)} values"
        )
    return check_subject(values[0])


def _no_subject(problem: str) -> SignInRefused:
    return SignInRefused(
        code="subject_unusable",
        cause=f"The id of the person {problem}.",
        remedy="Let the provider send a stable, unique id for each person, and name its attribute in the claim map.",
    )


def _groups(verified: VerifiedAttributes, claim_map: ClaimMap) -> tuple[str, ...]:
    if not claim_map.groups:
        return ()
    claims = verified.attributes if verified.group_claims is None else verified.group_claims
    found = find(claims, claim_map.groups)
    if not found:
        _refuse_overage(claims, claim_map.groups)
        _refuse_overage(verified.attributes, claim_map.groups)  # the marker stays in the ID token
    longest = 65536 if claim_map.groups_form is GroupForm.SEPARATED else 4096
    values = texts(found, "the groups", most=MAX_GROUPS, longest=longest)
    match claim_map.groups_form:
        case GroupForm.VALUES:
            keys: Sequence[str] = values
        case GroupForm.SEPARATED:
            keys = [part for value in values for part in value.split(claim_map.separator)]
        case GroupForm.DISTINGUISHED_NAMES:
            keys = [common_name(value) for value in values]
        case GroupForm.LAST_SEGMENT:
            keys = [value.rstrip("/").rpartition("/")[2] for value in values]
    return texts(list(keys), "the groups", most=MAX_GROUPS, longest=MAX_GROUP_LENGTH)


def _refuse_overage(claims: Mapping[str, Any], path: Path) -> None:
    """Entra ID leaves the groups out when there are too many, and says so in a marker.

    Its SAML marker has one name, whatever name the application gives its groups; roles are never left out.
    """
    sources = claims.get("_claim_names")
    roles = path[-1].rpartition("/")[2].lower() in ("role", "roles")
    marked = (
        (isinstance(sources, Mapping) and path[0] in sources)
        or (path[0] == "groups" and str(claims.get("hasgroups")).lower() == "true")
        or (not roles and bool(claims.get(ENTRA_GROUPS_LINK)))
    )
    if marked:
        raise SignInRefused(
            code="groups_overage",
            cause="Entra ID left this person's groups out because they are in too many of them "
            "(more than 150 with SAML, 200 with OpenID Connect), and sent a link instead.",
            remedy="In the Entra application, under Token configuration, emit only the “groups assigned to the "
            "application”, or use app roles and read the roles claim.",
        )


def common_name(name: str) -> str:
    """The CN nearest to the entry of a distinguished name in RFC 4514 form. Raises SignInRefused when there is none.

    `CN=Cloud\\, Admins,OU=Groups,DC=example` -> `Cloud, Admins`.
    """
    for kind, value in distinguished_name(name):
        if kind.upper() in ("CN", "2.5.4.3"):
            return value
    raise _unusable(
        "a group is not a distinguished name with a CN",
        "Choose “values” in the claim map if the provider sends group names or ids.",
        code="groups_unusable",
    )


def distinguished_name(name: str) -> list[tuple[str, str]]:
    """The attribute types and values of a distinguished name, in order (RFC 4514 section 3).

    Raises SignInRefused for anything that is not in this form.
    """
    parts: list[tuple[str, str]] = []
    position = 0
    while True:
        match = _RDN_TYPE.match(name, position)
        if match is None:
            raise _not_a_name(name)
        kind, position = match[1], match.end()
        value, position = _rdn_value(name, position)
        parts.append((kind, value))
        if position == len(name):
            return parts
        position += 1  # the separator: a comma, a plus, or RFC 2253's semicolon


_RDN_TYPE = re.compile(r" *([A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)*) *= *")
_HEX_PAIR = re.compile(r"[0-9A-Fa-f]{2}")


def _rdn_value(name: str, position: int) -> tuple[str, int]:
    """One value, from `position` up to an unescaped separator or the end."""
    if name.startswith("#", position):  # BER in hexadecimal: not a text
        raise _not_a_name(name)
    kept = bytearray()
    solid = 0  # up to here nothing may be taken for trailing white space
    while position < len(name) and name[position] not in ",+;":
        character = name[position]
        if character in '"<>\x00':
            raise _not_a_name(name)
        position += 1
        if character == "\\":
            pair = _HEX_PAIR.match(name, position)
            if pair:
                kept.append(int(pair[0], 16))
                position += 2
            elif position < len(name) and name[position] in ' "#+,;<=>\\':
                kept += name[position].encode()
                position += 1
            else:
                raise _not_a_name(name)
            solid = len(kept)
        else:
            kept += character.encode()
            if character != " ":
                solid = len(kept)
    try:
        return kept[:solid].decode(), position
    except UnicodeDecodeError:
        raise _not_a_name(name) from None


def _not_a_name(name: str) -> SignInRefused:
    return _unusable(
        f"a group of {len(name)} characters is not a distinguished name",
        "Choose “values” in the claim map if the provider sends group names or ids.",
        code="groups_unusable",
    )


def _unusable(problem: str, remedy: str, *, code: str = "claims_unusable") -> SignInRefused:
    return SignInRefused(code=code, cause=f"{problem[0].upper()}{problem[1:]}.", remedy=remedy)


def _listed(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    if isinstance(value, list | tuple):
        return value
    return (value,)


def _shown(value: Any, longest: int) -> str:
    """The first text of a value that people read and nothing is decided by."""
    for one in _listed(value):
        if isinstance(one, str) and one.strip():
            visible = "".join(" " if _is_control(c) else c for c in one)
            return " ".join(visible.split())[:longest]
    return ""


def _email(text: str) -> str:
    return text if _ADDRESS.fullmatch(text) else ""


def _has_control(text: str) -> bool:
    return any(_is_control(character) for character in text)


def _is_control(character: str) -> bool:
    """Control, format, surrogate, private-use and unassigned characters, and line separators: none can be seen."""
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def account_id(subject: str) -> str:
    """What allauth's own row about a person is keyed by: of one length, whatever the subject's."""
    return hashlib.sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()


# --- Handles

HANDLE = re.compile(r"[a-z0-9][a-z0-9._-]{1,31}")


def handle_stem(*, username: str, email: str, name: str) -> str:
    """A readable beginning for a handle, from the first of user name, email and name that yields one."""
    for source in (username.partition("@")[0], email.partition("@")[0], name):
        # backslash: Windows writes DOMAIN\user
        plain = unicodedata.normalize("NFKD", source.rpartition("\\")[2])
        letters = plain.encode("ascii", "ignore").decode().lower()
        stem = re.sub(r"[^a-z0-9._-]+", ".", letters).strip("._-")
        if len(stem) >= 2:
            return stem[:32].rstrip("._-")
    return "person"


def handle_candidates(stem: str) -> Iterator[str]:
    """The stem itself, then with 2, 3, 4 ...: every one a valid handle, none twice."""
    yield stem
    number = 2
    while True:
        tail = f"-{number}"
        yield stem[: 32 - len(tail)] + tail
        number += 1
