"""Keys in every form: what the shell, the file reader or the SDK gets is exactly what AWS gave."""

from __future__ import annotations

import configparser
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime

import boto3
import botocore.session
import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import Person
from broker.audit.models import AuditEvent
from broker.entitlements.rules import Ask, Refused
from broker.handover.keys import Keys, get_keys
from broker.handover.rules import KeyFacts, expiration, key_forms, profile_name
from broker.sessions.models import Session
from tests import factories as make
from tests.aws.servers import sts_answer

NASTY = "a+b/c=d'e\"f$g`h\\i!j%k&l|m;n(o)p*q~r#s{t}u<v>w^x"
PLAIN = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY=="


def facts(secret: str = PLAIN, token: str = "FwoGZXIv+/==", region: str = "eu-west-1") -> KeyFacts:
    return KeyFacts(
        access_key_id="ASIAEXAMPLE",
        secret_access_key=secret,
        session_token=token,
        expires_at=datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
        account_id="111122223333",
        region=region,
        profile="111122223333_Developer",
    )


def form(id: str, keys: KeyFacts) -> str:
    return next(form.text for form in key_forms(keys) if form.id == id)


PRINT = "; ".join(
    f'printf "%s\\n" "${{{name}-unset}}"'
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_CREDENTIAL_EXPIRATION",
        "AWS_REGION",
        "AWS_SECURITY_TOKEN",
        "AWS_PROFILE",
    )
)


@pytest.mark.parametrize("shell", ["bash", "sh", "dash", "zsh"])
@pytest.mark.parametrize("secret", [PLAIN, NASTY])
def test_the_exports_give_a_posix_shell_exactly_the_keys(shell, secret):
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell}. On Debian and Ubuntu: apt-get install {shell}")
    script = form("bash", facts(secret, token=NASTY)) + PRINT

    said = subprocess.run(
        [program],
        input=script,
        env={"AWS_SECURITY_TOKEN": "stale", "AWS_PROFILE": "other"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert said.stderr == ""
    assert said.stdout.splitlines() == [
        "ASIAEXAMPLE",
        secret,
        NASTY,
        "2030-01-02T03:04:05Z",
        "eu-west-1",
        "unset",
        "unset",
    ]


def test_the_exports_reach_programs_that_the_shell_starts():
    script = (
        form("bash", facts())
        + f"{sys.executable} -c 'import os; print(os.environ[\"AWS_SECRET_ACCESS_KEY\"])'"
    )

    said = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=True)

    assert said.stdout.strip() == PLAIN


@pytest.mark.skipif(
    shutil.which("fish") is None,
    reason="there is no fish. On Debian and Ubuntu: apt-get install fish",
)
def test_fish_gets_exactly_the_keys():
    script = form("fish", facts(NASTY)) + 'printf "%s\\n" $AWS_SECRET_ACCESS_KEY'

    said = subprocess.run(["fish"], input=script, capture_output=True, text=True, check=True)

    assert said.stdout.splitlines() == [NASTY]


if shutil.which("pwsh"):  # in no Debian package: its quoting rules below stand in for it elsewhere

    def test_powershell_gets_exactly_the_keys():
        script = form("powershell", facts(NASTY)) + "Write-Output $Env:AWS_SECRET_ACCESS_KEY"

        said = subprocess.run(
            ["pwsh", "-NoProfile", "-Command", script], capture_output=True, text=True, check=True
        )

        assert said.stdout.splitlines() == [NASTY]


def unquote(text: str, *, escapes: tuple[tuple[str, str], ...]) -> str:
    """A single-quoted string of a shell that is not here, read by that shell's own rules."""
    assert text[0] == text[-1] == "'"
    read, rest = "", text[1:-1]
    while rest:
        for written, meant in escapes:
            if rest.startswith(written):
                read, rest = read + meant, rest[len(written) :]
                break
        else:
            assert rest[0] != "'"
            read, rest = read + rest[0], rest[1:]
    return read


def test_fish_quoting_follows_its_rules():
    """In single quotes fish knows two escapes: a backslash before a quote or a backslash."""
    line = form("fish", facts(NASTY)).splitlines()[1]

    name, value = line.removeprefix("set -gx ").split(" ", 1)

    assert name == "AWS_SECRET_ACCESS_KEY"
    assert unquote(value, escapes=(("\\\\", "\\"), ("\\'", "'"))) == NASTY
    assert "set -e AWS_SECURITY_TOKEN" in form("fish", facts())


def test_powershell_quoting_follows_its_rules():
    """In single quotes PowerShell knows one escape: a doubled quote."""
    line = form("powershell", facts(NASTY)).splitlines()[1]

    name, value = line.split(" = ", 1)

    assert name == "$Env:AWS_SECRET_ACCESS_KEY"
    assert unquote(value, escapes=(("''", "'"),)) == NASTY
    assert "Remove-Item Env:AWS_SECURITY_TOKEN" in form("powershell", facts())


def test_cmd_lines_hold_the_values_between_quotes_and_end_as_windows_wants():
    text = form("cmd", facts("a&b|c<d>e^f+g/h="))

    assert 'set "AWS_SECRET_ACCESS_KEY=a&b|c<d>e^f+g/h="\r\n' in text
    assert 'set "AWS_SECURITY_TOKEN="\r\n' in text
    assert text.count("\n") == text.count("\r\n")


@pytest.mark.parametrize("character", '"%!')
def test_what_cmd_cannot_quote_is_not_offered_for_cmd(character):
    assert "cmd" not in {form.id for form in key_forms(facts(f"a{character}b"))}


@pytest.mark.parametrize("secret", [PLAIN, NASTY])
def test_the_profile_is_read_by_botocore(tmp_path, monkeypatch, secret):
    path = tmp_path / "credentials"
    path.write_text(form("credentials_file", facts(secret)))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))

    session = botocore.session.Session(profile="111122223333_Developer")
    read = session.get_credentials()

    assert (read.access_key, read.secret_key, read.token) == ("ASIAEXAMPLE", secret, "FwoGZXIv+/==")
    assert session.get_config_variable("region") == "eu-west-1"


