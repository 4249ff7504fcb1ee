"""What codes and tokens are worth, and for how long."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from broker.audit.models import AuditEvent
from broker.awssso import services
from broker.awssso.models import Terminal
from broker.awssso.services import Asker
from broker.awssso.wire import Fault, WireError
from tests.awssso.conftest import REDIRECT, let_in, pkce, register, signed_in_terminal

pytestmark = pytest.mark.django_db
HERE = Asker("198.51.100.23", "aws-cli/2.38.1")


def kinds() -> list[str]:
    return list(AuditEvent.objects.order_by("seq").values_list("kind", flat=True))


def test_a_code_is_exchanged_once_and_ends_the_terminal_when_it_comes_again(ada):
    now = timezone.now()
    registration, _ = register()
    terminal = let_in(ada, registration)
    verifier, challenge = pkce()
    code = services.give_code(
        terminal, redirect_uri=REDIRECT, challenge=challenge, method="S256", now=now
    )
    mine = {"client_digest": registration.digest, "redirect_uri": REDIRECT, "verifier": verifier}

    tokens = services.exchange_code_for_tokens(code, **mine, now=now)
    assert tokens.expires_in == 3600
    bearer = services.bearer(tokens.access, ["access"], HERE, now=now)
    assert bearer.principal.handle == "ada"
    assert bearer.principal.address == HERE.address

    with pytest.raises(WireError) as refused:
        services.exchange_code_for_tokens(code, **mine, now=now)
    assert refused.value.failure.fault == Fault.INVALID_GRANT
    terminal.refresh_from_db()
    assert terminal.ended_because == Terminal.Ended.REUSED
    with pytest.raises(WireError):
        services.bearer(tokens.access, ["access"], HERE, now=now)
    assert kinds() == ["terminal.let_in", "terminal.reused"]


def test_a_refresh_token_is_honoured_again_for_a_minute_and_then_ends_the_terminal(ada):
    now = timezone.now()
    _terminal, first, registration, _ = signed_in_terminal(ada)
    mine = {"client_digest": registration.digest}
    second = services.refresh(first.refresh, **mine, now=now)
    sibling = services.refresh(first.refresh, **mine, now=now + timedelta(seconds=59))
    assert len({first.refresh, second.refresh, sibling.refresh}) == 3
    third = services.refresh(sibling.refresh, **mine, now=now + timedelta(seconds=70))

    with pytest.raises(WireError) as refused:
        services.refresh(first.refresh, **mine, now=now + timedelta(seconds=71))
    assert refused.value.failure.fault == Fault.INVALID_GRANT
    with pytest.raises(WireError):
        services.refresh(third.refresh, **mine, now=now + timedelta(seconds=72))
    assert kinds() == ["terminal.let_in", "terminal.reused"]
