"""What the issuer's URL really answers, asked from here. AWS asks from elsewhere: what is seen here is a hint."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import requests

from broker.minting import oidc

CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 5.0
"""AWS itself gives up on a key set after about five seconds."""
_LARGEST = 512 * 1024
_USED = "id_token_signing_alg_values_supported"
"""Changes with the kind of the keys; everything else stays as long as the issuer is the same."""


@dataclass(frozen=True, slots=True)
class Answer:
    """right: the documents are ours, as they are now. stale: ours, but not with the keys of now (a cache, or a copy
    that was not written). wrong: something else. unreachable: nothing was heard from here."""

    state: Literal["right", "stale", "wrong", "unreachable"]
    said: str


def at_issuer(issuer: str, key_set: dict[str, object]) -> Answer:
    """Fetch both documents as AWS does and compare them with what Daypass would say. No redirect is followed."""
    discovery_url = f"{issuer}/.well-known/openid-configuration"
    with requests.Session() as session:
        try:
            found = _get(session, discovery_url)
            ours = json.loads(json.dumps(oidc.discovery_document()))
            if not isinstance(found, dict) or found | {_USED: ours[_USED]} != ours:
                return Answer("wrong", f"{discovery_url} is not the discovery document of Daypass.")
            if found != ours:
                return Answer(
                    "stale",
                    f"{discovery_url} does not name the algorithms of the keys of now. A cache in between needs up to "
                    "an hour; if it stays, what is served there is not what Daypass writes.",
                )
            keys_url = str(found["jwks_uri"])
            served = _get(session, keys_url)
        except _Unlike as error:
            return Answer("wrong", str(error))
        except requests.RequestException as error:
            return Answer(
                "unreachable", f"{issuer} does not answer from here: {type(error).__name__}."
            )
    if served == json.loads(json.dumps(key_set)):
        return Answer("right", f"{issuer} answers with the keys of now.")
    return Answer(
        "stale",
        f"{keys_url} has other keys than Daypass publishes now. A cache in between needs a few minutes; if it stays, "
        "what is served there is not what Daypass writes.",
    )


class _Unlike(Exception):
    pass


def _get(session: requests.Session, url: str) -> Any:
    with session.get(
        url, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT), allow_redirects=False, stream=True
    ) as answer:
        if answer.status_code != 200:
            raise _Unlike(f"{url} answers {answer.status_code}; AWS needs 200, without a redirect.")
        body = answer.raw.read(_LARGEST + 1, decode_content=True)
    try:
        if len(body) > _LARGEST:
            raise ValueError
        return json.loads(body)
    except ValueError:
        raise _Unlike(f"{url} does not answer with JSON.") from None
