"""The doors for programs that speak no sign-in protocol, under what nobody would send; and with tokens of others."""

from __future__ import annotations

import pytest
from django.utils import timezone

from broker.awssso import services
from broker.sessions.models import Session
from tests import factories as make
from tests.aws.servers import _sts_server, sts_stand_in  # noqa: F401  (fixtures)
from tests.awssso.abuse import stranger
from tests.awssso.conftest import let_in, signed_in_terminal
from tests.portal.conftest import sign_in

pytestmark = pytest.mark.usefixtures("signing_keys", "sts_stand_in")

ACCOUNT = "111122223333"
DOORS = ["/api/process", "/api/container"]
WISH = {"account": ACCOUNT, "role": "Developer"}


@pytest.fixture
def role(ada):
    made = make.role("Developer", of=make.account("Payments", account_id=ACCOUNT))
    make.mapping(ada.memberships.get().group, made)
    return made


@pytest.fixture
def token(ada, role) -> str:
    terminal = let_in(ada, kind="script", flow="portal")
    return services.give_script_token(terminal, seconds=3600, now=timezone.now())


def ask(path: str, authorization: str | None, wish=WISH, **more: str):
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = stranger(**more).get(path, wish, secure=True, headers=headers)
    assert answer.status_code < 500
    assert answer.status_code not in (301, 302)
    assert not answer.cookies and "Location" not in answer
    assert "no-store" in answer["Cache-Control"]
    assert b"<html" not in answer.content
    return answer


@pytest.mark.parametrize("path", DOORS)
def test_the_token_opens_the_door(path, token):
    """What every other test here takes something away from."""
    assert ask(path, f"Bearer {token}").status_code == 200


@pytest.mark.parametrize("path", DOORS)
def test_nothing_else_does(path, ada, token):
    access = signed_in_terminal(ada)[1]
    browser = {name: one.value for name, one in sign_in(ada).cookies.items()}
    for authorization in (
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic " + token,
        "Bearer " + token + "x",
        "Bearer x, Bearer " + token,
        "Bearer " + "x" * 60_000,
        "Bearer \u00e9",
        "Bearer " + access.access,
        "Bearer " + access.refresh,
    ):
        assert ask(path, authorization).status_code == 401, authorization
        assert ask(path, authorization, **browser).status_code == 401
    assert ask(path, None, {**WISH, "access_token": token, "token": token}).status_code == 401
    assert not Session.objects.exists()


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"account": ACCOUNT},
        {"role": "Developer"},
        {"account": "1" * 13, "role": "Developer"},
        {"account": "\x00", "role": "Developer"},
        {"account": ACCOUNT, "role": "x" * 3000},
        {"account": ACCOUNT, "role": "\x00"},
        {"account": ACCOUNT, "role": "Nothing"},
        {"account": [ACCOUNT, ACCOUNT], "role": "Developer"},
        {"account": ACCOUNT, "role": ["Developer", "Admin"]},
    ],
)
def test_an_odd_wish_is_refused(path, wish, token):
    answer = ask(path, f"Bearer {token}", wish)

    assert answer.status_code in (400, 403, 404)
    assert not Session.objects.exists()


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_another_method_gives_no_keys(path, method, token):
    headers = {"Authorization": f"Bearer {token}"}

    answer = getattr(stranger(), method)(
        f"{path}?account={ACCOUNT}&role=Developer", secure=True, headers=headers
    )

    assert answer.status_code == 405
    assert not Session.objects.exists()


def test_the_config_file_is_for_the_token_of_its_person(token):
    mine = stranger().get(
        "/terminal/config", secure=True, headers={"Authorization": f"Bearer {token}"}
    )
    nobody = stranger().get(
        "/terminal/config", secure=True, headers={"Authorization": "Bearer daypass_script_x"}
    )

    assert mine.status_code == 200 and ACCOUNT.encode() in mine.content
    assert token.encode() not in mine.content
    assert nobody.status_code == 401 and ACCOUNT.encode() not in nobody.content
    assert not mine.cookies and not nobody.cookies
