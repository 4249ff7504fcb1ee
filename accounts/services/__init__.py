"""The verbs of accounts, and its only writer: people signing in and out, providers, groups, keys, test sign-ins.

Calls to a provider are made before the transaction begins, never inside it. What happened is announced in the
transaction that made it happen (accounts/events.py), so that it stands or falls with its audit event.
"""

from __future__ import annotations

from accounts.services.applications import delete_application, save_application
from accounts.services.clearing import clear_expired
from accounts.services.common import By
from accounts.services.expiry import Ending, endings, warn_expiring
from accounts.services.keys import (
    fingerprint,
    saml_provider,
    service_provider,
    service_provider_key,
    signing_keys,
    unwrap_content_key,
)
from accounts.services.once import OneUse, consume, was_consumed
from accounts.services.own_keys import (
    activate_key,
    concerned,
    find_key,
    prepare_key,
    remove_key,
    reseal,
    retire_key,
)
from accounts.services.people import (
    MAX_GROUPS_OF_A_PROVIDER,
    Admission,
    break_glass,
    give_handle,
    refuse,
    register_group,
    set_person_active,
    sign_in,
    signed_in_locally,
    signed_out,
    update_group,
)
from accounts.services.proposals import (
    accept_proposal,
    dismiss_proposal,
    forgets_secret,
    in_words,
)
from accounts.services.providers import (
    RESERVED_SLUGS,
    client_secret,
    create_oidc_provider,
    create_provider_from_metadata,
    save_provider,
    set_client_secret,
)
from accounts.services.refreshing import (
    REFRESH_ASKED_AT_MOST_EVERY,
    ask_for_refresh,
    claim_due,
    refresh_failed,
    refresh_provider,
    refreshable,
)
from accounts.services.relaying import (
    RelayOver,
    clear_relayed,
    keep_token,
    relay_for,
    relay_reference,
    relayed_assertion,
    relayed_token,
    somebody_relays,
    take_assertion,
)
from accounts.services.second_factors import note_second_factor
from accounts.services.sessions import end_by_provider, forget_session, note_session
from accounts.services.trials import TEST_KEPT, finish_test, start_test
from accounts.services.trust import trust_mark

__all__ = [
    "MAX_GROUPS_OF_A_PROVIDER",
    "REFRESH_ASKED_AT_MOST_EVERY",
    "RESERVED_SLUGS",
    "TEST_KEPT",
    "Admission",
    "By",
    "Ending",
    "OneUse",
    "RelayOver",
    "accept_proposal",
    "activate_key",
    "ask_for_refresh",
    "break_glass",
    "claim_due",
    "clear_expired",
    "clear_relayed",
    "client_secret",
    "concerned",
    "consume",
    "create_oidc_provider",
    "create_provider_from_metadata",
    "delete_application",
    "dismiss_proposal",
    "end_by_provider",
    "endings",
    "find_key",
    "fingerprint",
    "finish_test",
    "forget_session",
    "forgets_secret",
    "give_handle",
    "in_words",
    "keep_token",
    "note_second_factor",
    "note_session",
    "prepare_key",
    "refresh_failed",
    "refresh_provider",
    "refreshable",
    "refuse",
    "register_group",
    "relay_for",
    "relay_reference",
    "relayed_assertion",
    "relayed_token",
    "remove_key",
    "reseal",
    "retire_key",
    "saml_provider",
    "save_application",
    "save_provider",
    "service_provider",
    "service_provider_key",
    "set_client_secret",
    "set_person_active",
    "sign_in",
    "signed_in_locally",
    "signed_out",
    "signing_keys",
    "somebody_relays",
    "start_test",
    "take_assertion",
    "trust_mark",
    "unwrap_content_key",
    "update_group",
    "warn_expiring",
    "was_consumed",
]
