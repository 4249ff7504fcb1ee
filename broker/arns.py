"""ARNs, partitions and the endpoints that follow from them.

Specification: the partition tables of the AWS SDKs, of "IAM SAML assertions" and "custom identity broker" in the IAM
user guide, and of "AWS Sign-In endpoints" in the AWS general reference. Nothing here talks to anybody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from broker.errors import BadInput


@dataclass(frozen=True, slots=True)
class Partition:
    """One of AWS's isolated worlds: no trust and no credentials cross from one to another.

    name: as in ARNs. title: for people. home_region: where STS and sign-in are asked when nothing else is said.
    dns_suffix: of service endpoints. signin_host / regional_signin_host: the sign-in and federation host
    ("{region}" is filled in). signin_host_region: the region that signin_host stands for, which has no regional host of
    its own; "" where every region has one. saml_audience: what the assertion's Audience says. console_domain: the last
    labels of every console host.
    second_regions: by the beginning of a region's name, where to ask when that region does not answer, near by and
    always enabled. always_enabled: regions that no account has to opt in to; None: all.
    """

    name: str
    title: str
    home_region: str
    region_pattern: str
    dns_suffix: str
    signin_host: str
    regional_signin_host: str
    saml_audience: str
    console_domain: str
    signin_host_region: str = ""
    second_regions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    always_enabled: frozenset[str] | None = None

    def sts_origin(self, region: str = "") -> str:
        """https origin of STS in a region, never the global one: its tokens fail in regions that need an opt-in."""
        return f"https://sts.{region or self.home_region}.{self.dns_suffix}"

    def signin_origin(self, region: str = "") -> str:
        """https origin of the sign-in host, regional when a region is named."""
        if not region or region == self.signin_host_region:
            return f"https://{self.signin_host}"
        return f"https://{self.regional_signin_host.format(region=region)}"

    def second_region(self, region: str = "") -> str:
        """Where to ask when `region` ("": the home region) does not answer and nobody chose; "": there is no other."""
        first = region or self.home_region
        for beginning, candidates in self.second_regions:
            if first.startswith(beginning):
                return next((other for other in candidates if other != first), "")
        return ""

    def needs_opt_in(self, region: str) -> bool:
        """Whether an account has to enable the region first: every region of AWS itself opened since March 2019."""
        return (
            bool(region) and self.always_enabled is not None and region not in self.always_enabled
        )

    def saml_recipient(self, region: str = "") -> str:
        """Where a SAML response is posted, and what `Recipient` and `SAML:aud` must say."""
        return f"{self.signin_origin(region)}/saml"

    def console_url(self, region: str = "") -> str:
        """The console's front page, in a region when one is named."""
        if region:
            return f"https://{region}.console.{self._console_base}/console/home?region={region}"
        return f"https://console.{self._console_base}/console/home"

    @property
    def _console_base(self) -> str:
        return self.console_domain.removeprefix("console.")

    def owns_region(self, region: str) -> bool:
        return re.fullmatch(self.region_pattern, region) is not None


