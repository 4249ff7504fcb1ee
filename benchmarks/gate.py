"""What the gate and the confined process cost a SAML sign-in: `python -m benchmarks gate`.

The same signed message is verified here as Daypass does it and by python3-saml alone, in this process and with every
check of its own, in turn within one run; and people sign in through the views with the one and with the other. Only the
ratios say something about Daypass: how fast the machine is, is not ours.
"""

from __future__ import annotations

import argparse
import base64
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

GROUPS = (10, 200, 1000)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks gate", description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="verifications of each kind")
    parser.add_argument("--sign-ins", type=int, default=60, help="whole sign-ins of each kind")
    arguments = parser.parse_args()
    from tests.servers import start_valkey

    valkey = start_valkey()
    data = tempfile.mkdtemp(prefix="daypass-bench-")
    os.environ.update(
        DAYPASS_MODE="production",
        DAYPASS_ORIGIN="https://daypass.test",
        DAYPASS_SECRET_KEY="for the benchmark only, and long enough to be taken for a key",
        DAYPASS_SEALING_KEYS="MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        DAYPASS_DATA_DIR=data,
        DAYPASS_LOG_LEVEL="ERROR",
        REDIS_URL=valkey.url,
        DJANGO_SETTINGS_MODULE="broker.settings",
    )
    try:
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        call_command("collectstatic", interactive=False, verbosity=0)
        messages(arguments.rounds)
        sign_ins(arguments.sign_ins)
    finally:
        shutil.rmtree(data, ignore_errors=True)


def messages(rounds: int) -> None:
    """One message, verified both ways, alternating."""
    from accounts import room, saml
    from tests.accounts.idp_saml import Request, SamlIdp

    idp = SamlIdp()
    sp = saml.ServiceProvider(slug="bench", origin="https://daypass.test")
    provider = saml.Provider(idp.entity_id, idp.sso_url, idp.slo_url, (idp.certificate,))
    room.warm()
    print("| one message | p50 | p99 | ratio of p50 |\n| --- | --- | --- | --- |")
    for count in GROUPS:
        request = Request("_r", sp.entity_id, sp.acs, None, False, b"", "")
        now = datetime.now(UTC)
        groups = [f"group-{number:05d}-of-a-company" for number in range(count)]
        signed = idp.sign(idp.build(request, attributes={"groups": groups}, now=now))
        message = base64.b64encode(signed).decode()
        alone = _alone(sp, provider)

        def ours(message: str = message, now: datetime = now) -> object:
            return saml.verify_response(
                message, sp=sp, provider=provider, expected_request="_r", now=now
            ).assertion_id

        def theirs(message: str = message, alone: Any = alone) -> object:
            return alone(message, "_r").get_attributes()

        until = now + timedelta(minutes=4)
        plain, gated = alternate(theirs, ours, rounds=rounds, until=until)
        report(f"{count} groups, {len(message) // 1024} kB", plain, gated)


def sign_ins(count: int) -> None:
    """Whole sign-ins through the views, verified both ways, alternating: start, post, finish."""
    from django.core.cache import cache

    from accounts import saml, services
    from accounts.rules import VerifiedAttributes
    from tests.accounts import web
    from tests.accounts.idp_saml import SamlIdp

    idp = SamlIdp()
    by = services.By(id="task:bench", name="benchmark")
    services.create_provider_from_metadata(
        slug="bench", name="Bench", metadata_xml=idp.metadata, by=by, enabled=True
    )
    confined = saml.verify_response

    def in_process(
        message: str, *, sp: Any, provider: Any, expected_request: str, now: datetime, **_: object
    ) -> saml.VerifiedResponse:
        answer = _alone(sp, provider)(message, expected_request)
        return saml.VerifiedResponse(
            attributes=VerifiedAttributes(
                protocol="saml",
                subject=answer.get_nameid(),
                attributes={k: tuple(v) for k, v in answer.get_attributes().items()},
                at=now,
            ),
            assertion_id=answer.get_assertion_id(),
            expires_at=now + timedelta(minutes=7),
        )

    def sign_in() -> float:
        cache.clear()  # what counts attempts
        browser = web.browser()
        began = time.perf_counter()
        url = web.start(browser, "bench")
        before_answer = time.perf_counter()
        answer = idp.answer(url, attributes={"groups": [f"group-{n}" for n in range(10)]})
        answered = time.perf_counter()
        page = web.post_answer(browser, "bench", answer)
        ended = time.perf_counter()
        assert page.status_code == 302, page.content
        return (before_answer - began) + (ended - answered)

    plain: list[float] = []
    gated: list[float] = []
    for turn in range(2 * count + 6):
        saml.verify_response = in_process if turn % 2 else confined  # type: ignore[assignment]
        took = sign_in()
        if turn >= 6:
            (plain if turn % 2 else gated).append(took)
    saml.verify_response = confined
    print("\n| whole sign-in | p50 | p99 | ratio of p50 |\n| --- | --- | --- | --- |")
    report("start, post and finish, 10 groups", plain, gated)


def _alone(sp: Any, provider: Any) -> Callable[[str, str], Any]:
    """python3-saml as it is used without Daypass, every check that it has switched on; its settings are read once."""
    from onelogin.saml2.response import OneLogin_Saml2_Response
    from onelogin.saml2.settings import OneLogin_Saml2_Settings

    post, redirect = (
        f"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-{name}" for name in ("POST", "Redirect")
    )
    toolkit = OneLogin_Saml2_Settings(
        {
            "strict": True,
            "sp": {
                "entityId": sp.entity_id,
                "assertionConsumerService": {"url": sp.acs, "binding": post},
            },
            "idp": {
                "entityId": provider.entity_id,
                "singleSignOnService": {"url": provider.sso_url, "binding": redirect},
                "x509cert": provider.certificates[0],
            },
            "security": {
                "wantMessagesSigned": True,
                "wantAssertionsSigned": True,
                "rejectDeprecatedAlgorithm": True,
            },
        }
    )
    path = sp.acs.removeprefix(sp.origin)
    request = {
        "https": "on",
        "http_host": sp.origin.removeprefix("https://"),
        "script_name": path,
        "get_data": {},
        "post_data": {},
    }

    def verify(message: str, expected_request: str) -> Any:
        response = OneLogin_Saml2_Response(toolkit, message)
        response.is_valid(request, request_id=expected_request, raise_exceptions=True)
        return response

    return verify


def alternate(
    one: Callable[[], object],
    other: Callable[[], object],
    *,
    rounds: int,
    until: datetime,
) -> tuple[list[float], list[float]]:
    """Seconds of each, measured in turn so that both have the same machine; the first twenty are not counted."""
    taken: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 20):
        for work, into in zip((one, other), taken, strict=True):
            began = time.perf_counter()
            assert work()
            into.append(time.perf_counter() - began)
        if datetime.now(UTC) > until and turn > 40:
            break  # the message is about to be too old
    return taken[0][20:], taken[1][20:]


def report(what: str, plain: list[float], gated: list[float]) -> None:
    def of(times: list[float], share: float) -> float:
        return sorted(times)[min(len(times) - 1, int(len(times) * share))] * 1000

    middle = of(plain, 0.5)
    for how, times in (("python3-saml alone", plain), ("gate and confined process", gated)):
        print(
            f"| {what}: {how} | {of(times, 0.5):.1f} ms | {of(times, 0.99):.1f} ms | "
            f"{of(times, 0.5) / middle:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
