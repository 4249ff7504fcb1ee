"""Verified attributes and a claim map become a person, or a refusal: examples as tables, laws by search."""

from __future__ import annotations

import string
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.rules import (
    ENTRA_GROUPS,
    ENTRA_METHODS,
    HANDLE,
    PRESETS,
    ClaimMap,
    GroupForm,
    PersonClaims,
    VerifiedAttributes,
    account_id,
    check_subject,
    common_name,
    distinguished_name,
    find,
    handle_candidates,
    handle_stem,
    texts,
    understand,
)
from broker.errors import BadInput, SignInRefused


def oidc(
    subject: str = "u-1", *, userinfo=None, context="", methods=(), **claims
) -> VerifiedAttributes:
    return VerifiedAttributes(
        protocol="oidc",
        subject=subject,
        attributes={"sub": subject, **claims},
        group_claims=userinfo,
        context=context,
        methods=methods,
    )


def saml(subject: str | None = "u-1", *, context="", **attributes) -> VerifiedAttributes:
    return VerifiedAttributes(
        protocol="saml",
        subject=subject,
        attributes={name: tuple(values) for name, values in attributes.items()},
        context=context,
        at=datetime(2026, 11, 20, tzinfo=UTC),
    )


def groups(verified: VerifiedAttributes, **parts) -> tuple[str, ...]:
    return understand(verified, ClaimMap(groups=parts.pop("path", ("groups",)), **parts)).groups


# --- The claim map as JSON

words = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=20)
paths = st.lists(words, min_size=1, max_size=4).map(tuple)
maybe = st.one_of(st.just(()), paths)
maps = st.builds(
    ClaimMap,
    subject=maybe,
    username=maybe,
    name=maybe,
    email=maybe,
    groups=maybe,
    groups_form=st.sampled_from(GroupForm),
    attributes=st.dictionaries(st.sampled_from(["team", "cost center", "a:b"]), paths),
    mfa_contexts=st.lists(words, unique=True, max_size=3).map(tuple),
    mfa_methods=st.lists(words, unique=True, max_size=3).map(tuple),
)


@given(maps)
def test_a_claim_map_survives_being_written_and_read(claim_map):
    assert ClaimMap.from_json(claim_map.to_json()) == claim_map


@pytest.mark.parametrize("name", PRESETS)
def test_every_starting_point_can_be_written_and_read(name):
    assert ClaimMap.from_json(PRESETS[name].to_json()) == PRESETS[name]


def test_a_path_may_be_written_as_one_word():
    assert ClaimMap.from_json({"groups": "groups"}).groups == ("groups",)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (None, "has to be an object"),
        ([], "has to be an object"),
        ({"grups": "x"}, "does not know “grups”"),
        ({"groups": 1}, "path of “groups”"),
        ({"groups": ["a", 1]}, "a step that is not a name"),
        ({"groups": ["a", ""]}, "a step that is not a name"),
        ({"groups": ["a\n"]}, "a step that is not a name"),
        ({"groups": ["a"] * 9}, "path of “groups”"),
        ({"groups_form": "lines"}, "has to be one of"),
        ({"separator": ""}, "separator"),
        ({"separator": "----"}, "separator"),
        ({"attributes": []}, "Person attributes"),
        ({"attributes": {"a!": "x"}}, "cannot be the name"),
        ({"attributes": {"a": ""}}, "needs a path"),
        ({"attributes": {f"a{n}": "x" for n in range(51)}}, "at most 50"),
        ({"mfa_methods": "mfa"}, "has to be a list"),
        ({"mfa_contexts": [""]}, "an entry that is not a text"),
    ],
)
def test_what_is_wrong_with_a_claim_map_is_said(document, told):
    with pytest.raises(BadInput, match=told):
        ClaimMap.from_json(document)


# --- Values


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, ()),
        ("", ()),
        ([], ()),
        ([""], ()),
        ("a b", ("a b",)),
        (["a", "b", "a"], ("a", "b")),
        (("a", ""), ("a",)),
        ([" a", "a ", "A"], (" a", "a ", "A")),
    ],
)
def test_texts_are_taken_as_they_arrive(value, found):
    assert texts(value, "it", most=10, longest=10) == found


