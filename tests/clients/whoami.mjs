// Who the SDK for JavaScript says we are: credentials by its usual chain, as of AWS_PROFILE.
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";

try {
  const sts = new STSClient({ region: "eu-west-1", endpoint: process.env.AWS_ENDPOINT_URL_STS });
  console.log((await sts.send(new GetCallerIdentityCommand({}))).Arn);
} catch (problem) {
  console.log(`${problem.name}: ${problem.message}`);
  process.exit(1);
}
