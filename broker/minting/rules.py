"""What may be said to AWS about a person and a role. Pure.

Specification: the parameter limits of AssumeRoleWithWebIdentity, AssumeRoleWithSAML and session tags in the STS API
reference. Whatever breaks them would be refused by AWS too, only later and with fewer words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from urllib.parse import urlsplit

from broker.arns import PARTITIONS, RoleArn, parse_role_arn
from broker.errors import BadInput

TOKEN_SECONDS = 300
"""Nothing that we sign lives longer: AWS redeems an assertion within five minutes of its issue, or not at all."""

_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_PERSON = re.compile(r"[\w+=,.@:-]{1,128}", re.ASCII)
_PROVIDER = re.compile(
    r"arn:(?P<partition>[a-z-]+):iam::(?P<account>\d{12}):saml-provider/[\w._-]{1,128}", re.ASCII
)
_MOST_TAGS = 50
_TAG_KEY_LENGTH = 128
_TAG_VALUE_LENGTH = 256
_TAG_PUNCTUATION = frozenset("_.:/=+-@")


def unfit(what: str, *, remedy: str = "") -> BadInput:
    """A claim that cannot be signed. The person sees one plain sentence; the cause is the administrator's."""
    return BadInput(
        "This role is not set up correctly in Daypass. An administrator has to look at it.",
        code="bad_claims",
        cause=what,
        remedy=remedy,
    )


def role(arn: str, *, separator: str) -> RoleArn:
    """The one role a token is for. Raises BadInput.

    separator: what splits a list where AWS reads this ARN. A role's path may hold any printable character, so
    without this a role named "Dev;arn:...:role/Admin" would open a second one.
    """
    parsed = parse_role_arn(arn)
    if any(character in str(parsed) for character in (separator, "*", "?")):
        raise unfit(
            f"The role {arn!r} has a character in its path or name that AWS would read as more than one role.",
            remedy=f"Use a role without {separator} * ? in its path and name.",
        )
    return parsed


def person(subject: str) -> str:
    """Who it is about: an id without slash or wildcard, so that it cannot pose as another `sub`. Raises BadInput."""
    if _PERSON.fullmatch(subject) is None:
        raise unfit(f"The subject {subject!r} is not an id of a person.")
    return subject


def name(text: str, *, what: str) -> str:
    """A role session name or a source identity: 2 to 64 letters, digits and `_+=,.@-`. Raises BadInput."""
    if _NAME.fullmatch(text) is None:
        raise unfit(
            f"The {what} {text!r} is not 2 to 64 letters, digits and any of _+=,.@- as AWS demands."
        )
    return text


def tags(session_tags: Mapping[str, str], transitive_tag_keys: tuple[str, ...]) -> dict[str, str]:
    """Session tags within AWS's limits, in the order of their keys. Raises BadInput that names the tag.

    At most 50; keys of 1 to 128 characters, unique whatever their case, not beginning with `aws:`; values of at most
    256; letters, digits, blanks and `_.:/=+-@`. A transitive key names one of them.
    """
    if len(session_tags) > _MOST_TAGS:
        raise unfit(
            f"{len(session_tags)} session tags are more than the {_MOST_TAGS} that AWS takes."
        )
    seen: set[str] = set()
    for key, value in session_tags.items():
        if not 1 <= len(key) <= _TAG_KEY_LENGTH or not _tag_text(key):
            raise unfit(f"The session tag key {key!r} is not one that AWS takes.")
        if key.lower().startswith("aws:"):
            raise unfit(f"The session tag key {key!r} begins with aws:, which is AWS's own.")
        if key.lower() in seen:
            raise unfit(f"The session tag key {key!r} is there twice; AWS ignores its case.")
        seen.add(key.lower())
        if len(value) > _TAG_VALUE_LENGTH or not _tag_text(value):
            raise unfit(
                f"The value of session tag {key!r} is not one that AWS takes.",
                remedy=f"At most {_TAG_VALUE_LENGTH} letters, digits, blanks and any of _.:/=+-@.",
            )
    for key in transitive_tag_keys:
        if key not in session_tags:
            raise unfit(f"The transitive tag key {key!r} is not among the session tags.")
    return dict(sorted(session_tags.items()))


def _tag_text(text: str) -> bool:
    return all(c in _TAG_PUNCTUATION or unicodedata.category(c)[0] in "LNZ" for c in text)


def session_seconds(seconds: int) -> int:
    """How long a session may last in AWS: 900 to 43,200 seconds. Raises BadInput."""
    if not 900 <= seconds <= 43_200:
        raise unfit(f"A session of {seconds} seconds is outside AWS's 900 to 43,200.")
    return seconds


def saml_provider(arn: str, *, of: RoleArn) -> str:
    """The IAM SAML provider that holds our metadata: one of the role's own account. Raises BadInput."""
    match = _PROVIDER.fullmatch(arn)
    if match is None:
        raise unfit(f"{arn!r} is not the ARN of an IAM SAML provider.")
    if (match["partition"], match["account"]) != (of.partition, of.account_id):
        raise unfit(
            f"{arn} is not in the account of {of}.",
            remedy="Create a SAML provider with Daypass's metadata in the account of the role.",
        )
    return arn


def recipient(url: str, *, partition: str, stand_in: str = "") -> str:
    """Where the browser or STS redeems an assertion: a SAML sign-in URL of the role's partition. Raises BadInput.

    stand_in: the origin of an endpoint that stands in for AWS's sign-in (demo, tests), accepted beside AWS's own.
    """
    aws = PARTITIONS[partition]
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise unfit(f"The recipient {url!r} is not a URL.") from None
    if parts.query or parts.fragment or parts.username is not None:
        raise unfit(f"The recipient {url!r} is not a plain sign-in URL.")
    if stand_in and f"{parts.scheme}://{parts.netloc}" == stand_in.rstrip("/"):
        return url
    host = parts.hostname or ""
    regional = aws.regional_signin_host.removeprefix("{region}")
    region = host.removesuffix(regional)
    known = host == aws.signin_host or (host.endswith(regional) and aws.owns_region(region))
    path = parts.path == "/saml" or re.fullmatch(r"/saml/acs/[\w-]{1,64}", parts.path, re.ASCII)
    if parts.scheme != "https" or port is not None or not known or not path:
        raise unfit(
            f"The recipient {url!r} is not a SAML sign-in URL of partition {partition}.",
            remedy=f"For example {aws.saml_recipient()}.",
        )
    return url


def audience(text: str) -> str:
    """What the assertion's Audience says. Raises BadInput when it is blank."""
    if not text or text != text.strip() or len(text) > 1024:
        raise unfit(f"The audience {text!r} is not one.")
    return text


def without_outer_blanks(values: Mapping[str, str]) -> None:
    """Refuse what breaks sign-in in XML only: a blank at either end of an attribute value. Raises BadInput."""
    for key, value in values.items():
        if value != value.strip() or key != key.strip():
            raise unfit(
                f"The session tag {key!r} begins or ends with a blank, which AWS refuses in SAML.",
            )
