#!/usr/bin/env bash
# simplesamlphp, an identity provider that nobody here wrote: Debian's package under PHP's own web server, on localhost.
#   simplesamlphp.sh install               once, as root
#   simplesamlphp.sh run PORT FOLDER       runs it until it is killed. FOLDER/people.json: {"name:password": {"email": […]}};
#                                          FOLDER/apps.json: {"<entityID>": {…}}, by the names of saml20-sp-remote, read at each request
set -euo pipefail
packages=(simplesamlphp php-cli php-xml php-mbstring)

install_() {
  dpkg-query -W "${packages[@]}" >/dev/null 2>&1 && return
  [ "$(id -u)" -eq 0 ] || { echo "as root: apt-get install ${packages[*]}" >&2; exit 1; }
  apt-get update -qq >&2
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
}

run() {
  install_
  local port=$1 folder=$2 code url=http://localhost:$1/simplesaml/
  code=$(dirname "$(dirname "$(dpkg -L simplesamlphp | grep -m1 '/lib/_autoload.php$')")")
  mkdir -p "$folder"/{config,metadata,cert,log,tmp,data,web,sessions}
  ln -sfn "$code/www" "$folder/web/simplesaml"
  cp -rL "$code/config/." "$folder/config/"
  openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=simplesamlphp \
    -keyout "$folder/cert/idp.key" -out "$folder/cert/idp.crt" 2>/dev/null
  cat >>"$folder/config/config.php" <<PHP

foreach (['certdir' => 'cert', 'loggingdir' => 'log', 'datadir' => 'data', 'tempdir' => 'tmp', 'metadatadir' => 'metadata'] as \$key => \$name)
    \$config[\$key] = '$folder/' . \$name . '/';
\$config['metadata.sources'] = [['type' => 'flatfile', 'directory' => '$folder/metadata']];
\$config['baseurlpath'] = '$url';
\$config['secretsalt'] = hash_file('sha256', '$folder/cert/idp.key');
\$config['auth.adminpassword'] = \$config['secretsalt'];
\$config['technicalcontact_email'] = 'nobody@example.test';
\$config['enable.saml20-idp'] = true;
\$config['module.enable']['exampleauth'] = true;
\$config['logging.handler'] = 'file';
\$config['store.type'] = 'phpsession';
\$config['session.phpsession.savepath'] = '$folder/sessions';
\$config['session.cookie.secure'] = false;
\$config['session.cookie.samesite'] = null;
PHP
  cat >"$folder/config/authsources.php" <<PHP
<?php \$config = [
    'admin' => ['core:AdminPassword'],
    'people' => ['exampleauth:UserPass'] + json_decode(file_get_contents('$folder/people.json'), true),
];
PHP
  cat >"$folder/metadata/saml20-idp-hosted.php" <<'PHP'
<?php $metadata['__DYNAMIC:1__'] = [
    'host' => '__DEFAULT__', 'privatekey' => 'idp.key', 'certificate' => 'idp.crt', 'auth' => 'people',
    'signature.algorithm' => 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256',
    'NameIDFormat' => 'urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress',
    'authproc' => [3 => ['class' => 'saml:AttributeNameID', 'attribute' => 'email',
        'Format' => 'urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress']],
];
PHP
  echo "<?php \$metadata = json_decode(file_get_contents('$folder/apps.json'), true);" >"$folder/metadata/saml20-sp-remote.php"
  # PHP's server gives a script behind a link no PATH_INFO.
  cat >"$folder/router.php" <<'PHP'
<?php
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);
if (!preg_match('#^(/simplesaml/.*?\.php)(/.*)?$#', $path, $part) || !is_file($_SERVER['DOCUMENT_ROOT'] . $part[1])) return false;
$_SERVER['SCRIPT_NAME'] = $part[1];
$_SERVER['PATH_INFO'] = $part[2] ?? '';
$_SERVER['PHP_SELF'] = $part[1] . $_SERVER['PATH_INFO'];
$_SERVER['SCRIPT_FILENAME'] = $_SERVER['DOCUMENT_ROOT'] . $part[1];
chdir(dirname($_SERVER['SCRIPT_FILENAME']));
require $_SERVER['SCRIPT_FILENAME'];
PHP
  SIMPLESAMLPHP_CONFIG_DIR="$folder/config" PHP_CLI_SERVER_WORKERS=4 \
    exec php -d error_reporting=E_ERROR -d display_errors=0 -S "127.0.0.1:$port" -t "$folder/web" "$folder/router.php"
}

case "${1:-}" in
  install) install_ ;;
  run) run "$2" "$3" ;;
  *)
    sed -n '2,5p' "$0" >&2
    exit 2
    ;;
esac
