"""The config file that Daypass writes for people, read by botocore as it is, and by other rules of reading."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
from pathlib import Path

import botocore.configloader
import botocore.session
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.awssso.profiles import (
    MERGE_SCRIPT,
    Place,
    ProfileRole,
    config,
    fetch_lines,
    guides,
    merge,
    names,
    process_line,
)
from broker.errors import BadInput

PLACE = Place("https://daypass.example.com")
DEMO = Place("http://127.0.0.1:8000")
DEVELOPER = ProfileRole("111122223333", "Payments production", "payments", "Developer", "eu-west-1")
READER = ProfileRole("444455556666", "Payments production", "", "Reader", "us-east-1")


def read_by_botocore(text: str, tmp_path) -> dict:
    file = tmp_path / "config"
    file.write_text(text, encoding="ascii")
    return botocore.configloader.load_config(str(file))


def text_of(*roles: ProfileRole, **options) -> str:
    return config(PLACE, roles, person="grace", **options).text


# --- As clients read it


def test_botocore_finds_every_role_with_its_session_and_its_addresses(tmp_path):
    found = read_by_botocore(text_of(DEVELOPER, READER), tmp_path)

    assert found["profiles"]["payments.Developer"] == {
        "sso_session": "daypass.example.com",
        "sso_account_id": "111122223333",
        "sso_role_name": "Developer",
        "region": "eu-west-1",
        "services": "daypass.example.com",
    }
    assert found["profiles"]["payments-production-444455556666.Reader"]["sso_role_name"] == "Reader"
    assert found["sso_sessions"] == {
        "daypass.example.com": {
            "sso_start_url": "https://daypass.example.com/start",
            "sso_region": "daypass",
            "sso_registration_scopes": "sso:account:access",
        }
    }
    assert set(found["services"]) == {"daypass.example.com"}


@pytest.mark.parametrize("service", ["sso", "sso-oidc", "signin"])
def test_with_such_a_profile_botocore_asks_daypass_and_nobody_else(service, tmp_path, monkeypatch):
    (tmp_path / "config").write_text(text_of(DEVELOPER))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    session = botocore.session.Session(profile="payments.Developer")

    client = session.create_client(service, region_name="daypass")

    assert client.meta.endpoint_url == "https://daypass.example.com/aws"


def test_every_profile_says_which_services_it_means(tmp_path):
    profiles = read_by_botocore(text_of(DEVELOPER, READER), tmp_path)["profiles"]

    assert len(profiles) == 3  # and the one for aws login
    assert {one["services"] for one in profiles.values()} == {"daypass.example.com"}


def test_without_the_override_a_call_goes_to_a_host_that_is_nobodys(tmp_path, monkeypatch):
    left_out = text_of(DEVELOPER).replace("services = daypass.example.com", "")
    (tmp_path / "config").write_text(left_out)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    session = botocore.session.Session(profile="payments.Developer")

    client = session.create_client("sso", region_name="daypass")

    assert client.meta.endpoint_url == "https://portal.sso.daypass.amazonaws.com"


def test_the_profile_for_aws_login_has_nothing_that_aws_login_refuses(tmp_path):
    found = read_by_botocore(text_of(DEVELOPER), tmp_path)["profiles"]

    assert found["aws-login.daypass.example.com"] == {
        "region": "eu-west-1",
        "services": "daypass.example.com",
    }


def test_somebody_without_roles_gets_a_file_that_says_so(tmp_path):
    text = text_of()

    assert "There is no role yet" in text
    assert list(read_by_botocore(text, tmp_path)["profiles"]) == ["aws-login.daypass.example.com"]


def test_the_demo_gets_the_start_url_that_clients_take_without_tls():
    text = config(DEMO, [DEVELOPER], person="grace").text

    assert (
        "sso_start_url = https://identitycenter.amazonaws.com/ssoins-daypass-127-0-0-1-8000" in text
    )
    assert "endpoint_url = http://127.0.0.1:8000/aws" in text
    assert "[sso-session 127.0.0.1-8000]" in text


@pytest.mark.parametrize(
    "origin",
    [
        "https://daypass.example.com",
        "https://0123456789abcdef",
        "https://a.b:8443",
        "http://[::1]:8000",
    ],
)
def test_our_identifier_is_never_one_of_a_real_identity_center(origin):
    assert not re.search(r"ssoins-[0-9a-f]{16}$", Place(origin).identifier)
    assert re.fullmatch(
        r"https://identitycenter\.amazonaws\.com/ssoins-daypass-[a-z0-9-]+",
        Place(origin).identifier,
    )


def test_two_daypasses_share_no_name(tmp_path):
    other = Place("https://daypass.example.org")
    both = text_of(DEVELOPER) + config(other, [READER], person="grace").text

    found = read_by_botocore(both, tmp_path)

    assert set(found["sso_sessions"]) == {"daypass.example.com", "daypass.example.org"}


def test_the_same_roles_give_the_same_text_whatever_their_order():
    assert text_of(DEVELOPER, READER) == text_of(READER, DEVELOPER)


def test_a_script_token_needs_no_sign_in_and_no_address(tmp_path):
    curlrc = "/home/grace/my files/curlrc"

    text = text_of(DEVELOPER, curlrc=curlrc)

    assert read_by_botocore(text, tmp_path)["profiles"] == {
        "payments.Developer": {
            "credential_process": f'curl -K "{curlrc}" '
            '"https://daypass.example.com/api/process?account=111122223333&role=Developer"',
            "region": "eu-west-1",
        }
    }
    assert "sso" not in text


@pytest.mark.parametrize(
    "curlrc", ["~/curlrc", "curlrc", '/x" -o /etc/y "', "/x\ny", "/$(id)", "/x;y", "/" + "x" * 300]
)
def test_a_path_that_would_need_quoting_is_refused(curlrc):
    with pytest.raises(BadInput, match="whole path"):
        text_of(DEVELOPER, curlrc=curlrc)


def test_what_curl_is_called_with_is_the_words_that_are_meant():
    import shlex

    role = "a+b=c,d@e"

    words = shlex.split(process_line(PLACE, "111122223333", role, "/home/grace/curlrc"))

    assert words[:3] == ["curl", "-K", "/home/grace/curlrc"]
    assert words[3].endswith("/api/process?account=111122223333&role=a%2Bb%3Dc%2Cd%40e")


# --- Names


@pytest.mark.parametrize(
    ("origin", "session"),
    [
        ("https://Daypass.example.com", "daypass.example.com"),
        ("http://localhost:8000", "localhost-8000"),
        ("http://[::1]:8000", "--1-8000"),
        ("https://[2001:db8::7]", "2001-db8--7"),
    ],
)
def test_a_session_s_name_ends_no_section_of_the_file(origin, session):
    place = Place(origin)

    assert place.session == session
    assert f"[sso-session {session}]\n" in config(place, [], person="ada").text


def test_an_account_with_an_alias_is_called_by_it_and_one_without_bears_its_id():
    assert names("").of(DEVELOPER) == "payments.Developer"
    assert names("").of(READER) == "payments-production-444455556666.Reader"


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{account}/{role}", "payments/Developer"),
        ("work-{account}_{role}", "work-payments_Developer"),
        ("{role}@{account}", "Developer@payments"),
        ("{role}-{account_id}", "Developer-111122223333"),
        ("{account_id}{role}", "111122223333Developer"),
    ],
)
def test_people_may_call_profiles_otherwise(template, name):
    assert names(template).of(DEVELOPER) == name


@pytest.mark.parametrize(
    "template",
    [
        "{account}-{role}",
        "{account}{role}",
        "{role}",
        "{account}",
        "{account}.{role}.{role}",
        "{account}.{account_id}.{role}",
        "{account}.{role}]\n[default]",
        "{account}.{role}#",
        "{account} {role}",
        "{account}.{role.__class__}",
        "{account!r}.{role}",
        "x" * 200 + "{account}.{role}",
    ],
)
def test_a_template_that_could_give_two_roles_one_name_or_break_the_file_is_refused(template):
    with pytest.raises(BadInput):
        names(template)


role_names = st.text("abAB19+=,.@-_", min_size=1, max_size=8)
account_names = st.text(min_size=1, max_size=20)
aliases = st.one_of(
    st.sampled_from(["", "Pay", "pay", "p.ay", "p-ay", "x-111122223333", "111122223334"]),
    st.from_regex(r"[a-z][a-z0-9]{0,3}(-[a-z0-9]{1,3}){0,2}", fullmatch=True),
)
ids = st.sampled_from(["111122223333", "111122223334", "000000000001"])
templates = st.sampled_from(
    [
        "{account}.{role}",
        "{role}.{account}",
        "{role}-{account_id}",
        "{account_id}{role}",
        "a-{account}-/-{role}-z",
    ]
)


def catalogue(rows) -> list[ProfileRole]:
    """Roles of a company: one name and one alias for each account, no alias twice, each role once."""
    accounts: dict[str, tuple[str, str]] = {}
    taken: set[str] = set()
    roles = {}
    for account_id, account_name, alias, role_name in rows:
        if account_id not in accounts:
            accounts[account_id] = (account_name, "" if alias in taken else alias)
            taken.add(alias)
        found_name, found_alias = accounts[account_id]
        roles[account_id, role_name] = ProfileRole(
            account_id, found_name, found_alias, role_name, "eu-west-1"
        )
    return list(roles.values())


catalogues = st.lists(st.tuples(ids, account_names, aliases, role_names), max_size=8).map(catalogue)


@given(catalogues, templates)
def test_no_two_roles_have_one_name(roles, template):
    naming = names(template)

    assert len({naming.of(role) for role in roles}) == len(roles)


@given(catalogues, templates)
def test_a_name_is_one_that_every_client_takes(roles, template):
    for role in roles:
        assert re.fullmatch(r"[A-Za-z0-9_/.%@:+-]+", names(template).of(role))


@settings(max_examples=60)
@given(catalogues, account_names)
def test_no_name_of_an_account_or_person_becomes_anything_in_the_file(roles, person):
    """Read by two readers with other ideas of lines, comments and sections than each other."""
    made = config(PLACE, roles, person=person)
    reader = configparser.RawConfigParser(default_section="none", strict=True)

    reader.read_string(made.text)
    lines = [line for line in made.text.splitlines() if line and not line.startswith("#")]

    assert made.text.isascii()
    assert len(made.profiles) == len(roles)
    wanted = {f"profile {name}" for name in (*made.profiles, made.sign_in)}
    wanted |= {"sso-session daypass.example.com", "services daypass.example.com"}
    assert set(reader.sections()) == wanted
    assert {line[1:-1] for line in lines if line.startswith("[")} == wanted
    assert {line.partition("=")[0].strip() for line in lines if not line.startswith("[")} <= {
        *("sso_start_url", "sso_region", "sso_registration_scopes", "sso", "sso_oidc", "signin"),
        *("endpoint_url", "sso_session", "sso_account_id", "sso_role_name", "region", "services"),
    }


@pytest.mark.parametrize(
    "nasty",
    [
        "x\n[default]\nregion = evil",
        "x\r[profile a]",
        "x\u2028[profile a]",
        "x\x85[profile a]",
        "] # ; \x00",
        "# >>> Daypass daypass.example.com >>>",
        "# <<< Daypass daypass.example.com <<<",
    ],
)
def test_a_nasty_name_stays_on_its_line(nasty, tmp_path):
    text = config(
        PLACE, [ProfileRole("111122223333", nasty, "", "Developer", "eu-west-1")], person=nasty
    ).text

    found = read_by_botocore(text, tmp_path)

    assert len(found["profiles"]) == 2
    assert "default" not in found["profiles"]
    assert sum(line == PLACE.end for line in text.splitlines()) == 1
    assert all(len(line) < 200 for line in text.splitlines())


@pytest.mark.parametrize(
    "odd",
    [
        ProfileRole("111122223333", "x", "", "Dev\n[default]", "eu-west-1"),
        ProfileRole("1111", "x", "", "Dev", "eu-west-1"),
        ProfileRole("111122223333", "x", "", "Dev", "eu-west-1\nservices = evil"),
        ProfileRole("\u0661" * 12, "x", "", "Dev", "eu-west-1"),
    ],
)
def test_a_role_that_is_none_is_left_out_and_counted(odd):
    made = config(PLACE, [odd, DEVELOPER], person="grace")

    assert made.profiles == ("payments.Developer",)
    assert made.left_out == 1
    assert "evil" not in made.text


# --- Into a file that is there

OWN = """\
[default]
region = eu-central-1
output = json

