<?php

// SimpleSAMLphp as an identity provider for tests. What a test changes while it runs is in $INTEROP_FOLDER/settings.json.

$folder = getenv('INTEROP_FOLDER');
$settings = json_decode(file_get_contents("$folder/settings.json"), true);

$config = [
    'baseurlpath' => getenv('INTEROP_URL') . '/simplesamlphp/',
    'certdir' => "$folder/",
    'loggingdir' => "$folder/",
    'datadir' => "$folder/",
    'tempdir' => "$folder/tmp",
    'metadatadir' => __DIR__ . '/metadata/',
    'attributenamemapdir' => getenv('INTEROP_SIMPLESAMLPHP') . '/../../../etc/simplesamlphp/attributemap/',
    'timezone' => 'UTC',
    'secretsalt' => $settings['salt'],
    'auth.adminpassword' => $settings['salt'],
    'admin.checkforupdates' => false,
    'enable.saml20-idp' => true,
    'module.enable' => ['core' => true, 'saml' => true, 'exampleauth' => true],
    'logging.level' => SimpleSAML\Logger::INFO,
    'logging.handler' => 'file',
    'logging.logfile' => 'simplesamlphp.log',
    'statistics.out' => [],
    'metadata.sources' => [['type' => 'flatfile']],
    'store.type' => 'phpsession',
    'session.phpsession.savepath' => "$folder/sessions",
    'session.phpsession.cookiename' => 'interop_simplesamlphp_php',
    'session.cookie.name' => 'interop_simplesamlphp',
    'session.authtoken.cookiename' => 'interop_simplesamlphp_token',
    // Plain http on loopback: a browser keeps no SameSite=None cookie without Secure.
    'session.cookie.secure' => false,
    'session.cookie.samesite' => 'Lax',
    'language.cookie.secure' => false,
    'language.cookie.samesite' => 'Lax',
    'language.cookie.name' => 'interop_simplesamlphp_language',
];
