"""The SAML corpus: real keys, signatures by other libraries or by hand, through the real doors."""

from __future__ import annotations

import base64
from typing import Any

from lxml import etree

from tests.attacks.registry import attack, control
from tests.attacks.stages import GOOD, SamlStage


def packed(root: etree._Element | bytes) -> str:
    """A message as a form carries it."""
    raw = root if isinstance(root, bytes) else etree.tostring(root)
    return base64.b64encode(raw).decode()


@control("signatures")
def an_answer_with_both_signatures(stage: SamlStage) -> Any:
    browser = stage.browser()
    root = stage.idp.build(stage.start(browser), attributes=GOOD)
    return stage.post(browser, packed(stage.idp.sign(root)))


@attack("stripped signatures", "R2")
def an_answer_without_any_signature(stage: SamlStage) -> Any:
    browser = stage.browser()
    return stage.post(
        browser, packed(etree.tostring(stage.idp.build(stage.start(browser), attributes=GOOD)))
    )