@pytest.mark.parametrize(
    "value", [1, True, {}, {"a": "b"}, [1], [None], [["a"]], [{"a": 1}], 1.5, ["a", None]]
)
def test_what_is_not_text_is_refused(value):
    with pytest.raises(SignInRefused) as refusal:
        texts(value, "it", most=10, longest=10)
    assert "not text" in refusal.value.cause


@pytest.mark.parametrize(
    "value", ["a\x00", "a\nb", "\u202eabc", "a\u200b", "\ud800", "\ue000", "a\u2028b"]
)
def test_what_cannot_be_seen_is_refused(value):
    with pytest.raises(SignInRefused, match="could not be signed in") as refusal:
        texts([value], "it", most=10, longest=10)
    assert "control character" in refusal.value.cause


def test_of_many_groups_the_one_that_cannot_be_seen_is_named():
    with pytest.raises(SignInRefused) as refusal:
        texts(["Dev", "Ops\u200b", "Net"], "the groups", most=10, longest=10)
    assert refusal.value.cause.startswith("The groups holds 'Ops\\u200b', in which U+200B is ")


def test_too_many_or_too_long_is_refused_with_a_way_out():
    with pytest.raises(SignInRefused) as many:
        texts(["a", "b", "c"], "the groups", most=2, longest=10)
    with pytest.raises(SignInRefused) as long:
        texts("a" * 11, "the groups", most=2, longest=10)

    assert many.value.code == "too_many_values"
    assert many.value.remedy and long.value.remedy


@given(st.lists(st.text(max_size=8), max_size=8))
def test_no_group_is_ever_made_that_did_not_arrive(values):
    try:
        found = groups(oidc(groups=values))
    except SignInRefused:
        return
    assert set(found) == {value for value in values if value}


@given(st.text(max_size=40))
def test_one_text_is_at_most_one_group(value):
    try:
        found = groups(oidc(groups=value))
    except SignInRefused:
        return
    assert found == ((value,) if value else ())


@given(st.lists(st.text(string.ascii_letters, min_size=1, max_size=6), unique=True, max_size=6))
def test_separated_and_listed_groups_are_the_same_people(keys):
    separated = groups(oidc(groups=";".join(keys)), groups_form=GroupForm.SEPARATED, separator=";")

    assert separated == groups(oidc(groups=keys))


def test_values_are_found_along_a_path():
    claims = {"realm_access": {"roles": ["a"]}, "groups": "b"}

    assert find(claims, ("realm_access", "roles")) == ["a"]
    assert find(claims, ("groups", "roles")) is None
    assert find(claims, ("realm_access", "x", "y")) is None
    assert find(claims, ()) is None


def test_groups_of_userinfo_take_the_place_of_the_tokens():
    assert groups(oidc(groups=["token"], userinfo={"groups": ["info"]})) == ("info",)


@pytest.mark.parametrize(
    ("value", "key"), [("/company/aws/admins", "admins"), ("admins", "admins"), ("/a/b/", "b")]
)
def test_of_a_path_the_last_segment_counts_when_asked_for(value, key):
    assert groups(oidc(groups=[value]), groups_form=GroupForm.LAST_SEGMENT) == (key,)


# --- Distinguished names (RFC 4514)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("CN=Admins,OU=Groups,DC=example,DC=com", "Admins"),
        ("cn=Admins, ou=Groups", "Admins"),
        ("2.5.4.3=Admins,DC=x", "Admins"),
        (r"CN=Cloud\, Admins,DC=x", "Cloud, Admins"),
        (r"CN=a\+b\=c\\d\;e\#f\"g\<h\>,DC=x", 'a+b=c\\d;e#f"g<h>'),
        (r"CN=J\C3\BCrgen,DC=x", "Jürgen"),
        ("CN=Jürgen,DC=x", "Jürgen"),
        (r"CN=\20a\20,DC=x", " a "),
        (r"CN=a\ ,DC=x", "a "),
        ("CN=a  ,DC=x", "a"),
        ("OU=x,CN=inner", "inner"),
        ("OU=x+CN=beside", "beside"),
        ("CN=a;OU=b", "a"),
        ("CN=,DC=x", ""),
    ],
)
def test_the_common_name_is_read(name, key):
    assert common_name(name) == key


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Admins",
        "OU=x,DC=y",
        "CN",
        "CN=a,",
        "CN=a,b",
        "=a",
        "CN=a\\",
        r"CN=a\zz",
        "CN=#04024869",
        'CN="quoted"',
        r"CN=\FF\FE",
        "CN=a\x00",
        "1CN=a",
    ],
)
def test_what_is_no_distinguished_name_is_refused(name):
    with pytest.raises(SignInRefused) as refusal:
        common_name(name)
    assert refusal.value.code == "groups_unusable"


