"""The two doors that every client finds, also those that know no other portal than AWS's: by a script token."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest

from tests.clients import lineup
from tests.clients.homes import Home, Ran
from tests.clients.lineup import Client
from tests.clients.notes import Notes

STAGING = "210000000102"

every_client = pytest.mark.parametrize("client", lineup.FROM_PYPI_AND_NPM, ids=str)


def is_developer(ran: Ran) -> bool:
    return ran.code == 0 and bool(
        re.search(rf"arn:aws:sts::{STAGING}:assumed-role/Developer/maya\.", ran.said)
    )


def by_process(home: Home, maya) -> str:
    """Keep a script token where curl finds it, and the config that runs curl. Answers a profile's name."""
    curlrc = home.folder / "curlrc"
    token = maya.script_token("deploys")
    curlrc.write_text(
        f'header = "Authorization: Bearer {token}"\nsilent\nshow-error\nfail\nmax-time = 20\n'
    )
    curlrc.chmod(0o600)
    home.config.write_text(maya.config(curlrc=str(home.inside / "curlrc")))
    return "northwind-payments-staging.Developer"


def by_container(home: Home, maya) -> dict[str, str]:
    """The environment of a container that asks for one role."""
    which = urlencode({"account": STAGING, "role": "Developer"})
    return {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{home.demo.stage.origin}/api/container?{which}",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": f"Bearer {maya.script_token('a container')}",
    }


@every_client
def test_a_process_brings_credentials(client: Client, home, maya, building_is_over, notes: Notes):
    name = by_process(home, maya)

    ran = client.who_am_i(home, name)

    assert is_developer(ran), ran
    notes.passed(client, "credential_process")
    building_is_over()
    refused = client.who_am_i(home, name)
    assert refused.code != 0, refused
    notes.said(client, "credential_process refused", refused)


@every_client
def test_a_container_finds_credentials(client: Client, home, maya, notes: Notes):
    environment = by_container(home, maya)

    ran = client.who_am_i(
        home, AWS_REGION="eu-west-1", AWS_DEFAULT_REGION="eu-west-1", **environment
    )

    assert is_developer(ran), ran
    notes.passed(client, "container")
    maya.end_newest_terminal()
    ended = client.who_am_i(
        home, AWS_REGION="eu-west-1", AWS_DEFAULT_REGION="eu-west-1", **environment
    )
    assert ended.code != 0, ended
    notes.said(client, "container, ended in the portal", ended)
