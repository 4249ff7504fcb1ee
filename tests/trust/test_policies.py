"""Trust policies: as narrow as the manual says, and put right without touching what is somebody else's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from broker.arns import parse_role_arn
from broker.errors import BadInput
from broker.minting.oidc import subject_claim
from broker.trust import rules
from broker.trust.queries import role_trust
from broker.trust.rules import RoleTrust, trust_policy
from tests import factories as make

PAGE = (Path(__file__).parents[2] / "docs" / "aws-trust.md").read_text(encoding="utf-8")
ISSUER = "https://daypass.example.com"


def web(**changed) -> RoleTrust:
    return RoleTrust(
        **{
            "account_id": "111122223333",
            "partition": "aws",
            "role_name": "Developer",
            "trust": "web_identity",
            "issuer": ISSUER,
            "audience": "sts.amazonaws.com",
        }
        | changed
    )


def saml(**changed) -> RoleTrust:
    return RoleTrust(
        **{
            "account_id": "111122223333",
            "partition": "aws",
            "role_name": "Developer",
            "trust": "saml",
            "saml_provider_name": "Daypass",
        }
        | changed
    )


def assume(**changed) -> RoleTrust:
    return RoleTrust(
        **{
            "account_id": "111122223333",
            "partition": "aws",
            "role_name": "Developer",
            "trust": "assume_role",
            "broker_arn": "arn:aws:iam::999988887777:role/Daypass",
        }
        | changed
    )


def document(subject: RoleTrust, existing=None) -> dict:
    text = existing if isinstance(existing, str | None) else json.dumps(existing)
    return json.loads(trust_policy(subject, existing=text))


def explained() -> dict[str, dict]:
    """The policies of docs/aws-trust.md by the first action of each."""
    found = {}
    for block in PAGE.split("```json\n")[1:]:
        policy = json.loads(block.partition("```")[0])
        found[policy["Statement"][0]["Action"][0]] = policy
    return found


# --- What they say


def test_they_are_the_ones_that_the_manual_explains():
    page = explained()

    assert document(web()) == page["sts:AssumeRoleWithWebIdentity"]
    assert (
        document(saml(recipient="https://eu-west-1.signin.aws.amazon.com/saml"))
        == page["sts:AssumeRoleWithSAML"]
    )
    external_id = "the-external-id-of-the-role-in-Daypass"
    said = json.dumps(page["sts:AssumeRole"]).replace(external_id.replace("-", " "), external_id)
    assert document(assume(external_id=external_id)) == json.loads(said)


@pytest.mark.django_db
@pytest.mark.parametrize("trust", rules.TRUSTS)
def test_a_role_of_the_catalogue_gets_the_policy_of_its_trust(trust, settings):
    settings.DAYPASS_ISSUER = ISSUER
    account = make.account("Payments", account_id="111122223333", region="eu-west-1")
    role = make.role("Developer", of=account, trust=trust)

    said = document(role_trust(role, broker_arn="arn:aws:iam::999988887777:role/Daypass"))

    first = explained()[said["Statement"][0]["Action"][0]]["Statement"][0]
    assert said["Statement"][0]["Principal"] == first["Principal"]
    assert said["Statement"][0]["Action"] == first["Action"]


@pytest.mark.django_db
def test_a_role_that_trusts_somebody_else_gets_none_from_us():
    role = make.role("Developer")
    role.trust = "relayed"

    assert role_trust(role) is None


@pytest.mark.django_db
def test_the_external_id_of_the_account_counts_where_the_role_names_none():
    account = make.account(external_id="of-the-account")
    plain = make.role("Plain", of=account, trust="assume_role")
    own = make.role("Own", of=account, trust="assume_role", external_id="of-the-role")

    wanted = [
        document(role_trust(role))["Statement"][0]["Condition"]["StringEquals"]
        for role in (plain, own)
    ]

    assert wanted == [{"sts:ExternalId": "of-the-account"}, {"sts:ExternalId": "of-the-role"}]


@pytest.mark.django_db
def test_both_regions_of_an_account_may_be_posted_to():
    account = make.account(region="eu-west-1", second_region="eu-central-1")

    said = document(role_trust(make.role(of=account, trust="saml")))["Statement"][0]["Condition"]

    assert said["StringEquals"]["SAML:aud"] == [
        "https://signin.aws.amazon.com/saml",
        "https://eu-west-1.signin.aws.amazon.com/saml",
        "https://eu-central-1.signin.aws.amazon.com/saml",
    ]


def test_the_subject_is_the_one_that_tokens_for_people_carry():
    arn = parse_role_arn("arn:aws:iam::111122223333:role/teams/Developer")

    assert rules.subject_pattern("111122223333", "Developer") == subject_claim(arn, "*")


def test_a_role_for_daypasss_own_tasks_does_not_take_the_token_of_a_person():
    (statement,) = document(web(caller="task"))["Statement"]

    key = "daypass.example.com:sub"
    assert statement["Condition"]["StringLike"][key] == "role/111122223333/Developer/task/*"


def test_an_issuer_with_a_path_keeps_it_in_the_arn_and_in_the_keys():
    (statement,) = document(web(issuer="https://example.com/aws/daypass"))["Statement"]

    arn = "arn:aws:iam::111122223333:oidc-provider/example.com/aws/daypass"
    assert statement["Principal"] == {"Federated": arn}
    assert "example.com/aws/daypass:aud" in statement["Condition"]["StringEquals"]


@pytest.mark.parametrize(
    ("partition", "recipient"),
    [
        ("aws", "https://signin.aws.amazon.com/saml"),
        ("aws-us-gov", "https://signin.amazonaws-us-gov.com/saml"),
        ("aws-cn", "https://signin.amazonaws.cn/saml"),
        ("aws-eusc", "https://eusc-de-east-1.signin.amazonaws-eusc.eu/saml"),
    ],
)
def test_every_partition_has_its_own_arns_and_recipients(partition, recipient):
    (by_saml,) = document(saml(partition=partition))["Statement"]
    (by_token,) = document(web(partition=partition))["Statement"]

    assert by_saml["Condition"]["StringEquals"]["SAML:aud"] == [recipient]
    for statement in (by_saml, by_token):
        assert statement["Principal"]["Federated"].startswith(f"arn:{partition}:iam::")


@pytest.mark.parametrize(
    "changed",
    [
        {"account_id": "1111"},
        {"account_id": "111122223333\n"},
        {"role_name": "Dev*"},
        {"role_name": "a/../b"},
        {"role_name": "${aws:username}"},
        {"partition": "aws-moon"},
        {"issuer": "ftp://daypass.example.com"},
        {"issuer": "https://daypass.example.com?x"},
        {"issuer": 'https://a"b.example.com'},
        {"issuer": "https://*.example.com"},
        {"issuer": ""},
        {"audience": "*"},
        {"audience": ""},
        {"trust": "friendship"},
    ],
)
def test_nothing_gets_into_a_policy_that_would_widen_or_break_it(changed):
    with pytest.raises(BadInput):
        web(**changed)


@pytest.mark.parametrize(
    "broken",
    [
        lambda: saml(saml_provider_name="a b"),
        lambda: saml(recipient="https://*.signin.aws.amazon.com/saml"),
        lambda: assume(broker_arn="*"),
        lambda: assume(broker_arn="arn:aws:iam::999988887777:root"),
        lambda: assume(external_id="*"),
        lambda: saml(caller="task"),
    ],
)
def test_nor_in_the_other_ways(broken):
    with pytest.raises(BadInput):
        broken()


@pytest.mark.parametrize(
    ("issuer", "fit"),
    [
        ("https://daypass.example.com", True),
        ("https://example.com/daypass", True),
        ("http://daypass.example.com", False),
        ("https://daypass.example.com:8443", False),
        ("https://" + "a" * 250 + ".example.com", False),
    ],
)
def test_iam_takes_issuers_with_https_and_without_a_port(issuer, fit):
    assert rules.fit_for_iam(issuer) is fit


@pytest.mark.django_db
def test_the_demo_shows_policies_of_an_issuer_that_iam_would_not_take(settings):
    settings.DAYPASS_ISSUER = "http://localhost:8000"

    (statement,) = document(role_trust(make.role("Developer")))["Statement"]

    assert "localhost:8000:sub" in statement["Condition"]["StringLike"]
    assert statement["Principal"]["Federated"].endswith(":oidc-provider/localhost:8000")


# --- Existing roles


OTHERS = {
    "Sid": "Pipelines",
    "Effect": "Allow",
    "Principal": {"Service": "codebuild.amazonaws.com"},
    "Action": "sts:AssumeRole",
}
GUARD = {
    "Effect": "Deny",
    "Principal": {"Federated": "arn:aws:iam::111122223333:oidc-provider/daypass.example.com"},
    "Action": "sts:AssumeRoleWithWebIdentity",
    "Condition": {"StringEquals": {"daypass.example.com:sub": "role/111122223333/Developer/x"}},
}


def of(*statements) -> dict:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def test_our_statement_is_added_behind_all_others():
    assert document(web(), of(OTHERS, GUARD)) == of(OTHERS, GUARD, *document(web())["Statement"])


def test_a_single_statement_without_a_list_is_understood():
    existing = {"Version": "2012-10-17", "Id": "mine", "Statement": OTHERS}

    put_right = document(web(), existing)

    assert put_right["Id"] == "mine"
    assert put_right["Statement"] == [OTHERS, *document(web())["Statement"]]


@pytest.mark.parametrize("subject", [web(), saml(), assume(external_id="acme-42")])
def test_what_is_right_stays_as_it_is(subject):
    right = document(subject)

    assert document(subject, right) == right


def test_a_policy_put_right_holds_only_characters_that_iam_takes():
    tagged = {**OTHERS, "Condition": {"StringEquals": {"aws:PrincipalTag/部署": "開発"}}}
    latin = {**OTHERS, "Condition": {"StringEquals": {"aws:PrincipalTag/Abteilung": "Käufer"}}}

    text = trust_policy(web(), existing=json.dumps(of(tagged), ensure_ascii=False))

    assert max(text) <= "\u00ff"
    assert json.loads(text)["Statement"][0] == tagged
    assert rules.length(text) == len(json.dumps(json.loads(text), separators=(",", ":")))
    assert "Käufer" in trust_policy(web(), existing=json.dumps(of(latin)))


def test_a_wrong_statement_of_ours_is_put_right_where_it_stands():
    wrong = json.loads(json.dumps(document(web())["Statement"][0]))
    wrong["Sid"] = "Daypass"
    wrong["Action"] = "sts:AssumeRoleWithWebIdentity"
    wrong["Condition"] = {"StringEquals": {"daypass.example.com:aud": "wrong"}}

    first, second = document(web(), of(wrong, OTHERS))["Statement"]

    assert first == {"Sid": "Daypass", **document(web())["Statement"][0]}
    assert second == OTHERS


def test_a_second_wider_statement_of_ours_goes():
    wide = {
        "Effect": "Allow",
        "Principal": {"Federated": ["arn:aws:iam::111122223333:oidc-provider/daypass.example.com"]},
        "Action": "sts:AssumeRoleWithWebIdentity",
    }

    assert document(web(), of(*document(web())["Statement"], OTHERS, wide)) == of(
        *document(web())["Statement"], OTHERS
    )


def test_who_shares_a_statement_with_daypass_keeps_it_for_himself():
    other = "arn:aws:iam::111122223333:oidc-provider/ci.example.com"
    shared = {
        "Effect": "Allow",
        "Principal": {
            "Federated": [
                other,
                "arn:aws:iam::111122223333:oidc-provider/daypass.example.com",
            ]
        },
        "Action": "sts:AssumeRoleWithWebIdentity",
    }

    ours, rest = document(web(), of(shared))["Statement"]

    assert ours == document(web())["Statement"][0]
    assert rest == {**shared, "Principal": {"Federated": [other]}}


def test_a_demand_for_a_second_factor_in_the_token_stays_and_an_impossible_one_goes():
    demanding = json.loads(json.dumps(document(web())["Statement"][0]))
    demanding["Condition"]["ForAnyValue:StringEquals"] = {"daypass.example.com:amr": "mfa"}
    demanding["Condition"]["Bool"]["aws:MultiFactorAuthPresent"] = "true"

    (put_right,) = document(web(), of(demanding))["Statement"]

    assert put_right["Condition"]["ForAnyValue:StringEquals"] == {"daypass.example.com:amr": "mfa"}
    assert put_right["Condition"]["Bool"] == {"sts:RoleAuthorizedByIdp": "true"}


def test_both_statements_of_assumerole_are_put_right_together():
    right = document(assume(external_id="acme-42"))
    wrong = [{**one, "Condition": {}} for one in right["Statement"]]

    assert document(assume(external_id="acme-42"), of(OTHERS, *wrong)) == of(
        OTHERS, *right["Statement"]
    )


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"Statement": "all"}', '{"Statement": [1]}', "[" * 100_000]
)
def test_what_is_no_policy_is_refused(text):
    with pytest.raises(BadInput):
        trust_policy(web(), existing=text)


def test_the_longest_names_stay_within_what_iam_takes():
    subject = web(role_name="R" * 64, issuer="https://" + "a" * 200 + ".example.com/daypass")

    assert rules.length(trust_policy(subject)) <= rules.LONGEST