def _escape(value: str) -> str:
    text = "".join("\\" + c if c in ',+"\\<>;=' else c for c in value)
    if text.startswith(("#", " ")):
        text = "\\" + text
    if text.endswith(" ") and not text.endswith("\\ "):
        text = text[:-1] + "\\ "
    return text.replace("\x00", "\\00")


@given(st.lists(st.tuples(st.sampled_from(["CN", "OU", "DC"]), st.text(max_size=20)), min_size=1))
def test_a_distinguished_name_written_by_the_rules_is_read_as_it_was_meant(parts):
    parts = [(kind, value.encode("utf-8", "ignore").decode()) for kind, value in parts]
    written = ",".join(f"{kind}={_escape(value)}" for kind, value in parts)

    assert distinguished_name(written) == parts


@given(st.text(max_size=60))
def test_any_text_is_a_distinguished_name_or_refused(text):
    try:
        assert distinguished_name(text)
    except SignInRefused as refusal:
        assert refusal.cause


# --- Overage

ENTRA_ROLES = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"


@pytest.mark.parametrize(
    ("verified", "path"),
    [
        (oidc(_claim_names={"groups": "src1"}), ("groups",)),
        (oidc(hasgroups=True), ("groups",)),
        (oidc(hasgroups="true"), ("groups",)),
        (oidc(_claim_names={"groups": "src1"}, groups=[]), ("groups",)),
        (oidc(_claim_names={"groups": "src1"}, userinfo={"sub": "u-1"}), ("groups",)),
        (oidc(userinfo={"sub": "u-1", "hasgroups": True}), ("groups",)),
        (saml(**{"http://schemas.microsoft.com/claims/groups.link": ["x"]}), (ENTRA_GROUPS,)),
        (saml(**{"http://schemas.microsoft.com/claims/groups.link": ["x"]}), ("groups",)),
        (saml(**{"http://schemas.microsoft.com/claims/groups.link": ["x"], "aws": []}), ("aws",)),
    ],
)
def test_groups_that_entra_left_out_are_not_taken_for_none(verified, path):
    with pytest.raises(SignInRefused) as refusal:
        groups(verified, path=path)
    assert refusal.value.code == "groups_overage"


@pytest.mark.parametrize(
    ("verified", "path"),
    [
        (oidc(hasgroups=False), ("groups",)),
        (oidc(_claim_names={"groups": "s"}, roles=["r"]), ("roles",)),
        (oidc(_claim_names="odd"), ("groups",)),
        (oidc(_claim_names={"groups": "s"}, userinfo={"groups": ["g"]}), ("groups",)),
        (saml(), ("groups",)),
        (saml(**{"http://schemas.microsoft.com/claims/groups.link": ["x"]}), (ENTRA_ROLES,)),
        (saml(**{"http://schemas.microsoft.com/claims/groups.link": ["x"]}), ("Roles",)),
        (
            saml(**{"http://schemas.microsoft.com/claims/groups.link": ["x"], "groups": ["g"]}),
            ("groups",),
        ),
    ],
)
def test_no_groups_are_simply_none(verified, path):
    groups(verified, path=path)


# --- Subject


@pytest.mark.parametrize("subject", ["a", "u-1", "A B", "ada@example.com", "x" * 255, "ünal", "0"])
def test_a_plain_subject_is_taken_as_it_is(subject):
    assert check_subject(subject) == subject


@pytest.mark.parametrize(
    "subject",
    [
        None,
        "",
        " ",
        "\t",
        " a",
        "a ",
        "a\n",
        "x" * 256,
        "ﬁ",
        "A\u030a",
        "a\u200b",
        1,
        True,
        ["a"],
        b"a",
    ],
)
def test_a_subject_that_could_be_mistaken_is_refused(subject):
    with pytest.raises(SignInRefused) as refusal:
        check_subject(subject)
    assert refusal.value.code == "subject_unusable"


