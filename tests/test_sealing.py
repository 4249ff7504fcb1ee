"""Sealing: what is sealed for one place opens there and nowhere else, and the sealing key can be changed."""

from __future__ import annotations

import base64

import pytest
from django.core.management import call_command

from broker.errors import KeyUnavailable
from broker.sealing import seal, sealed_under_current_key, unseal

EARLIER = base64.urlsafe_b64encode(b"e" * 32).decode()
CURRENT = base64.urlsafe_b64encode(b"c" * 32).decode()
SECRET = b"a client secret, which nobody may read"


@pytest.fixture(autouse=True)
def _keys(settings):
    settings.DAYPASS_SEALING_KEYS = [CURRENT]


def test_what_was_sealed_for_a_place_opens_there():
    sealed = seal(SECRET, place="provider:7")

    assert unseal(sealed, place="provider:7") == SECRET


def test_a_sealed_value_shows_nothing_of_the_secret_and_is_never_the_same_twice():
    first, second = (seal(SECRET, place="provider:7") for _ in range(2))

    assert first != second
    assert SECRET not in base64.urlsafe_b64decode(first)


def test_a_sealed_value_moved_to_another_place_does_not_open():
    sealed = seal(SECRET, place="provider:7")

    with pytest.raises(KeyUnavailable) as caught:
        unseal(sealed, place="provider:8")

    assert "altered or moved" in caught.value.cause
    assert SECRET.decode() not in str(caught.value) + caught.value.cause + caught.value.remedy


@pytest.mark.parametrize("position", [0, 1, 5, 17, 40, -1])
def test_one_changed_byte_anywhere_keeps_it_shut(position):
    raw = bytearray(base64.urlsafe_b64decode(seal(SECRET, place="provider:7")))
    raw[position] ^= 1

    with pytest.raises(KeyUnavailable):
        unseal(base64.urlsafe_b64encode(bytes(raw)).decode(), place="provider:7")


@pytest.mark.parametrize("length", [0, 1, 4, 16, 20, 32])
def test_a_value_cut_short_is_reported_and_not_a_crash(length):
    sealed = seal(SECRET, place="provider:7")

    with pytest.raises(KeyUnavailable) as caught:
        unseal(sealed[:length], place="provider:7")

    assert caught.value.remedy


@pytest.mark.parametrize("damaged", ["not base64 !", "ü", "A", "AA==AA=="])
def test_a_value_that_is_no_sealed_value_is_reported_and_not_a_crash(damaged):
    with pytest.raises(KeyUnavailable) as caught:
        unseal(damaged, place="provider:7")

    assert caught.value.cause == "The sealed value of provider:7 is damaged."
    assert not sealed_under_current_key(damaged)


def test_what_an_earlier_key_sealed_still_opens_and_is_known_to_be_due(settings):
    settings.DAYPASS_SEALING_KEYS = [EARLIER]
    sealed = seal(SECRET, place="provider:7")
    settings.DAYPASS_SEALING_KEYS = [CURRENT, EARLIER]

    assert unseal(sealed, place="provider:7") == SECRET
    assert not sealed_under_current_key(sealed)
    assert sealed_under_current_key(seal(SECRET, place="provider:7"))


def test_without_the_key_that_sealed_it_the_remedy_names_the_setting(settings):
    settings.DAYPASS_SEALING_KEYS = [EARLIER]
    sealed = seal(SECRET, place="provider:7")
    settings.DAYPASS_SEALING_KEYS = [CURRENT]

    with pytest.raises(KeyUnavailable) as caught:
        unseal(sealed, place="provider:7")

    assert "DAYPASS_SEALING_KEYS" in caught.value.remedy


def test_without_any_key_nothing_is_sealed_and_the_remedy_says_how_to_make_one(settings):
    settings.DAYPASS_SEALING_KEYS = []

    with pytest.raises(KeyUnavailable) as caught:
        seal(SECRET, place="provider:7")

    assert "new_sealing_key" in caught.value.remedy


def test_the_command_prints_keys_that_seal_and_never_the_same_one(settings, capsys):
    call_command("new_sealing_key")
    call_command("new_sealing_key")
    first, second = capsys.readouterr().out.split()

    settings.DAYPASS_SEALING_KEYS = [first]

    assert first != second
    assert unseal(seal(SECRET, place="provider:7"), place="provider:7") == SECRET
