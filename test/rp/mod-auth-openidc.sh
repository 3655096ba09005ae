#!/usr/bin/env bash
# Debian's Apache with mod_auth_openidc, a relying party in C: people sign in through our pages in Chromium, Apache sees what
# was proven, asks for more, and is signed out by both sides. It installs what it needs as root; else it says what is missing.
. "$(dirname "$0")/house.sh"

need_packages apache2-bin libapache2-mod-auth-openidc curl
need_browser

APP=http://127.0.0.1:$(free_port)
WIKI_SECRET=$(secret)
WIKI_PASSPHRASE=$(secret)
export APP WIKI_SECRET WIKI_PASSPHRASE
serve examples/clients/mod-auth-openidc.yaml

mkdir -p "$folder/apache/signed-in/payments"
printf '#!/bin/sh\nprintf "Content-Type: text/plain\\n\\n"\nenv | grep -E "^(OIDC_CLAIM_|REMOTE_USER=)" | sort\n' \
  >"$folder/apache/signed-in/index.cgi"
cp "$folder/apache/signed-in/index.cgi" "$folder/apache/signed-in/payments/index.cgi"
chmod -R a+rX "$folder/apache"
chmod 755 "$folder"/apache/signed-in/index.cgi "$folder"/apache/signed-in/payments/index.cgi
echo 'the way in is /signed-in/' >"$folder/apache/index.html"

modules=$(dirname "$(dpkg -L libapache2-mod-auth-openidc | grep -m1 'mod_auth_openidc.so$')")
{
  for name in mpm_prefork authn_core authz_core authz_user dir cgi; do
    echo "LoadModule ${name}_module $modules/mod_$name.so"
  done
  cat <<C
LoadModule auth_openidc_module $modules/mod_auth_openidc.so
ServerName 127.0.0.1
ServerRoot $folder
Listen ${APP#http://}
PidFile $folder/apache.pid
ErrorLog $folder/apache.log
$([ "$(id -u)" -ne 0 ] || printf 'User www-data\nGroup www-data')
StartServers 2
DocumentRoot $folder/apache
<Directory $folder/apache>
  Require all granted
  Options +ExecCGI
  DirectoryIndex index.cgi index.html
</Directory>
<Files index.cgi>
  SetHandler cgi-script
</Files>
C
  here examples/clients/mod-auth-openidc.conf
} >"$folder/apache.conf"
apache2 -f "$folder/apache.conf" -t >"$folder/apache-test.log" 2>&1 || fail 'Apache refuses its configuration'
# In a group of its own: when it stops, it ends its whole process group.
setsid apache2 -f "$folder/apache.conf" -D FOREGROUND >>"$folder/apache.log" 2>&1 &
started+=("$!")
answers "$!" "$APP/"

node --import tsx test/rp/mod-auth-openidc.ts
version=$(dpkg-query -W -f '${Version}' libapache2-mod-auth-openidc)
echo "mod_auth_openidc $version: signed in with an authenticator app, claims seen, stepped up, signed out by it and by us"