@given(st.text(max_size=300))
def test_two_subjects_that_are_accepted_are_never_confused(text):
    try:
        accepted = check_subject(text)
    except SignInRefused:
        return
    assert accepted == text == unicodedata.normalize("NFKC", text) == text.strip()


@given(st.text(max_size=300), st.text(max_size=300))
def test_the_key_of_allauths_row_is_as_distinct_as_the_subject(one, other):
    assert (account_id(one) == account_id(other)) == (one == other)
    assert len(account_id(one)) == 64


@pytest.mark.parametrize("values", [[], ["a", "b"], [None]])
def test_an_attribute_that_names_the_person_has_one_value(values):
    with pytest.raises(SignInRefused):
        understand(saml("name-id", employeeNumber=values), ClaimMap(subject=("employeeNumber",)))


def test_oidc_has_no_other_subject_than_sub():
    claims = understand(oidc("u-1", oid="u-2"), ClaimMap(subject=("oid",)))

    assert claims.subject == "u-1"


# --- What people read, and how they proved themselves


def test_names_are_made_fit_to_read():
    claims = understand(
        oidc(
            name="  Ada\n\u202eLovelace  ", email="not an address", preferred_username=["ada", "x"]
        ),
        PRESETS["oidc"],
    )

    assert claims.name == "Ada Lovelace"
    assert claims.email == ""
    assert claims.username == "ada"


def test_person_attributes_keep_all_their_values():
    claims = understand(
        oidc(team=["a", "b"], nested={"cost": "4711"}, empty=""),
        ClaimMap(
            attributes={"Team": ("team",), "CostCenter": ("nested", "cost"), "No": ("empty",)}
        ),
    )

    assert claims.attributes == {"Team": ("a", "b"), "CostCenter": ("4711",)}


@pytest.mark.parametrize(
    ("verified", "mfa"),
    [
        (oidc(), False),
        (oidc(methods=("pwd",)), False),
        (oidc(methods=("pwd", "mfa")), True),
        (oidc(context="gold"), True),
        (oidc(context="silver"), False),
        (saml(context="gold"), True),
        (saml(**{ENTRA_METHODS: ["x", "mfa"]}), True),
        (saml(**{ENTRA_METHODS: [None]}), False),
    ],
)
def test_multi_factor_is_what_the_claim_map_counts_as_that(verified, mfa):
    claim_map = ClaimMap(mfa_contexts=("gold",), mfa_methods=("mfa",))

    assert understand(verified, claim_map).mfa is mfa


def test_without_a_claim_map_nothing_counts_as_multi_factor():
    assert understand(oidc(methods=("mfa",), context="gold"), ClaimMap()).mfa is False
    assert understand(oidc(context=""), ClaimMap(mfa_contexts=("x",))).mfa is False


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["groups", "name", "email", "team", "amr"]), json))
def test_whatever_arrives_becomes_a_person_or_a_refusal(claims):
    claim_map = ClaimMap(
        name=("name",), email=("email",), groups=("groups",), attributes={"team": ("team",)}
    )
    try:
        person = understand(oidc(**claims), claim_map)
    except SignInRefused as refusal:
        assert refusal.cause
    else:
        assert isinstance(person, PersonClaims)


# --- Handles


@pytest.mark.parametrize(
    ("username", "email", "name", "stem"),
    [
        ("ada", "", "", "ada"),
        ("Ada.Lovelace", "", "", "ada.lovelace"),
        ("ada@example.com", "", "", "ada"),
        ("CORP\\ada", "", "", "ada"),
        ("", "ada.l@example.com", "", "ada.l"),
        ("", "", "Ünal Özgür", "unal.ozgur"),
        ("日本", "", "", "person"),
        ("", "", "", "person"),
        ("x", "xy@example.com", "", "xy"),
        ("--ada--", "", "", "ada"),
        ("a" * 50, "", "", "a" * 32),
    ],
)
def test_a_handle_is_readable(username, email, name, stem):
    assert handle_stem(username=username, email=email, name=name) == stem


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_every_handle_is_well_formed_and_none_comes_twice(username, email, name):
    candidates = handle_candidates(handle_stem(username=username, email=email, name=name))
    first = [next(candidates) for _ in range(1100)]

    assert all(HANDLE.fullmatch(handle) for handle in first)
    assert len(set(first)) == len(first)
