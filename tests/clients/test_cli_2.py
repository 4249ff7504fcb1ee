"""The AWS CLI 2 in three ages, as Debian carries it, and the SDK for Ruby; `python -m tests.clients` runs these.

They run in other Debians in folders of their own, which take minutes to make and root to enter.
"""

from __future__ import annotations

import configparser
import json
import re
import subprocess
from functools import cache

import pytest

from tests.clients import parts
from tests.clients.front import tls_front
from tests.clients.homes import Home, Ran, Running
from tests.clients.login import profile
from tests.clients.notes import Notes
from tests.clients.people import Person

STAGING, SHOP = "210000000102", "210000000202"
PAGE = r"(http://localhost:\d+/authorize\?\S+)"
DEVICE = r"(http://localhost:\d+/device\S*)"
LOGIN = r"(http://localhost:\d+/v1/authorize\?\S+)"
CODE = r"(?m)^\s*([A-Z0-9]{4}-[A-Z0-9]{4})\s*$"

OLD, MIDDLE, NEW = "bookworm", "trixie", "sid"
by_pkce = pytest.mark.parametrize("suite", [MIDDLE, NEW])
every_age = pytest.mark.parametrize("suite", [OLD, MIDDLE, NEW])
newest = pytest.mark.parametrize("suite", [NEW])


class Cli:
    """One AWS CLI 2 and a home for it, with the config that the page Terminal offers."""

    def __init__(self, suite: str, home: Home, person: Person) -> None:
        self.suite, self.home, self.person = suite, home, person
        home.config.write_text(person.config())
        self.profile = profile(home, STAGING, "Developer")

    def __str__(self) -> str:
        return version(self.suite)

    def start(self, *words: str, **more: str) -> Running:
        return self.home.start(["aws", *words], **more)

    def run(self, *words: str, **more: str) -> Ran:
        return self.home.run(["aws", *words], **more)

    def sign_in(self) -> Ran:
        """`aws sso login` in the way that this age of the CLI knows, seen to its end."""
        return self.sign_in_by_code() if self.suite == OLD else self.sign_in_by_pkce()

    def sign_in_by_pkce(self, **more: str) -> Ran:
        """With the printed address opened in a browser."""
        running = self.start("sso", "login", "--profile", self.profile, "--no-browser", **more)
        self.person.let_in(running.wait_for(PAGE))
        return running.finish()

    def sign_in_by_code(self) -> Ran:
        """With the printed code typed into a browser."""
        running = self.start_by_code()
        self.person.type_code(running.wait_for(DEVICE), running.wait_for(CODE))
        return running.finish()

    def start_by_code(self) -> Running:
        only = [] if self.suite == OLD else ["--use-device-code"]
        return self.start("sso", "login", "--profile", self.profile, "--no-browser", *only)

    def who_am_i(self, name: str = "", **more: str) -> Ran:
        return self.run(
            *("sts", "get-caller-identity", "--query", "Arn", "--output", "text"),
            *("--endpoint-url", self.home.demo.stage.aws, "--profile", name or self.profile),
            **more,
        )


