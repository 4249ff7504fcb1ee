<?php

// PHP's built-in server takes a dot in PATH_INFO for a file name. What Apache's Alias and PATH_INFO would do, done here.

const BASE = '/simplesamlphp/';

$path = rawurldecode(parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH));
if (strpos($path, BASE) !== 0 || strpos($path, '..') !== false) {
    http_response_code(404);
    return true;
}
$rest = substr($path, strlen(BASE));
$www = getenv('INTEROP_SIMPLESAMLPHP') . '/www/';
if (preg_match('~^([^.]*\.php)(/.*)?$~', $rest, $parts) && is_file($www . $parts[1])) {
    $_SERVER['SCRIPT_NAME'] = BASE . $parts[1];
    $_SERVER['PHP_SELF'] = BASE . $rest;
    $_SERVER['SCRIPT_FILENAME'] = $www . $parts[1];
    $_SERVER['DOCUMENT_ROOT'] = $www;
    unset($_SERVER['PATH_INFO']);
    if (isset($parts[2])) {
        $_SERVER['PATH_INFO'] = $parts[2];
    }
    chdir(dirname($_SERVER['SCRIPT_FILENAME']));
    require $_SERVER['SCRIPT_FILENAME'];
    return true;
}
if (!is_file($www . $rest)) {
    http_response_code(404);
    return true;
}
$types = ['css' => 'text/css', 'js' => 'text/javascript', 'png' => 'image/png', 'ico' => 'image/x-icon'];
header('Content-Type: ' . ($types[pathinfo($rest, PATHINFO_EXTENSION)] ?? 'application/octet-stream'));
readfile($www . $rest);
return true;
