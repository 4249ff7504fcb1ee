<?php

$settings = json_decode(file_get_contents(getenv('INTEROP_FOLDER') . '/settings.json'), true);

$metadata = [];
foreach ($settings['trusted'] as $entity) {
    $metadata[$entity['entityid']] = $entity;
}
