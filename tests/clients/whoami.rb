# Who the SDK for Ruby says we are: credentials by its usual chain, as of AWS_PROFILE.
require "aws-sdk-core"

begin
  sts = Aws::STS::Client.new(region: "eu-west-1", endpoint: ENV.fetch("AWS_ENDPOINT_URL_STS"))
  puts sts.get_caller_identity.arn
rescue StandardError => problem
  puts "#{problem.class}: #{problem.message}"
  exit 1
end
