"""The start URL, the config file by browser and by curl, and Daypass's test of what is in front of it."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import timedelta
from http.client import HTTPConnection
from threading import Thread
from wsgiref.simple_server import WSGIRequestHandler, make_server

import botocore.configloader
import pytest
from django.core.cache import cache
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts import throttle
from broker.awssso import checks, services
from broker.awssso.checks import Passage, Seen
from broker.awssso.models import Terminal
from tests import factories as make
from tests.awssso.conftest import let_in

HEADER = "x-amz-sso_bearer_token"


@pytest.fixture
def developer(ada):
    """A role of Ada's, in an account with an alias."""
    account = make.account(
        "Payments", account_id="111122223333", alias="payments", region="eu-west-1"
    )
    role = make.role("Developer", of=account)
    make.mapping(group_of(ada), role)
    return role


def group_of(person):
    return person.memberships.get().group


def script_token(person, **more) -> str:
    terminal = let_in(person, kind=Terminal.Kind.SCRIPT, flow=Terminal.Flow.PORTAL, **more)
    return services.give_script_token(terminal, seconds=3600, now=timezone.now())


# --- The start URL


def test_clients_that_check_the_start_url_are_led_to_an_identifier_of_nobody(daypass):
    host = daypass.url.removeprefix("http://")
    connection = HTTPConnection(host, timeout=10)

    connection.request("HEAD", "/start")
    answer = connection.getresponse()

    label = host.replace(".", "-").replace(":", "-")
    assert answer.status == 302
    assert (
        answer.headers["Location"] == f"https://identitycenter.amazonaws.com/ssoins-daypass-{label}"
    )
    assert "Set-Cookie" not in answer.headers
    assert answer.read() == b""


def test_people_who_open_the_start_url_come_to_the_page_terminal(daypass):
    answer = daypass.browser().get("/start")

    assert (answer.status_code, answer["Location"]) == (302, "/terminal/")


# --- The config file


def test_a_person_downloads_their_own_roles(daypass, ada, developer):
    make.role("Unmapped", of=developer.account)

    answer = daypass.sign_in(ada).get("/terminal/config")

    text = answer.content.decode()
    assert answer.status_code == 200
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert "no-store" in answer["Cache-Control"]
    assert answer["Content-Disposition"] == 'attachment; filename="daypass.config"'
    assert "[profile payments.Developer]" in text
    assert f"endpoint_url = {daypass.url}/aws" in text
    assert "Unmapped" not in text


def test_only_roles_that_may_ever_give_keys_are_in_it(daypass, ada, developer):
    console, elsewhere, denied = (
        make.role(name, of=developer.account) for name in ("Console", "Elsewhere", "Denied")
    )
    make.mapping(group_of(ada), console, allow_keys=False)
    make.mapping(group_of(ada), elsewhere, networks=["192.0.2.0/24"], require_mfa=True)

    text = daypass.sign_in(ada).get("/terminal/config").content.decode()

    assert "sso_role_name = Developer" in text
    assert (
        "sso_role_name = Elsewhere" in text
    )  # a file that changes with the network would be no help
    assert "sso_role_name = Console" not in text
    assert f"sso_role_name = {denied.name}" not in text


def test_a_stranger_is_asked_to_sign_in(daypass):
    answer = daypass.browser().get("/terminal/config")

    assert answer.status_code == 302
    assert answer["Location"].startswith("/sign-in/")


def test_people_choose_how_their_profiles_are_called(daypass, ada, developer):
    browser = daypass.sign_in(ada)

    chosen = browser.get("/terminal/config", {"names": "{role}-{account_id}"})
    refused = browser.get("/terminal/config", {"names": "{account}-{role}"})

    assert b"[profile Developer-111122223333]" in chosen.content
    assert refused.status_code == 400
    assert b"two roles could get the same name" in refused.content


def test_curl_fetches_the_file_with_a_script_token_and_an_unmodified_client_reads_it(
    daypass, ada, developer, tmp_path
):
    if not shutil.which("curl"):
        pytest.skip("there is no curl here")
    (tmp_path / "curlrc").write_text(
        f'header = "Authorization: Bearer {script_token(ada)}"\nsilent\nshow-error\nfail\n'
    )

    subprocess.run(
        [
            "curl",
            "-K",
            tmp_path / "curlrc",
            "-o",
            tmp_path / "out",
            f"{daypass.url}/terminal/config",
        ],
        env={"PATH": os.environ["PATH"]},
        check=True,
        timeout=30,
    )

    found = botocore.configloader.load_config(str(tmp_path / "out"))
    assert found["profiles"]["payments.Developer"]["sso_account_id"] == "111122223333"


