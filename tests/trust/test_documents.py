"""Templates, configurations and scripts say the same, and nothing in a name gets out of its quotes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import hcl2
import pytest
import yaml

from broker.errors import BadInput
from broker.trust import cloudformation, shell, terraform
from broker.trust.documents import Format, documents
from broker.trust.rules import trust_document
from broker.trust.setup import managed_policy
from tests.trust import cast

every_account = pytest.mark.parametrize("account", cast.ACCOUNTS.values(), ids=cast.ACCOUNTS)
every_option = pytest.mark.parametrize("options", cast.OPTIONS.values(), ids=cast.OPTIONS)
HOMES = {
    "aws": "us-east-1",
    "aws-us-gov": "us-gov-west-1",
    "aws-cn": "cn-north-1",
}


# --- CloudFormation


def linted(text: str, region: str = "us-east-1") -> list[str]:
    # Loading it takes seconds, which whoever only collects tests need not spend.
    from cfnlint.api import ManualArgs, lint

    return [str(found) for found in lint(text, config=ManualArgs(regions=[region]))]


def resolved(part, parameters, conditions, *, account_id, partition="aws"):
    """A template's values as CloudFormation computes them, written from its manual."""
    again = {"account_id": account_id, "partition": partition}

    def go(value):
        return resolved(value, parameters, conditions, **again)

    if isinstance(part, list):
        return [go(one) for one in part]
    if not isinstance(part, dict):
        return part
    if len(part) == 1:
        ((name, value),) = part.items()
        if name == "Ref":
            return {"AWS::NoValue": None}.get(value, parameters.get(value, f"<{value}>"))
        if name == "Fn::Sub":
            known = {"AWS::AccountId": account_id, "AWS::Partition": partition}
            said = re.sub(r"\$\{([^!}][^}]*)\}", lambda found: known[found[1]], value)
            return said.replace("${!", "${")
        if name == "Fn::Join":
            return value[0].join(go(value[1]))
        if name == "Fn::If":
            return go(value[1] if conditions[value[0]] else value[2])
    return {key: go(value) for key, value in part.items()}


def policies_in(template, account, **parameters):
    """Role name -> trust policy, where no provider is made."""
    conditions = {name: name.endswith("Policies") is False for name in template["Conditions"]}
    conditions |= {"IfCreateOidcProvider": False, "IfCreateSamlProvider": False}
    found = {}
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::IAM::Role":
            properties = resolved(
                resource["Properties"],
                parameters,
                conditions,
                account_id=account.account_id,
                partition=account.partition,
            )
            found[properties["RoleName"]] = properties
    return found


@every_account
@every_option
def test_yaml_and_json_are_the_same_template(account, options):
    template = cloudformation.template([account], options)

    assert yaml.safe_load(cloudformation.as_yaml(template)) == template
    assert json.loads(cloudformation.as_json(template)) == template


@pytest.mark.parametrize("name", ["plain", "every way", "hostile", "aws-us-gov", "aws-cn"])
@every_option
def test_the_linter_of_aws_has_nothing_to_say(name, options):
    account = cast.ACCOUNTS[name]
    template = cloudformation.as_yaml(cloudformation.template([account], options))

    assert linted(template, HOMES[account.partition]) == []


def test_the_linter_would_have_said_something():
    template = cloudformation.template([cast.PLAIN], cast.FRESH)
    template["Resources"]["OidcProvider"]["Properties"]["Thumbprint"] = "x"

    assert linted(cloudformation.as_yaml(template)) != []


@every_account
def test_a_template_holds_the_policies_of_its_account(account):
    template = cloudformation.template([account], cast.CHOSEN)

    made = policies_in(template, account)

    for role in account.all_roles:
        assert made[role.name]["AssumeRolePolicyDocument"] == trust_document(role.subject)
        assert made[role.name].get("Path", "/") == role.path
        boundary = f"arn:{account.partition}:iam::{account.account_id}:policy/teams/Boundary"
        assert made[role.name]["PermissionsBoundary"] == boundary
        if account.discovery and role is account.discovery.role:
            (inline,) = made[role.name]["Policies"]
            assert inline["PolicyDocument"] == account.discovery.permissions()


def test_no_name_in_a_template_is_for_two_things():
    """CloudFormation has one space of names for parameters and resources."""
    account = cast.account(cast.role("Admin"), cast.role("AdminPolicies"))

    template = cloudformation.template([account], cast.FRESH)

    assert not set(template["Parameters"]) & set(template["Resources"])
    made = policies_in(template, account)
    assert set(made) == {"Admin", "AdminPolicies"}
    text = cloudformation.as_yaml(template)
    assert linted(text, HOMES["aws"]) == []


def test_a_template_too_large_for_cloudformation_is_not_written():
    many = cast.account(*(cast.role(f"Role{number}") for number in range(80)))

    with pytest.raises(BadInput, match="bytes"):
        documents([many], cast.FRESH, Format.CLOUDFORMATION)


