<?php

// What the page "XML to SimpleSAMLphp metadata converter" does with an uploaded file: metadata on standard input, the
// entry for saml20-sp-remote.php, as JSON, on standard output.

require_once getenv('INTEROP_SIMPLESAMLPHP') . '/lib/_autoload.php';

$xml = trim(stream_get_contents(STDIN));
SimpleSAML\Utils\XML::checkSAMLMessage($xml, 'saml-meta');
$found = [];
foreach (SimpleSAML\Metadata\SAMLParser::parseDescriptorsString($xml) as $entity) {
    $one = $entity->getMetadata20SP();
    if ($one !== null) {
        unset($one['entityDescriptor']);
        $found[] = $one;
    }
}
echo json_encode($found, JSON_THROW_ON_ERROR);