def test_a_token_for_one_role_shows_that_role_alone(daypass, ada, developer):
    make.mapping(group_of(ada), make.role("Other", of=developer.account))
    token = script_token(ada, role_id=developer.id)

    answer = daypass.browser().get("/terminal/config", headers={"authorization": f"Bearer {token}"})

    assert b"sso_role_name = Developer" in answer.content
    assert b"Other" not in answer.content


def test_a_token_answers_for_its_person_whoever_is_signed_in_in_the_browser(
    daypass, ada, developer
):
    other = daypass.sign_in(make.person("grace", groups=[make.group("others")]))

    answer = other.get("/terminal/config", headers={"authorization": f"Bearer {script_token(ada)}"})

    assert b"for ada" in answer.content


@pytest.mark.parametrize("authorization", ["Bearer wrong", "Bearer ", "Basic YTpi", "", "Bearer"])
def test_a_wrong_token_is_told_so_in_one_line_and_never_led_to_a_page(daypass, ada, authorization):
    answer = daypass.sign_in(ada).get("/terminal/config", headers={"authorization": authorization})

    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")
    assert answer["Content-Type"].startswith("text/plain")
    assert answer.content.count(b"\n") == 1
    assert b"[profile" not in answer.content


def test_an_access_token_of_a_client_fetches_no_file(daypass, ada):
    from tests.awssso.conftest import signed_in_terminal

    _, tokens, _, _ = signed_in_terminal(ada)

    answer = daypass.browser().get(
        "/terminal/config", headers={"authorization": f"Bearer {tokens.access}"}
    )

    assert answer.status_code == 401


def test_an_ended_token_fetches_nothing(daypass, ada, developer):
    terminal = let_in(ada, kind=Terminal.Kind.SCRIPT, flow=Terminal.Flow.PORTAL)
    token = services.give_script_token(terminal, seconds=3600, now=timezone.now())
    services.end_lines(["line-of-a-browser"], timezone.now())

    answer = daypass.browser().get("/terminal/config", headers={"authorization": f"Bearer {token}"})

    assert answer.status_code == 401
    assert b"signed out" in answer.content


def test_profiles_for_scripts_name_the_file_with_the_token(daypass, ada, developer):
    browser = daypass.sign_in(ada)

    good = browser.get("/terminal/config", {"curlrc": "/home/ada/.config/daypass/curlrc"})
    bad = browser.get("/terminal/config", {"curlrc": "~/curlrc; id"})

    assert (
        f'credential_process = curl -K /home/ada/.config/daypass/curlrc "{daypass.url}/api/process?'
        'account=111122223333&role=Developer"'
    ) in good.content.decode()
    assert (bad.status_code, b"whole path" in bad.content) == (400, True)


def test_the_cost_does_not_grow_with_the_roles(daypass, ada, developer, django_assert_num_queries):
    from broker.awssso.profile_views import _roles
    from tests.awssso.conftest import principal

    make.mapping(group_of(ada), *(make.role(of=developer.account) for _ in range(30)))
    someone = principal(ada)

    with django_assert_num_queries(3):
        found = _roles(someone, timezone.now())

    assert len(found) == 31


# --- The header of AWS's clients


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        """Nothing of tests on the screen."""


@pytest.fixture
def fronted(daypass, settings):
    """Daypass behind a front that does to a request what it is given to do; the public address is the front's."""
    servers = []

    def made(change):
        django = None

        def application(environ, start_response):
            nonlocal django
            django = django or WSGIHandler()  # it reads the address when it is made
            changed = change(environ)
            if changed is None:
                start_response("200 OK", [("Content-Type", "application/json")])
                return [b'{"arrived": "somebody else"}']
            return django(changed, start_response)

        server = make_server("127.0.0.1", 0, application, handler_class=_Quiet)
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        settings.DAYPASS_ORIGIN = f"http://127.0.0.1:{server.server_port}"

    settings.DAYPASS_PRIVATE_PROVIDERS = ["127.0.0.1"]
    cache.clear()
    throttle.forget()
    yield made
    for server in servers:
        server.shutdown()
        server.server_close()