# --- StackSets


def test_a_stack_set_gives_every_account_exactly_its_own():
    accounts = cast.several()
    template = cloudformation.template(accounts, cast.FRESH)
    assert linted(cloudformation.as_yaml(template)) == []
    differing = cloudformation.overrides(accounts, cast.FRESH)

    for account, own in zip(accounts, differing, strict=True):
        chosen = {name: p["Default"] for name, p in template["Parameters"].items()} | own
        conditions = {
            name: chosen.get(condition["Fn::Equals"][0]["Ref"]) == condition["Fn::Equals"][1]
            for name, condition in template["Conditions"].items()
            if "Fn::Equals" in condition
        } | {name: False for name in template["Conditions"] if name.endswith("Policies")}
        made = {}
        for resource in template["Resources"].values():
            if not conditions.get(resource.get("Condition"), True):
                continue
            if resource["Type"] == "AWS::IAM::Role":
                properties = resolved(
                    resource["Properties"], {}, conditions, account_id=account.account_id
                )
                assert properties["RoleName"] not in made
                made[properties["RoleName"]] = properties
        assert set(made) == {role.name for role in account.all_roles}
        for role in account.all_roles:
            document = made[role.name]["AssumeRolePolicyDocument"]
            wanted = trust_document(role.subject)
            for statement in (*document["Statement"], *wanted["Statement"]):
                statement.pop("Principal")
            assert document == wanted
            assert made[role.name]["MaxSessionDuration"] == role.max_seconds
        if account.discovery:
            (inline,) = made["DaypassDiscovery"]["Policies"]
            assert inline["PolicyDocument"] == account.discovery.permissions()
        assert (chosen["CreateSamlProvider"] == "yes") is bool(account.saml_provider_name)


def test_accounts_of_two_partitions_are_no_stack_set():
    with pytest.raises(BadInput, match="partitions"):
        documents([cast.PLAIN, cast.ELSEWHERE["aws-cn"]], cast.FRESH, Format.STACKSET)


def test_a_policy_of_one_account_is_not_attached_in_all():
    options = cast.Options(policies=(managed_policy("arn:aws:iam::111111111111:policy/Own"),))

    with pytest.raises(BadInput, match="owns"):
        documents(cast.several(), options, Format.STACKSET)


# --- Terraform


def read_hcl(text: str) -> dict:
    return hcl2.loads(text)


def value_of(quoted: str) -> str:
    """What HCL reads in a quoted template without interpolation, written from its specification."""
    assert quoted[0] == quoted[-1] == '"', quoted
    body = quoted[1:-1]
    assert not re.search(r"(?<![$%])(?:\$\$|%%)*[$%]\{", body.replace("$${", "").replace("%%{", ""))
    named = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
    text = re.sub(
        r"\\(?:U([0-9A-F]{8})|(.))",
        lambda found: chr(int(found[1], 16)) if found[1] else named[found[2]],
        body,
    )
    return text.replace("$${", "${").replace("%%{", "%{")


def resources(configuration: dict, kind: str) -> list[dict]:
    return [block[f'"{kind}"'] for block in configuration["resource"] if f'"{kind}"' in block]


@every_account
@every_option
def test_a_parser_of_hcl_reads_every_role_and_nothing_else(account, options):
    configuration = read_hcl(terraform.configuration(account, options))

    roles = [body for block in resources(configuration, "aws_iam_role") for body in block.values()]
    assert len(roles) == len(account.all_roles)
    for role, body in zip(account.all_roles, roles, strict=True):
        assert value_of(body["name"]) == role.name
        assert value_of(body.get("path", '"/"')) == role.path
        assert value_of(body.get("description", '""')) == role.description
    making = resources(configuration, "aws_iam_openid_connect_provider")
    assert bool(making) is bool(options.make_providers and account.issuer)
    metadata = resources(configuration, "aws_iam_saml_provider")
    for block in metadata:
        for body in block.values():
            assert value_of(body["saml_metadata_document"]) == cast.METADATA
    assert bool(metadata) is bool(options.make_providers and account.saml_provider_name)


@pytest.mark.parametrize("account", [cast.PLAIN, cast.HOSTILE, cast.EVERY_WAY])
def test_the_policy_in_a_configuration_is_the_right_one(account):
    text = terraform.configuration(account, cast.PRESENT)

    written = re.findall(r"assume_role_policy\s+= jsonencode\((\{.*?\n  \})\)", text, re.DOTALL)

    # What is between the braces is JSON but for the equals signs and the last commas.
    said = [
        json.loads(re.sub(r",(\s*[\]}])", r"\1", _with_commas(one.replace('" = ', '": '))))
        for one in written
    ]
    assert said == [trust_document(role.subject) for role in account.all_roles]


