"""SDKs and tools as they come from PyPI and npm, with a sign-in as the AWS CLI leaves it: none has heard of Daypass."""

from __future__ import annotations

import re

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.clients import lineup
from tests.clients.homes import Home, Ran
from tests.clients.lineup import Client
from tests.clients.login import profile, sign_in_by_pkce
from tests.clients.notes import Notes

PAYMENTS, STAGING, SHOP = "210000000101", "210000000102", "210000000202"

sso_clients = pytest.mark.parametrize("client", lineup.knowing_sso(), ids=str)
refreshing = pytest.mark.parametrize("client", lineup.refreshing(), ids=str)


@pytest.fixture
def signed_in(home: Home, maya) -> Home:
    """With the config of the page Terminal, and signed in."""
    home.config.write_text(maya.config())
    sign_in_by_pkce(home, maya.let_in)
    return home


def is_developer(ran: Ran) -> bool:
    return ran.code == 0 and bool(
        re.search(rf"arn:aws:sts::{STAGING}:assumed-role/Developer/maya\.", ran.said)
    )


@sso_clients
def test_one_sign_in_serves_every_profile(client: Client, signed_in, notes: Notes):
    for account, role in ((STAGING, "Developer"), (SHOP, "ReadOnly")):
        ran = client.who_am_i(signed_in, profile(signed_in, account, role))

        assert ran.code == 0, ran
        assert re.search(rf"arn:aws:sts::{account}:assumed-role/{role}/maya\.", ran.said), ran
    notes.passed(client, "credentials")


@refreshing
def test_what_ran_out_is_refreshed_by_the_client_itself(
    client: Client, signed_in, desk, notes: Notes
):
    desk.do("let_access_run_out")
    before = signed_in.let_token_run_out()

    ran = client.who_am_i(signed_in, profile(signed_in, STAGING, "Developer"))

    assert is_developer(ran), ran
    after = signed_in.token()
    assert after["accessToken"] != before["accessToken"]
    assert after["refreshToken"] != before["refreshToken"]
    notes.passed(client, "refreshes")


@sso_clients
def test_a_mapping_removed_is_refused_on_the_next_call_with_the_reason(
    client: Client, signed_in, building_is_over, notes: Notes
):
    name = profile(signed_in, STAGING, "Developer")
    assert is_developer(client.who_am_i(signed_in, name))
    building_is_over()
    signed_in.forget_credentials()

    ran = client.who_am_i(signed_in, name)

    assert ran.code != 0
    assert "You have no such role in this account" in ran.said, ran
    notes.said(client, "mapping removed", ran)


@sso_clients
def test_a_role_whose_condition_is_not_met_says_which(client: Client, signed_in, notes: Notes):
    name = profile(signed_in, STAGING, "Developer")
    asked = signed_in.config.read_text().replace(
        f"sso_account_id = {STAGING}\nsso_role_name = Developer",
        f"sso_account_id = {PAYMENTS}\nsso_role_name = OnCall",
    )
    signed_in.config.write_text(asked)

    ran = client.who_am_i(signed_in, name)

    assert ran.code != 0
    assert "second factor" in ran.said, ran
    notes.said(client, "condition not met", ran)


@sso_clients
def test_a_role_of_other_people_is_refused(client: Client, signed_in, notes: Notes):
    name = profile(signed_in, STAGING, "Developer")
    text = signed_in.config.read_text()
    signed_in.config.write_text(
        text.replace(f"sso_account_id = {STAGING}", "sso_account_id = 210000000301")
    )

    ran = client.who_am_i(signed_in, name)

    assert ran.code != 0
    assert "You have no such role in this account" in ran.said, ran
    notes.said(client, "another's role", ran)


@sso_clients
def test_a_terminal_ended_in_the_portal_has_to_sign_in_again(
    client: Client, signed_in, maya, notes: Notes
):
    name = profile(signed_in, STAGING, "Developer")
    maya.end_newest_terminal()

    ran = client.who_am_i(signed_in, name)

    assert ran.code != 0, ran
    notes.said(client, "ended in the portal", ran)


def test_boto3_lists_all_pages_and_signs_out(signed_in, notes: Notes):
    portal = boto3.client(
        "sso",
        region_name="eu-west-1",
        endpoint_url=f"{signed_in.demo.stage.origin}/aws",
        config=Config(signature_version=UNSIGNED),
    )
    token = signed_in.token()["accessToken"]

    pages = portal.get_paginator("list_accounts").paginate(
        accessToken=token, PaginationConfig={"PageSize": 2}
    )
    accounts = [account["accountId"] for one in pages for account in one["accountList"]]
    roles = portal.list_account_roles(accessToken=token, accountId=STAGING)["roleList"]

    assert len(accounts) == len(set(accounts)) == 7
    assert {role["roleName"] for role in roles} == {"Developer", "ReadOnly"}
    notes.passed(lineup.BOTO3, "lists")

    portal.logout(accessToken=token)
    with pytest.raises(ClientError, match="UnauthorizedException"):
        portal.list_accounts(accessToken=token)
    notes.passed(lineup.BOTO3, "signs out")


def test_the_old_command_line_lists_and_signs_out(signed_in, notes: Notes):
    """Version 1 has no `aws sso login`, but the operations."""
    aws = lineup.AWS_CLI_1.words()[0]
    token = signed_in.token()["accessToken"]
    with_token = ("--access-token", token, "--profile", profile(signed_in, STAGING, "Developer"))

    accounts = signed_in.run([aws, "sso", "list-accounts", *with_token])
    assert accounts.code == 0 and STAGING in accounts.said, accounts
    roles = signed_in.run([aws, "sso", "list-account-roles", "--account-id", STAGING, *with_token])
    assert roles.code == 0 and "Developer" in roles.said, roles
    notes.passed(lineup.AWS_CLI_1, "lists")

    assert signed_in.run([aws, "sso", "logout", *with_token]).code == 0
    over = signed_in.run([aws, "sso", "list-accounts", *with_token])
    assert over.code != 0 and "UnauthorizedException" in over.said, over
    notes.passed(lineup.AWS_CLI_1, "signs out")