def dropping(environ):
    return {name: value for name, value in environ.items() if name != checks.AS_WSGI_SAYS}


def passing(environ):
    return environ


def test_a_front_that_passes_the_header_is_well(fronted):
    fronted(passing)

    assert checks.look(timezone.now()).passage is Passage.PASSES


def test_a_front_that_drops_the_header_is_told_of_with_the_remedy(fronted, caplog):
    fronted(dropping)

    seen = checks.look(timezone.now())

    assert seen.passage is Passage.DROPPED
    assert "sign-in has expired" in seen.said
    assert "a proxy drops the header" in caplog.text


def test_a_front_that_changes_the_header_is_not_taken_for_one_that_passes_it(fronted):
    fronted(lambda environ: environ | {checks.AS_WSGI_SAYS: "something else"})

    assert checks.look(timezone.now()).passage is Passage.UNKNOWN


def test_somebody_else_at_our_address_proves_nothing(fronted):
    fronted(lambda environ: None)

    assert checks.look(timezone.now()).passage is Passage.UNKNOWN


def test_an_address_that_does_not_answer_is_not_called_a_proxy(fronted, settings):
    fronted(passing)
    settings.DAYPASS_ORIGIN = "http://127.0.0.1:1"

    seen = checks.look(timezone.now())

    assert seen.passage is Passage.UNKNOWN
    assert "could not be fetched" in seen.said


def test_the_command_says_what_to_do_and_fails(fronted, capsys):
    fronted(dropping)
    with pytest.raises(CommandError, match=r"docs/operations\.md"):
        call_command("check_terminal")

    fronted(passing)
    call_command("check_terminal")

    assert "arrives as it was sent" in capsys.readouterr().out


def test_the_test_address_tells_nothing_that_was_sent(daypass):
    answer = daypass.browser().get("/aws/header-test", headers={HEADER: "secret-of-somebody"})

    assert answer.status_code == 200
    assert b"secret-of-somebody" not in answer.content
    assert "no-store" in answer["Cache-Control"]


NOW = timezone.now()


@pytest.mark.parametrize(
    ("passage", "age", "due"),
    [
        (Passage.PASSES, timedelta(hours=23), False),
        (Passage.PASSES, timedelta(hours=24), True),
        (Passage.DROPPED, timedelta(minutes=4), False),
        (Passage.DROPPED, timedelta(minutes=5), True),
        (Passage.UNKNOWN, timedelta(minutes=5), True),
    ],
)
def test_daypass_looks_once_a_day_and_sooner_when_something_is_odd(passage, age, due):
    throttle.forget(checks._MISSING)

    assert checks.is_due(Seen(passage, NOW - age, ""), NOW) is due
    assert checks.is_due(None, NOW)


def test_daypass_looks_soon_when_clients_come_without_the_header():
    throttle.forget(checks._MISSING)
    seen = Seen(Passage.PASSES, NOW - timedelta(minutes=6), "")
    assert not checks.is_due(seen, NOW)

    assert HEADER in checks.missing()

    assert checks.is_due(seen, NOW)
    throttle.forget(checks._MISSING)


def test_a_client_that_comes_without_the_header_makes_daypass_look(daypass):
    throttle.forget(checks._MISSING)
    seen = Seen(Passage.PASSES, NOW - timedelta(minutes=6), "")

    answer = daypass.browser().get("/aws/assignment/accounts")

    assert answer.status_code == 401
    assert HEADER in answer.json()["message"]
    assert checks.is_due(seen, NOW)
    throttle.forget(checks._MISSING)


@pytest.mark.django_db
def test_administrators_are_told(fronted, settings):
    from tests.portal.conftest import sign_in

    fronted(dropping)
    checks.look(timezone.now())
    settings.DAYPASS_ORIGIN = "https://daypass.test"
    settings.ALLOWED_HOSTS = ["daypass.test"]
    admin = sign_in(make.person("root", at=make.provider("acme"), is_staff=True, is_superuser=True))

    first, health = (admin.get(page, secure=True) for page in ("/admin/", "/admin/health/"))

    assert "is dropped on the way to Daypass" in first.content.decode()
    assert "Sign-in of the AWS CLI through your proxy" in health.content.decode()
    assert "docs/operations.md" in health.content.decode()


# --- The panel of the page Terminal


