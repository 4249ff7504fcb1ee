"""The OpenID Connect corpus: ID tokens signed by another library, over real HTTP, through the real doors."""

from __future__ import annotations

from typing import Any

from tests.accounts import web
from tests.attacks.registry import attack, control
from tests.attacks.stages import OidcStage


@control("signatures", protocol="oidc", door="callback")
def an_honest_code(stage: OidcStage) -> Any:
    return web.oidc_sign_in(stage.browser(), stage.op)


@attack("foreign keys", "R5", protocol="oidc", door="callback")
def a_token_signed_by_a_stranger_under_the_providers_key_id(stage: OidcStage) -> Any:
    honest = stage.op.key
    stage.op.key = stage.op.new_key()
    stage.op.bend_header = lambda header: header.update(kid=honest.kid)
    return web.oidc_sign_in(stage.browser(), stage.op)