def _with_commas(text: str) -> str:
    return re.sub(r'(["\]}])\n(\s*")', r"\1,\n\2", re.sub(r'"\s+= ', '": ', text))


# --- The AWS CLI


def without_commands(script: str, folder: Path) -> list[list[str]]:
    """What a shell would call `aws` with: a stand-in writes its arguments down, and finds nothing that is asked for."""
    tools, said = folder / "tools", folder / "said"
    tools.mkdir()
    (tools / "aws").write_text(
        f"#!{sys.executable}\n"
        "import json, sys\n"
        f"open({str(said)!r}, 'a').write(json.dumps(sys.argv[1:]) + chr(10))\n"
        "if 'get-caller-identity' in sys.argv: print('111122223333')\n"
        "elif sys.argv[2].startswith('get-'): sys.exit(254)\n"
    )
    (tools / "aws").chmod(0o755)
    empty = folder / "empty"
    empty.mkdir()
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=empty,
        env={"PATH": f"{tools}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(empty.iterdir()) == []
    return [json.loads(line) for line in said.read_text().splitlines()]


def option(call: list[str], name: str) -> str | None:
    for position, word in enumerate(call):
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if word == name:
            return call[position + 1]
    return None


@pytest.mark.parametrize("account", [cast.EVERY_WAY, cast.HOSTILE], ids=["every way", "hostile"])
@every_option
def test_a_shell_takes_every_name_for_a_name(account, options, tmp_path):
    calls = without_commands(shell.commands(account, options), tmp_path)

    made = [call for call in calls if call[:2] == ["iam", "create-role"]]
    assert [option(call, "--role-name") for call in made] == [r.name for r in account.all_roles]
    for role, call in zip(account.all_roles, made, strict=True):
        policy = option(call, "--assume-role-policy-document")
        assert json.loads(policy) == trust_document(role.subject)
        assert option(call, "--path") == (role.path if role.path != "/" else None)
        described = option(call, "--description") or ""
        assert described in (role.description, "")
        assert not described.startswith("file:")
    (provider,) = [c for c in calls if c[1] == "create-saml-provider"] or [None]
    assert (provider is not None) is options.make_providers
    if provider:
        assert option(provider, "--saml-metadata-document") == cast.METADATA


def test_a_script_stops_before_it_touches_another_account(tmp_path):
    other = cast.account(cast.role(number="999999999999"), number="999999999999")

    with pytest.raises(AssertionError, match="These ar"):
        without_commands(shell.commands(other, cast.FRESH), tmp_path)

    said = (tmp_path / "said").read_text()
    assert "iam" not in said


def test_a_stack_set_is_deployed_to_the_accounts_that_were_chosen_and_no_others(tmp_path):
    accounts = cast.several()
    _, script = documents(accounts, cast.FRESH, Format.STACKSET)

    calls = without_commands(script.text, tmp_path)

    deployments = [call for call in calls if call[1] == "create-stack-instances"]
    targets = [json.loads(option(call, "--deployment-targets")) for call in deployments]
    assert sorted(n for target in targets for n in target["Accounts"]) == [
        account.account_id for account in accounts
    ]
    assert {target["AccountFilterType"] for target in targets} == {"INTERSECTION"}


# --- What cannot be set up


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "arn:aws:iam::111122223333:role/Developer",
        'a"b',
        "a b",
        "/a",
        "a//b",
        "${x}",
        "a\n",
    ],
)
def test_only_managed_policies_are_named(text):
    with pytest.raises(BadInput):
        managed_policy(text if text != "a\n" else "a\nb")


def test_a_boundary_is_always_one_of_the_account_itself():
    boundary = managed_policy("arn:aws:iam::999999999999:policy/teams/Boundary")

    assert boundary.arn("aws", "111122223333") == (
        "arn:aws:iam::111122223333:policy/teams/Boundary"
    )
    assert managed_policy("arn:aws:iam::aws:policy/ReadOnlyAccess").arn("aws-cn", "1") == (
        "arn:aws-cn:iam::aws:policy/ReadOnlyAccess"
    )


def test_nobody_trusts_a_role_of_daypasss_that_was_not_named():
    account = cast.account(cast.role("Machine", "assume_role"))
    unnamed = cast.RoleToMake(subject=cast.subject("Machine", "assume_role", broker_arn=""))

    assert documents([account], cast.FRESH, Format.CLI)
    with pytest.raises(BadInput, match="which one"):
        documents([cast.account(unnamed)], cast.FRESH, Format.CLI)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no sh")
def test_every_script_is_one_that_a_shell_reads():
    assert shutil.which("sh")
    for account in cast.ACCOUNTS.values():
        script = shell.commands(account, cast.CHOSEN)
        subprocess.run(["sh", "-n"], input=script, text=True, check=True)