@cache
def version(suite: str) -> str:
    said = subprocess.run(
        ["/usr/sbin/chroot", parts.debian(suite), "aws", "--version"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return f"AWS CLI {re.search(r'aws-cli/([0-9.]+)', said)[1]}"


@pytest.fixture
def cli(suite: str, demo, maya, tmp_path) -> Cli:
    made = Cli(suite, Home(tmp_path / "home", demo, root=parts.debian(suite)), maya)
    if suite == OLD:
        give_it_an_address(made)
    return made


def give_it_an_address(cli: Cli) -> None:
    """What the page Terminal says for versions that know no other address than AWS's."""
    from broker.awssso.profiles import Place, guides

    lines = next(g for g in guides(Place(cli.home.demo.stage.origin), "x", None) if g.id == "older")
    done = cli.home.run(["sh", "-c", lines.text])
    assert done.code == 0, done


def is_developer(ran: Ran) -> bool:
    return ran.code == 0 and bool(
        re.search(rf"arn:aws:sts::{STAGING}:assumed-role/Developer/maya\.", ran.said)
    )


# --- aws sso login


@every_age
def test_signs_in_lists_and_gets_credentials(cli: Cli, notes: Notes):
    signed_in = cli.sign_in()
    assert signed_in.code == 0, signed_in
    assert "Successfully logged into Start URL" in signed_in.said
    notes.passed(cli, "signs in", "device code" if cli.suite == OLD else "PKCE")

    with_token = ("--access-token", cli.home.token()["accessToken"], "--profile", cli.profile)
    accounts = cli.run("sso", "list-accounts", *with_token)
    assert accounts.code == 0 and STAGING in accounts.said, accounts
    roles = cli.run("sso", "list-account-roles", "--account-id", STAGING, *with_token)
    assert roles.code == 0 and "Developer" in roles.said, roles
    notes.passed(cli, "lists")

    ran = cli.who_am_i()
    assert is_developer(ran), ran
    out = cli.run("configure", "export-credentials", "--profile", cli.profile)
    assert out.code == 0 and '"SecretAccessKey"' in out.said
    other = cli.who_am_i(profile(cli.home, SHOP, "ReadOnly"))
    assert f"{SHOP}:assumed-role/ReadOnly/maya." in other.said, other
    notes.passed(cli, "credentials")


@by_pkce
def test_signs_in_by_code(cli: Cli, notes: Notes):
    done = cli.sign_in_by_code()

    assert done.code == 0, done
    assert is_developer(cli.who_am_i())
    notes.passed(cli, "signs in", "device code")


@every_age
def test_lists_the_profiles_that_were_generated(cli: Cli, notes: Notes):
    listed = cli.run("configure", "list-profiles")

    config = configparser.RawConfigParser()
    config.read(cli.home.config)
    wanted = {
        name.removeprefix("profile ") for name in config.sections() if name.startswith("profile ")
    }
    assert listed.code == 0
    assert set(listed.said.split()) == wanted
    notes.passed(cli, "list-profiles")


@every_age
def test_what_ran_out_is_refreshed(cli: Cli, desk, notes: Notes):
    assert cli.sign_in().code == 0
    desk.do("let_access_run_out")
    before = cli.home.let_token_run_out()

    ran = cli.who_am_i()

    assert is_developer(ran), ran
    after = cli.home.token()
    assert after["accessToken"] != before["accessToken"]
    assert after["refreshToken"] != before["refreshToken"]
    notes.passed(cli, "refreshes")


@every_age
def test_signs_out(cli: Cli, notes: Notes):
    assert cli.sign_in().code == 0
    token = cli.home.token()["accessToken"]

    done = cli.run("sso", "logout", "--profile", cli.profile)

    assert done.code == 0, done
    assert not cli.home.tokens()
    again = cli.run("sso", "list-accounts", "--access-token", token, "--profile", cli.profile)
    assert again.code != 0 and "UnauthorizedException" in again.said, again
    after = cli.who_am_i()
    assert after.code != 0
    notes.passed(cli, "signs out")
    notes.said(cli, "after signing out", after)


@every_age
def test_a_mapping_removed_is_refused_with_the_reason(cli: Cli, building_is_over, notes: Notes):
    assert cli.sign_in().code == 0
    assert is_developer(cli.who_am_i())
    building_is_over()
    cli.home.forget_credentials()

    ran = cli.who_am_i()

    assert ran.code != 0
    assert "You have no such role in this account" in ran.said, ran
    notes.said(cli, "mapping removed", ran)


@every_age
def test_a_terminal_ended_in_the_portal_has_to_sign_in_again(cli: Cli, maya, notes: Notes):
    assert cli.sign_in().code == 0
    maya.end_newest_terminal()

    ran = cli.who_am_i()

    assert ran.code != 0, ran
    notes.said(cli, "ended in the portal", ran)
    assert cli.sign_in().code == 0  # and that is all that it takes
    assert is_developer(cli.who_am_i())


@by_pkce
def test_a_no_in_the_browser_is_told(cli: Cli, maya, notes: Notes):
    running = cli.start("sso", "login", "--profile", cli.profile, "--no-browser")
    maya.say_no(running.wait_for(PAGE))

    ran = running.finish()

    assert ran.code != 0, ran
    notes.said(cli, "a no in the browser", ran)


@every_age
def test_where_codes_are_switched_off_it_says_so(cli: Cli, desk, notes: Notes):
    desk.do("device_codes", allowed=False)
    try:
        ran = cli.start_by_code().finish()
    finally:
        desk.do("device_codes", allowed=True)

    assert ran.code != 0, ran
    assert "administrators" in ran.said, ran
    notes.said(cli, "device codes switched off", ran)


@newest
def test_a_browser_is_opened(cli: Cli):
    """The CLI opens what BROWSER names, as Python does; here a program that writes the address down."""
    opener = cli.home.folder / "opener"
    opener.write_text('#!/bin/sh\necho "$1" > "$HOME/opened"\n')
    opener.chmod(0o755)

    running = cli.start("sso", "login", "--profile", cli.profile, BROWSER="/root/opener %s")
    running.wait_for("Attempting to open")
    running.wait_for(PAGE)
    cli.person.let_in((cli.home.folder / "opened").read_text().strip())

    assert running.finish().code == 0


# --- The check of the start URL


def with_start_url(cli: Cli, start_url: str) -> None:
    text = cli.home.config.read_text()
    cli.home.config.write_text(re.sub(r"sso_start_url = .*", f"sso_start_url = {start_url}", text))


@newest
def test_a_start_url_of_ours_leads_to_an_identifier_of_awss(cli: Cli, demo, notes: Notes):
    with tls_front(cli.home.folder, demo.stage.origin) as (origin, certificate, came):
        with_start_url(cli, f"{origin}/start")
        signed_in = cli.sign_in_by_pkce(AWS_CA_BUNDLE=f"/root/{certificate.name}")

        assert signed_in.code == 0, signed_in
        assert came == ["HEAD"]
        assert is_developer(cli.who_am_i())
    notes.passed(cli, "start URL of ours")


@newest
def test_the_identifier_alone_is_a_start_url_too(cli: Cli, notes: Notes):
    """The demo has no TLS, so this is what it generates."""
    assert "sso_start_url = https://identitycenter.amazonaws.com/ssoins-" in (
        cli.home.config.read_text()
    )
    assert cli.sign_in().code == 0
    notes.passed(cli, "identifier as start URL")


@newest
def test_a_start_url_without_tls_is_refused_by_the_client(cli: Cli, demo, notes: Notes):
    with_start_url(cli, f"{demo.stage.origin}/start")

    ran = cli.start("sso", "login", "--profile", cli.profile, "--no-browser").finish()

    assert ran.code != 0, ran
    notes.said(cli, "start URL without TLS", ran)


# --- aws login


class Login:
    """`aws login` with the profile that was generated for it."""

    def __init__(self, cli: Cli) -> None:
        self.cli = cli
        config = configparser.RawConfigParser()
        config.read(cli.home.config)
        self.profile = next(
            name.removeprefix("profile ")
            for name in config.sections()
            if name.startswith("profile aws-login")
        )

    def here(self) -> Ran:
        running = self.cli.start("login", "--profile", self.profile)
        self.cli.person.choose_role(running.wait_for(LOGIN), STAGING, "Developer")
        return running.finish()

    def elsewhere(self) -> Ran:
        """The browser shows what is typed into the terminal."""
        running = self.cli.start("login", "--profile", self.profile, "--remote")
        address = running.wait_for(LOGIN)
        running.type(self.cli.person.choose_role_elsewhere(address, STAGING, "Developer"))
        return running.finish()

    def who_am_i(self) -> Ran:
        return self.cli.who_am_i(self.profile)


@pytest.fixture
def login(cli: Cli) -> Login:
    return Login(cli)


@newest
@pytest.mark.parametrize("way", ["here", "elsewhere"])
def test_aws_login_gets_the_role_that_was_chosen_in_the_browser(
    login: Login, way: str, notes: Notes
):
    done = getattr(login, way)()

    assert done.code == 0, done
    assert is_developer(login.who_am_i()), login.who_am_i()
    notes.passed(f"{login.cli}, aws login", "signs in", "same device, `--remote`")
    notes.passed(f"{login.cli}, aws login", "credentials")


@newest
def test_aws_login_is_refreshed(login: Login, notes: Notes):
    assert login.here().code == 0
    (path,) = (login.cli.home.folder / ".aws/login/cache").glob("*.json")
    before = json.loads(path.read_text())
    past = before["accessToken"] | {"expiresAt": "2026-01-01T00:00:00Z"}
    path.write_text(json.dumps(before | {"accessToken": past}))

    ran = login.who_am_i()

    assert is_developer(ran), ran
    after = json.loads(path.read_text())
    assert after["accessToken"]["accessKeyId"] != before["accessToken"]["accessKeyId"]
    assert after["refreshToken"] != before["refreshToken"]
    notes.passed(f"{login.cli}, aws login", "refreshes")


@newest
def test_aws_login_ended_in_the_portal_has_to_sign_in_again(login: Login, maya, notes: Notes):
    assert login.here().code == 0
    maya.end_newest_terminal()
    (path,) = (login.cli.home.folder / ".aws/login/cache").glob("*.json")
    kept = json.loads(path.read_text())
    past = kept["accessToken"] | {"expiresAt": "2026-01-01T00:00:00Z"}
    path.write_text(json.dumps(kept | {"accessToken": past}))

    ran = login.who_am_i()

    assert ran.code != 0, ran
    notes.said(f"{login.cli}, aws login", "ended in the portal", ran)


@newest
def test_aws_logout_forgets(login: Login, notes: Notes):
    assert login.here().code == 0

    done = login.cli.run("logout", "--profile", login.profile)

    assert done.code == 0, done
    assert login.who_am_i().code != 0
    notes.passed(f"{login.cli}, aws login", "signs out")


# --- Ruby


@newest
def test_ruby_uses_and_refreshes_the_sign_in(cli: Cli, desk, notes: Notes):
    assert cli.sign_in().code == 0
    script = cli.home.folder / "whoami.rb"
    script.write_text((parts.HERE / "whoami.rb").read_text())

    def ruby() -> Ran:
        return cli.home.run(["ruby", "/root/whoami.rb"], AWS_PROFILE=cli.profile)

    gem = cli.home.run(["ruby", "-raws-sdk-core", "-e", "puts Aws::CORE_GEM_VERSION"])
    name = f"Ruby SDK {gem.said.strip()}"

    assert is_developer(ruby()), ruby()
    notes.passed(name, "credentials")
    desk.do("let_access_run_out")
    before = cli.home.let_token_run_out()
    assert is_developer(ruby()), ruby()
    assert cli.home.token()["accessToken"] != before["accessToken"]
    notes.passed(name, "refreshes")
    cli.person.end_newest_terminal()
    ended = ruby()
    assert ended.code != 0
    notes.said(name, "ended in the portal", ended)
