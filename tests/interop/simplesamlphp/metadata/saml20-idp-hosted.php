<?php

$settings = json_decode(file_get_contents(getenv('INTEROP_FOLDER') . '/settings.json'), true);

$metadata['__DYNAMIC:1__'] = array_merge([
    'host' => '__DEFAULT__',
    'auth' => 'people',
], $settings['idp']);