# my work
[profile work]
sso_session = corp
sso_account_id = 999988887777
sso_role_name = Admin

[sso-session corp]
sso_start_url = https://corp.awsapps.com/start
sso_region = eu-west-1
"""


def by_python(own: str, new: str, tmp_path) -> str | None:
    return merge(own, new).text or None


def by_script(own: str, new: str, tmp_path) -> str | None:
    (tmp_path / "own").write_text(own)
    (tmp_path / "new").write_text(new)
    (tmp_path / "merge.sh").write_text(MERGE_SCRIPT)
    done = subprocess.run(
        ["sh", tmp_path / "merge.sh", tmp_path / "new", "--write"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "AWS_CONFIG_FILE": str(tmp_path / "own"),
        },
        capture_output=True,
        text=True,
        timeout=30,
    )
    if done.returncode:
        assert "daypass-merge: " in done.stderr
        assert (tmp_path / "own").read_text() == own
        return None
    return (tmp_path / "own").read_text()


both = pytest.mark.parametrize("merged", [by_python, by_script])


@both
def test_what_a_person_had_is_there_as_it_was(merged, tmp_path):
    result = merged(OWN, text_of(DEVELOPER), tmp_path)

    assert result.startswith(OWN)
    before, after = read_by_botocore(OWN, tmp_path), read_by_botocore(result, tmp_path)
    assert before["profiles"].items() <= after["profiles"].items()
    assert after["profiles"]["payments.Developer"]["sso_session"] == "daypass.example.com"
    assert after["sso_sessions"]["corp"] == before["sso_sessions"]["corp"]


@both
def test_a_newer_one_takes_the_place_of_the_older(merged, tmp_path):
    mine = "\n[profile later]\nregion = eu-west-3\n"
    first = merged(OWN, text_of(DEVELOPER), tmp_path) + mine

    second = merged(first, text_of(READER), tmp_path)

    assert second == merged(OWN, text_of(READER), tmp_path) + mine
    assert "payments.Developer" not in second
    assert merged(second, text_of(READER), tmp_path) == second


@both
@pytest.mark.parametrize(
    "mine",
    [
        "[profile payments.Developer]",
        "  [profile   payments.Developer]  # mine",
        '[profile "payments.Developer"]',
        "[sso-session daypass.example.com]",
        "[services daypass.example.com]",
        "[profile aws-login.daypass.example.com]",
    ],
)
@pytest.mark.parametrize("after", [False, True])
def test_a_name_that_is_in_both_is_never_written(merged, mine, after, tmp_path):
    own = OWN + mine + "\nregion = eu-west-3\n"
    if after:
        own = text_of(DEVELOPER) + own

    assert merged(own, text_of(DEVELOPER), tmp_path) is None


@both
@pytest.mark.parametrize(
    "broken",
    [
        PLACE.begin + "\n[profile a]\n",
        PLACE.end + "\n",
        f"{PLACE.end}\n{PLACE.begin}\n",
        f"{PLACE.begin}\n{PLACE.begin}\n{PLACE.end}\n",
        f"{PLACE.begin}\n{PLACE.end}\n{PLACE.begin}\n{PLACE.end}\n",
    ],
)
def test_a_file_whose_marks_are_torn_is_left_alone(merged, broken, tmp_path):
    assert merged(OWN + broken, text_of(DEVELOPER), tmp_path) is None


@both
def test_an_empty_file_becomes_the_generated_one(merged, tmp_path):
    assert merged("", text_of(DEVELOPER), tmp_path) == text_of(DEVELOPER)


@both
def test_another_daypass_in_the_same_file_is_left_alone(merged, tmp_path):
    other = config(Place("https://daypass.example.org"), [], person="grace").text

    result = merged(other, text_of(DEVELOPER), tmp_path)

    assert other in result
    assert text_of(DEVELOPER) in result


def test_the_script_writes_nothing_before_it_is_told_to_and_shows_what_it_would(tmp_path):
    (tmp_path / "own").write_text(OWN)
    (tmp_path / "new").write_text(text_of(DEVELOPER))
    (tmp_path / "merge.sh").write_text(MERGE_SCRIPT)

    done = subprocess.run(
        ["sh", tmp_path / "merge.sh", tmp_path / "new"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "AWS_CONFIG_FILE": str(tmp_path / "own"),
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    assert "+[profile payments.Developer]" in done.stdout
    assert "Nothing is written yet" in done.stdout
    assert (tmp_path / "own").read_text() == OWN


def test_the_script_keeps_the_file_as_it_was(tmp_path):
    assert by_script(OWN, text_of(DEVELOPER), tmp_path)
    assert (tmp_path / "own.before-daypass").read_text() == OWN


def test_a_person_is_told_what_would_change_and_what_is_odd():
    found = merge(
        "[default]\nservices = corp\n" + text_of(DEVELOPER) + "output = json\n", text_of(READER)
    )

    assert "-[profile payments.Developer]" in found.changes
    assert "+[profile payments-production-444455556666.Reader]" in found.changes
    assert any("[default] has services = corp" in remark for remark in found.remarks)
    assert any("output = json" in remark for remark in found.remarks)


# --- A line for each client


def test_every_client_has_its_lines():
    found = {guide.id: guide for guide in guides(PLACE, "payments.Developer", DEVELOPER)}

    assert {
        "cli",
        "login",
        "python",
        "javascript",
        "go",
        "ruby",
        "rust",
        "java",
        "terraform",
    } <= set(found)
    assert {"docker", "vscode", "scripts", "containers", "chaining", "environment", "older"} <= set(
        found
    )
    assert len({guide.title for guide in found.values()}) == len(found)
    assert "services = daypass.example.com" in found["chaining"].text


def test_an_older_cli_is_given_the_address_by_rules_that_botocore_reads(tmp_path, monkeypatch):
    older = next(g for g in guides(PLACE, "x", DEVELOPER) if g.id == "older")
    subprocess.run(
        ["sh", "-c", older.text],
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        check=True,
        timeout=30,
    )
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path / ".aws/models"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))

    for service in ("sso", "sso-oidc"):
        client = botocore.session.Session().create_client(
            service, region_name="daypass", config=Config(signature_version=UNSIGNED)
        )
        rules = client._ruleset_resolver.construct_endpoint(
            client.meta.service_model.operation_model(client.meta.service_model.operation_names[0]),
            {},
            {},
        )
        assert rules.url == "https://daypass.example.com/aws"


def test_no_line_for_a_client_holds_a_secret_or_sends_every_service_here():
    for guide in guides(PLACE, "payments.Developer", DEVELOPER):
        assert "AWS_ENDPOINT_URL=" not in guide.text
        assert "aws_secret" not in guide.text.lower()


# --- docs/terminal.md


def test_the_page_of_the_documentation_shows_what_is_generated():
    page = (Path(__file__).parents[2] / "docs/terminal.md").read_text()
    blocks = re.findall(r"```ini\n(.*?)```", page, re.S)
    first, another, script = blocks

    generated = text_of(DEVELOPER)
    for section in first.strip().split("\n\n"):
        assert section in generated
    assert (
        another.strip()
        == next(
            g for g in guides(PLACE, "payments.Developer", DEVELOPER) if g.id == "chaining"
        ).text
    )
    assert (
        script.strip()
        in next(g for g in guides(PLACE, "payments.Developer", DEVELOPER) if g.id == "scripts").text
    )


def test_the_shell_lines_of_the_documentation_are_those_of_the_page():
    page = (Path(__file__).parents[2] / "docs/terminal.md").read_text()

    assert fetch_lines(PLACE, "/terminal/config") in page
    assert next(g for g in guides(PLACE, "x", DEVELOPER) if g.id == "environment").text in page


def test_the_line_that_takes_daypass_out_again_leaves_the_rest(tmp_path):
    page = (Path(__file__).parents[2] / "docs/terminal.md").read_text()
    line = re.search(r"^  (sed .*)$", page, re.M)[1]
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text(OWN + text_of(DEVELOPER) + "[profile later]\n")

    subprocess.run(
        ["sh", "-c", line],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        check=True,
        timeout=30,
    )

    assert (tmp_path / ".aws/config").read_text() == OWN + "[profile later]\n"
