<?php

$settings = json_decode(file_get_contents(getenv('INTEROP_FOLDER') . '/settings.json'), true);

$config = [
    'people' => array_merge(['exampleauth:UserPass'], $settings['people']),
];