def test_the_page_shows_the_file_and_a_line_for_every_client(daypass, ada, developer):
    page = daypass.sign_in(ada).get("/terminal/").content.decode()

    assert "[profile payments.Developer]" in page
    assert "aws sso login --profile payments.Developer" in page
    for client in (
        "boto3",
        "Terraform",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "WithSharedConfigProfile",
    ):
        assert client in page
    assert 'href="/terminal/config"' in page


def test_the_page_gives_the_names_that_were_chosen_to_every_line(daypass, ada, developer):
    browser = daypass.sign_in(ada)

    page = browser.get("/terminal/", {"names": "{role}@{account}"}).content.decode()
    refused = browser.get("/terminal/", {"names": "{account}<script>{role}"}).content.decode()

    assert "aws sso login --profile Developer@payments" in page
    assert "payments.Developer" not in page.replace("<option", "\n<option").split("</select>")[-1]
    assert 'href="/terminal/config?names=%7Brole%7D%40%7Baccount%7D"' in page
    assert "<script>{role}" not in refused
    assert "payments.Developer" in refused


def test_a_name_of_an_account_is_text_on_the_page(daypass, ada, developer):
    developer.account.name = "<b>bold</b> & more"
    developer.account.save()

    page = daypass.sign_in(ada).get("/terminal/").content.decode()

    assert "<b>bold" not in page


def test_with_very_many_roles_the_page_stays_small_and_the_file_is_whole(daypass, ada, developer):
    make.mapping(group_of(ada), *(make.role(of=developer.account) for _ in range(200)))
    browser = daypass.sign_in(ada)

    page = browser.get("/terminal/").content
    text = browser.get("/terminal/config").content

    assert len(page) < 100_000
    assert b"more than 60 profiles" in page
    assert text.count(b"\n[profile ") == 202


# --- Comparing with one's own file

OWN = "[default]\nregion = eu-central-1\n\n[profile work]\nsso_session = corp\n"


def compared(browser, own: str, **more):
    return browser.post("/terminal/config/compare/", {"own": own, **more})


def test_a_person_sees_what_would_change_in_their_own_file(daypass, ada, developer):
    browser = daypass.sign_in(ada)

    answer = compared(browser, OWN.replace("\n", "\r\n"))

    page = answer.content.decode()
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    assert "+[profile payments.Developer]" in page
    assert "-[profile work]" not in page
    assert "region = eu-central-1\n\n[profile work]\nsso_session = corp\n" in page


def test_a_name_that_is_in_both_is_told_and_no_file_is_given(daypass, ada, developer):
    page = compared(daypass.sign_in(ada), OWN + "[profile payments.Developer]\n").content.decode()

    assert "Your file has [profile payments.Developer] already" in page
    assert "The whole file" not in page


def test_other_names_make_way_for_ones_own(daypass, ada, developer):
    browser = daypass.sign_in(ada)

    page = compared(browser, OWN + "[profile payments.Developer]\n", names="{role}@{account}")

    assert "+[profile Developer@payments]" in page.content.decode()


def test_somebody_who_is_current_is_told_that_nothing_changes(daypass, ada, developer):
    browser = daypass.sign_in(ada)
    current = OWN + "\n" + browser.get("/terminal/config").content.decode()

    assert "Nothing: it has all" in compared(browser, current).content.decode()


@pytest.mark.parametrize(
    "own",
    [
        "[default]\naws_secret_access_key = hush-hush\n",
        "[default]\r\n AWS_SESSION_TOKEN=hush-hush\r\n",
        "hush-hush" + "x" * 100_000,
    ],
)
def test_keys_that_are_pasted_are_not_given_back(daypass, ada, developer, own):
    answer = compared(daypass.sign_in(ada), own)

    assert answer.status_code == 400
    assert b"hush-hush" not in answer.content


def test_what_is_pasted_is_text_on_the_page_and_nowhere_else(daypass, ada, developer, caplog):
    answer = compared(daypass.sign_in(ada), "# <script>alert(1)</script> my-own-words\n")

    assert b"<script>alert" not in answer.content
    assert b"my-own-words" in answer.content
    assert "my-own-words" not in caplog.text


def test_the_form_is_empty_at_first_and_wants_our_own_page(daypass, ada):
    browser = daypass.sign_in(ada)

    page = browser.get("/terminal/config/compare/")

    assert b"csrfmiddlewaretoken" in page.content
    assert b"What would change" not in page.content