def test_the_profile_says_until_when_it_works():
    text = form("credentials_file", facts())

    assert "# until 2030-01-02T03:04:05Z" in text
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    assert parser.sections() == ["111122223333_Developer"]


def test_credential_process_json_is_read_by_botocore(tmp_path, monkeypatch):
    document = tmp_path / "answer.json"
    document.write_text(form("credential_process", facts(NASTY)))
    config = tmp_path / "config"
    config.write_text(f"[profile dev]\ncredential_process = cat {document}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))

    read = botocore.session.Session(profile="dev").get_credentials()

    assert (read.access_key, read.secret_key, read.token) == ("ASIAEXAMPLE", NASTY, "FwoGZXIv+/==")
    assert read.account_id == "111122223333"


def test_credential_process_json_has_the_names_that_sdks_look_for():
    assert json.loads(form("credential_process", facts())) == {
        "Version": 1,
        "AccessKeyId": "ASIAEXAMPLE",
        "SecretAccessKey": PLAIN,
        "SessionToken": "FwoGZXIv+/==",
        "Expiration": "2030-01-02T03:04:05Z",
        "AccountId": "111122223333",
    }


def test_the_env_file_has_no_quotes_because_docker_would_keep_them():
    text = form("dotenv", facts())

    assert f"AWS_SECRET_ACCESS_KEY={PLAIN}\n" in text
    assert "'" not in text and '"' not in text
    assert "dotenv" not in {form.id for form in key_forms(facts("a b#c"))}


def test_without_a_region_none_is_written():
    for made in key_forms(facts(region="")):
        assert "REGION" not in made.text.upper()


def test_every_form_has_a_name_of_its_own_and_masks_its_text():
    forms = key_forms(facts())

    assert [made.id for made in forms] == [
        "bash", "fish", "powershell", "cmd", "credentials_file", "dotenv", "credential_process",
    ]  # fmt: skip
    assert len({made.filename for made in forms}) == len(forms)
    assert PLAIN not in repr(forms) and PLAIN not in repr(facts())


def test_a_profile_name_is_safe_in_an_ini_file():
    assert profile_name("111122223333", "Dev+Ops=1,x") == "111122223333_Dev-Ops-1-x"


def test_an_expiration_is_utc_to_the_second():
    from datetime import timedelta
    from datetime import timezone as zone

    local = datetime(2030, 1, 1, 1, 0, 0, 999999, tzinfo=zone(timedelta(hours=2)))

    assert expiration(local) == "2029-12-31T23:00:00Z"


# --- The hand-over


@pytest.mark.django_db
def test_the_keys_work_and_aws_names_role_and_session(alice, role_for, aws):
    keys = get_keys(make.principal(alice), Ask(role_for().id, "keys"), now=timezone.now())

    assert isinstance(keys, Keys)
    document = json.loads(next(f.text for f in keys.forms if f.id == "credential_process"))
    caller = boto3.client(
        "sts",
        region_name="eu-west-1",
        endpoint_url=aws.url,
        aws_access_key_id=document["AccessKeyId"],
        aws_secret_access_key=document["SecretAccessKey"],
        aws_session_token=document["SessionToken"],
    ).get_caller_identity()
    assert caller["Arn"].endswith(f":assumed-role/Developer/{keys.session_name}")
    assert caller["Account"] == document["AccountId"]
    assert keys.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ") == document["Expiration"]


@pytest.mark.django_db
def test_the_hand_over_of_keys_is_recorded_with_the_issue_and_without_the_keys(
    alice, role_for, sts_stand_in
):
    keys = get_keys(
        make.principal(alice), Ask(role_for().id, "keys"), now=timezone.now(), client="aws-cli/2"
    )

    kinds = list(AuditEvent.objects.order_by("seq").values_list("kind", flat=True))[-3:]
    assert kinds == ["role.authorised", "session.issued", "hand_over.keys"]
    session = Session.objects.get()
    assert AuditEvent.objects.get(kind="hand_over.keys").subject_id == str(session.id)
    assert (session.hand_over, session.client) == ("keys", "aws-cli/2")
    assert "canary" not in repr(keys)


@pytest.mark.django_db(transaction=True)
def test_somebody_cut_off_while_sts_answers_gets_no_keys(alice, role_for, sts_stand_in):
    def cut_off(request):
        Person.objects.filter(pk=alice.pk).update(epoch=7)
        connection.close()
        return sts_answer(request)

    sts_stand_in.will(cut_off)

    refused = get_keys(make.principal(alice), Ask(role_for().id, "keys"), now=timezone.now())

    assert isinstance(refused, Refused)
    assert not AuditEvent.objects.filter(kind="hand_over.keys").exists()


@pytest.mark.django_db
def test_without_the_right_there_are_no_keys(alice, sts_stand_in):
    refused = get_keys(make.principal(alice), Ask(make.role().id, "keys"), now=timezone.now())

    assert isinstance(refused, Refused)
    assert sts_stand_in.requests == []


def test_asking_for_the_console_does_not_give_keys():
    with pytest.raises(ValueError, match="keys"):
        get_keys(make.principal(), Ask(make.principal().person_id, "console"), now=timezone.now())
