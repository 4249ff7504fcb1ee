"""Pasted ARNs and console addresses: what they say about where to go, and what is not followed."""

from __future__ import annotations

import pytest

from broker.entitlements.places import Place, read_place

CONSOLE = "https://console.aws.amazon.com/console/home"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (
            "arn:aws:iam::111122223333:role/a/b/Dev",
            Place("aws", "111122223333", role="Dev"),
        ),
        (
            "arn:aws-us-gov:sts::111122223333:assumed-role/Dev/alice",
            Place("aws-us-gov", "111122223333", role="Dev"),
        ),
        (
            "arn:aws:s3:::bucket/key with?odd&parts=1",
            None,
        ),
        (
            "arn:aws:s3:::bucket/k&e=y",
            Place(
                "aws",
                destination="https://console.aws.amazon.com/go/view?arn=arn%3Aaws%3As3%3A%3A%3Abucket%2Fk%26e%3Dy",
            ),
        ),
        (
            "arn:aws:iam::aws:policy/ReadOnlyAccess",
            Place(
                "aws",
                destination="https://console.aws.amazon.com/go/view?arn=arn%3Aaws%3Aiam%3A%3Aaws%3Apolicy%2FReadOnlyAccess",
            ),
        ),
        (
            "arn:aws-cn:ec2:cn-north-1:111122223333:instance/i-1",
            Place(
                "aws-cn",
                "111122223333",
                "cn-north-1",
                destination="https://cn-north-1.console.amazonaws.cn/console/home?region=cn-north-1",
            ),
        ),
        (
            "arn:aws:ec2:mars-north-1:111122223333:instance/i-1",
            Place(
                "aws",
                "111122223333",
                destination="https://console.aws.amazon.com/go/view?arn=arn%3Aaws%3Aec2%3Amars-north-1%3A111122223333%3Ainstance%2Fi-1",
            ),
        ),
        (CONSOLE, Place("aws", destination=CONSOLE)),
        (
            "https://eu-west-1.console.aws.amazon.com/lambda/home?region=eu-west-1#/functions",
            Place(
                "aws",
                region="eu-west-1",
                destination="https://eu-west-1.console.aws.amazon.com/lambda/home?region=eu-west-1#/functions",
            ),
        ),
        (
            "https://111122223333-abc.us-east-1.console.aws.amazon.com/s3/home?region=us-east-1",
            Place(
                "aws",
                "111122223333",
                "us-east-1",
                destination="https://us-east-1.console.aws.amazon.com/s3/home?region=us-east-1",
            ),
        ),
        (
            "https://console.aws.amazon.com/go/view?arn=arn%3Aaws%3Asqs%3Aeu-west-1%3A111122223333%3Aq",
            Place(
                "aws",
                "111122223333",
                destination="https://console.aws.amazon.com/go/view?arn=arn%3Aaws%3Asqs%3Aeu-west-1%3A111122223333%3Aq",
            ),
        ),
        (
            "https://console.amazonaws.cn/ec2/home?region=cn-north-1",
            Place(
                "aws-cn",
                region="cn-north-1",
                destination="https://console.amazonaws.cn/ec2/home?region=cn-north-1",
            ),
        ),
        (
            "https://signin.aws.amazon.com/switchrole?account=acme-pay&roleName=Dev",
            Place("aws", "acme-pay", role="Dev"),
        ),
        (
            "https://signin.aws.amazon.com/switchrole?roleName=team/payments/Dev&account=acme-pay",
            Place("aws", "acme-pay", role="Dev"),
        ),
        (
            "https://eu-west-1.signin.aws.amazon.com/switchrole?account=111122223333&roleName=D%20v",
            Place("aws", "111122223333"),
        ),
        (
            "https://acme.awsapps.com/start/#/console?account_id=111122223333&role_name=Dev"
            "&destination=https%3A%2F%2Feu-west-1.console.aws.amazon.com%2Fs3%2Fhome",
            Place(
                "aws",
                "111122223333",
                "eu-west-1",
                "Dev",
                "https://eu-west-1.console.aws.amazon.com/s3/home",
            ),
        ),
        (
            "https://acme.awsapps.com/start/#/console?account_id=111122223333"
            "&destination=https://evil.example/",
            Place("aws", "111122223333"),
        ),
        ("https://console.aws.amazon.com:8443/s3", Place("aws")),
        ("https://alice@console.aws.amazon.com/s3", Place("aws")),
    ],
)
def test_an_address_says_where_it_leads(text, place):
    assert read_place(text) == place


@pytest.mark.parametrize(
    "text",
    [
        "",
        "prod admin",
        "arn:",
        "arn:aws:s3",
        "http://console.aws.amazon.com/",
        "https://console.aws.amazon.com.evil.example/",
        "https://evilconsole.aws.amazon.com/",
        "https://signin.aws.amazon.com/console",
        "https://acme.awsapps.com/start",
        "https://[::1",
        "https://example.com/arn:aws:iam::111122223333:role/Dev",
        "arn:aws:s3:::" + "x" * 5000,
    ],
)
def test_what_is_no_address_in_aws_is_a_search(text):
    assert read_place(text) is None
