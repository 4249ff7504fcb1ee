"""Several people at several computers at once, each with botocore as it is, against gunicorn as it is served.

Nobody ever sees an account, a role or keys of another, whatever comes between; and everything that is answered fits
the service models, because botocore's own parser is asked as well (`tests.awssso.conformity`).
"""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.aws.servers import _sts_server, sts_stand_in  # noqa: F401  (fixtures)
from tests.awssso.site import ACCOUNT, REDIRECT, ROLE, Site
from tests.awssso.test_restarts import BY_DEVICE, IN_BROWSER, Journey

PEOPLE = ("ada", "grace", "alan", "edsger")


@pytest.fixture(scope="module")
def site(tmp_path_factory, _sts_server):  # noqa: F811
    made = Site(tmp_path_factory.mktemp("clients"), sts=_sts_server.url, people=PEOPLE)
    yield made
    made.stop()


def sessions_of(site: Site) -> Counter[str]:
    """How many live sessions each person has."""
    counted = site.sql(
        "SELECT p.handle, count(*) FROM broker_session s "
        "JOIN accounts_person p ON p.id = s.person_id WHERE s.state = 'active' GROUP BY p.handle"
    )
    return Counter(dict(counted))


def test_everybody_at_once_gets_what_is_theirs(site):
    """Each person at two computers: one lets in by a code, the other in the browser. All eight begin together."""
    site.sign_in_when_old()
    before = sessions_of(site)
    together = threading.Barrier(8)

    def at_one_computer(handle: str, steps: tuple[str, ...]) -> Journey:
        journey = Journey(site, handle)
        for step in steps:
            if step in ("collect", "exchange", "credentials", "refresh"):
                together.wait(timeout=60)
            getattr(journey, step)()
        return journey

    flows = [
        (handle, tuple(step for step in steps if step not in ("not_again", "poll_early")))
        for handle in PEOPLE
        for steps in (BY_DEVICE, IN_BROWSER)
    ]
    with ThreadPoolExecutor(8) as pool:
        journeys = [*pool.map(lambda flow: at_one_computer(*flow), flows)]

    tokens = [one.kept["accessToken"] for one in journeys]
    assert len(set(tokens)) == 8
    assert sessions_of(site) - before == Counter(dict.fromkeys(PEOPLE, 4))


def test_a_token_of_one_person_opens_nothing_of_another(site):
    clis = {}
    for handle in ("ada", "grace"):
        cli = site.cli()
        cli.register()
        code, verifier = site.browser(handle).authorize(cli.id)
        clis[handle] = cli, cli.exchange(code, verifier, REDIRECT).json

    for handle, other in (("ada", "grace"), ("grace", "ada")):
        cli, tokens = clis[handle]
        listed = cli.roles(tokens["accessToken"], ACCOUNT).json["roleList"]
        assert sorted(one["roleName"] for one in listed) == [ROLE, f"Only-{handle}"]
        theirs = cli.credentials(tokens["accessToken"], ACCOUNT, f"Only-{other}")
        assert theirs.fault == "ResourceNotFoundException"
        # Refreshing with the other's registration is a stranger's.
        assert clis[other][0].refresh(tokens["refreshToken"]).fault == "InvalidGrantException"
        assert cli.refresh(tokens["refreshToken"]).status == 200


def test_the_header_with_underscores_arrives_and_its_twin_does_not_count(site):
    """gunicorn drops such names but for this one; in WSGI the name with a dash would become the same."""
    cli = site.cli()
    cli.register()
    code, verifier = site.browser("alan").authorize(cli.id)
    token = cli.exchange(code, verifier, REDIRECT).json["accessToken"]

    assert cli.accounts(token).status == 200
    for more in (
        {"x-amz-sso-bearer-token": "made-up"},
        {"X_Forwarded_For": "10.0.0.1"},
        {"x_amz_sso_bearer_token": "made-up"},
    ):
        reply = cli.call("ListAccounts", bearer=token, headers=more)
        assert reply.fault in ("", "UnauthorizedException")
        if "X_Forwarded_For" in more:
            assert reply.status == 200
    addresses = {row[0] for row in site.sql("SELECT used_from FROM broker_terminal")}
    assert "10.0.0.1" not in addresses


def test_nothing_that_was_handed_out_is_in_the_logs_or_the_database(site):
    """The whole process at debug level, its database file and what Redis holds."""
    import redis

    from tests.test_no_secret_stays import encodings

    cli = site.cli()
    cli.register()
    code, verifier = site.browser("edsger").authorize(cli.id)
    cli.seen += [code, verifier]
    tokens = cli.exchange(code, verifier, REDIRECT).json
    cli.credentials(tokens["accessToken"], ACCOUNT, ROLE)
    cli.refresh(tokens["refreshToken"])
    cli.accounts(tokens["refreshToken"])
    cli.exchange(code, verifier, REDIRECT)
    cli.logout(tokens["accessToken"])

    kept = {
        str(path): path.read_bytes() for path in site.product.folder.rglob("*") if path.is_file()
    }
    with redis.Redis.from_url(site.valkey.url) as store:
        kept |= {f"valkey {key!r}": store.dump(key) or b"" for key in store.keys("*")}

    assert len(cli.seen) >= 8
    assert {
        (where, secret[:14])
        for secret in cli.seen
        for form in encodings(secret)
        for where, text in kept.items()
        if form in text
    } == set()
    assert any(b"edsger" in text for text in kept.values())