_ALWAYS_ENABLED = frozenset(
    {"us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "sa-east-1"}
    | {"eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3"}
    | {"ap-northeast-1", "ap-northeast-2", "ap-northeast-3"}
    | {"ap-south-1", "ap-southeast-1", "ap-southeast-2"}
)

PARTITIONS: dict[str, Partition] = {
    p.name: p
    for p in (
        Partition(
            name="aws",
            title="AWS",
            home_region="us-east-1",
            region_pattern=r"(us|eu|ap|sa|ca|me|af|il|mx)-(?!gov|iso)[a-z]+-\d+",
            dns_suffix="amazonaws.com",
            signin_host="signin.aws.amazon.com",
            regional_signin_host="{region}.signin.aws.amazon.com",
            saml_audience="urn:amazon:webservices",
            console_domain="console.aws.amazon.com",
            signin_host_region="us-east-1",
            second_regions=(
                ("eu-", ("eu-west-1", "eu-central-1")),
                ("il-", ("eu-central-1",)),
                ("me-", ("eu-central-1",)),
                ("af-", ("eu-west-1",)),
                ("ap-", ("ap-southeast-1", "ap-northeast-1")),
                ("ca-", ("ca-central-1", "us-east-1")),
                ("", ("us-east-1", "us-west-2")),
            ),
            always_enabled=_ALWAYS_ENABLED,
        ),
        Partition(
            name="aws-us-gov",
            title="AWS GovCloud (US)",
            home_region="us-gov-west-1",
            region_pattern=r"us-gov-[a-z]+-\d+",
            dns_suffix="amazonaws.com",
            signin_host="signin.amazonaws-us-gov.com",
            regional_signin_host="{region}.signin.amazonaws-us-gov.com",
            saml_audience="urn:amazon:webservices:govcloud",
            console_domain="console.amazonaws-us-gov.com",
            signin_host_region="us-gov-west-1",
            second_regions=(("", ("us-gov-west-1", "us-gov-east-1")),),
        ),
        Partition(
            name="aws-cn",
            title="AWS China",
            home_region="cn-north-1",
            region_pattern=r"cn-[a-z]+-\d+",
            dns_suffix="amazonaws.com.cn",
            signin_host="signin.amazonaws.cn",
            regional_signin_host="{region}.signin.amazonaws.cn",
            saml_audience="urn:amazon:webservices:cn-north-1",
            console_domain="console.amazonaws.cn",
            second_regions=(("", ("cn-north-1", "cn-northwest-1")),),
        ),
        Partition(
            name="aws-eusc",
            title="AWS European Sovereign Cloud",
            home_region="eusc-de-east-1",
            region_pattern=r"eusc-de-[a-z]+-\d+",
            dns_suffix="amazonaws.eu",
            signin_host="eusc-de-east-1.signin.amazonaws-eusc.eu",
            regional_signin_host="{region}.signin.amazonaws-eusc.eu",
            # No audience of this partition is published. AWS takes the address that the assertion is posted to as well.
            saml_audience="https://eusc-de-east-1.signin.amazonaws-eusc.eu/saml",
            console_domain="console.amazonaws-eusc.eu",
        ),
    )
}


def partition_of(region: str) -> Partition:
    """The partition that a region belongs to; AWS's commercial one for a name that is none of these."""
    owners = (one for one in PARTITIONS.values() if one.owns_region(region))
    return next(owners, PARTITIONS["aws"])


_ACCOUNT_ID = re.compile(r"\d{12}", re.ASCII)
_ROLE_ARN = re.compile(
    r"arn:(?P<partition>aws(?:-us-gov|-cn|-eusc)?):iam::(?P<account>\d{12}):role"
    r"(?P<path>/(?:[\x21-\x7e]{1,510}/)?)(?P<name>[\w+=,.@-]{1,64})",
    re.ASCII,
)


_FEDERATED_USER_ARN = re.compile(
    r"arn:(?P<partition>aws(?:-us-gov|-cn|-eusc)?):sts::(?P<account>\d{12}):federated-user"
    r"/(?P<name>[\w+=,.@-]{2,32})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class RoleArn:
    """`arn:{partition}:iam::{account_id}:role{path}{name}`; the path starts and ends with a slash.

    federated: it is no role but a federated user, `arn:{partition}:sts::{account_id}:federated-user/{name}`.
    """

    partition: str
    account_id: str
    path: str
    name: str
    federated: bool = False

    def __str__(self) -> str:
        if self.federated:
            return federated_user_arn(self.partition, self.account_id, self.name)
        return f"arn:{self.partition}:iam::{self.account_id}:role{self.path}{self.name}"


def parse_role_arn(text: str) -> RoleArn:
    """Read a role ARN. Raises BadInput, whose message shows a correct example."""
    match = _ROLE_ARN.fullmatch(text.strip())
    if match is None:
        raise BadInput(
            "This is not the ARN of an IAM role. It looks like arn:aws:iam::111122223333:role/Developer; "
            "copy it from the role's page in the IAM console.",
            code="bad_role_arn",
        )
    return RoleArn(match["partition"], match["account"], match["path"], match["name"])


def federated_user_arn(partition: str, account_id: str, name: str) -> str:
    return f"arn:{partition}:sts::{account_id}:federated-user/{name}"


def parse_federated_user_arn(text: str) -> RoleArn:
    """Read the ARN of a federated user. Raises BadInput, whose message shows a correct example."""
    match = _FEDERATED_USER_ARN.fullmatch(text.strip())
    if match is None:
        raise BadInput(
            "A federation token is not for a role. Name it yourself, as the federated user that people see: "
            "arn:aws:sts::111122223333:federated-user/Developer, in the account of Daypass's IAM user; "
            "the name has 2 to 32 characters.",
            code="bad_role_arn",
        )
    return RoleArn(match["partition"], match["account"], "/", match["name"], federated=True)


def parse_account_id(text: str) -> str:
    """Read an account id in the forms people paste (111122223333, 1111-2222-3333). Raises BadInput."""
    digits = text.strip().replace("-", "").replace(" ", "")
    if _ACCOUNT_ID.fullmatch(digits) is None:
        raise BadInput(
            "An AWS account id has exactly 12 digits, for example 111122223333.",
            code="bad_account_id",
        )
    return digits


def assumed_role_arn(role: RoleArn, session_name: str) -> str:
    """What GetCallerIdentity says for a session of this role; note that AWS drops the role's path."""
    return f"arn:{role.partition}:sts::{role.account_id}:assumed-role/{role.name}/{session_name}"


def saml_provider_arn(partition: str, account_id: str, name: str) -> str:
    return f"arn:{partition}:iam::{account_id}:saml-provider/{name}"


def oidc_provider_arn(partition: str, account_id: str, issuer: str) -> str:
    """The ARN that IAM gives the provider of this issuer URL: the URL without its scheme."""
    return f"arn:{partition}:iam::{account_id}:oidc-provider/{issuer.removeprefix('https://')}"


def endpoint_for(setting: str, region: str) -> str:
    """What DAYPASS_STS_ENDPOINT or DAYPASS_SIGNIN_ENDPOINT says for a region; "": AWS's own endpoint.

    One URL for all regions, in which {region} is filled in; or `region=URL` pairs with commas between them, for
    regions that have an endpoint of their own.
    """
    if "://" in setting.partition("=")[0]:
        return setting.strip().replace("{region}", region).rstrip("/")
    for pair in setting.split(","):
        name, _, url = pair.partition("=")
        if name.strip() == region:
            return url.strip().rstrip("/")
    return ""


def endpoints_of(setting: str) -> tuple[str, ...]:
    """Every URL of such a setting, for checks; a pair without URL stays as it is, so that no check takes it for one."""
    if "://" in setting.partition("=")[0]:
        return (setting.strip(),)
    pairs = (pair.strip() for pair in setting.split(","))
    return tuple(
        url.strip() if eq else name for name, eq, url in (p.partition("=") for p in pairs if p)
    )


def safe_console_destination(partition: Partition, url: str) -> str:
    """The console URL to land on, if it is one of this partition's console hosts; raises BadInput otherwise.

    AWS does not document a host check of its own on `Destination`, so without this the hand-over would be an open
    redirect. Accepts `console.X`, `{region}.console.X` and the hosts of multi-session consoles below them.
    """
    problem = BadInput(
        f"The destination has to be a page of the AWS console, such as {partition.console_url('')}.",
        code="bad_destination",
    )
    if len(url) > 2048 or any(ord(c) <= 0x20 or ord(c) == 0x7F or c == "\\" for c in url):
        raise problem
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise problem from None
    host = (parts.hostname or "").lower()
    known = host == partition.console_domain or host.endswith("." + partition.console_domain)
    if parts.scheme != "https" or not known or port not in (None, 443) or "@" in parts.netloc:
        raise problem
    return url
