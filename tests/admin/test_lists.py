"""The administrators' lists: what stands there before there is anything, and what is offered then."""

from __future__ import annotations

import re

import pytest

from broker.audit.rules import Kind
from broker.audit.services import record_now
from tests import factories as make

pytestmark = pytest.mark.django_db

EMPTY = {
    "/admin/broker/trustcheck/": (">manage.py doctor --all</code>", "broker/awsrole/"),
    "/admin/broker/finding/": ("<code>manage.py discover</code>", "broker/awsaccount/"),
    "/admin/accounts/serviceproviderkey/": (
        "the first SAML provider",
        "accounts/identityprovider/",
    ),
}


@pytest.mark.parametrize("address", EMPTY)
def test_an_empty_list_says_what_comes_next_and_offers_nothing_to_search(admin_client, address):
    said, leads_to = EMPTY[address]

    page = admin_client.get(address).content.decode()

    assert said in page
    assert f'<a class="button" href="/admin/{leads_to}">' in page
    assert 'id="changelist-search"' not in page
    assert "list-filters" not in page


def test_a_list_that_only_matches_nothing_can_still_be_searched_and_filtered(admin_client):
    make.role("Developer")
    for query in ("", "?q=nobody", "?enabled__exact=0"):
        page = admin_client.get(f"/admin/broker/awsrole/{query}").content.decode()

        assert 'id="changelist-search"' in page
        assert "list-filters" in page
        assert ("Nothing matches." in page) is bool(query)


def test_a_filter_with_many_choices_is_folded_until_one_is_taken(admin_client):
    record_now(Kind.SIGN_OUT)

    def open_ones(query: str) -> list[str]:
        page = admin_client.get(f"/admin/broker/auditevent/{query}").content.decode()
        return re.findall(r'data-filter-title="([^"]*)" open', page)

    assert open_ones("") == ["when"]
    assert open_ones(f"?kind={Kind.SIGN_OUT.value}") == ["when", "what happened"]
