#!/usr/bin/env bash
# Keycloak, an identity provider that nobody here wrote: from Maven Central, in dev mode, on localhost (another site than 127.0.0.1).
#   keycloak.sh install                    once; kept in ${SALLYPORT_TOOLS:-~/.cache/sallyport} for the next run
#   keycloak.sh run PORT                   runs it, with nothing in it, until it is killed. Administrator: admin, $KEYCLOAK_ADMIN
set -euo pipefail
version=26.7.3
tools=${SALLYPORT_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport}
home=$tools/keycloak-$version

install_() {
  [ -x "$home/bin/kc.sh" ] && return
  mkdir -p "$tools"
  local folder
  folder=$(mktemp -d "$tools/download.XXXXXX")
  mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy -DoutputDirectory="$folder" \
    -Dartifact="org.keycloak:keycloak-quarkus-dist:$version:tar.gz" >&2
  tar xzf "$folder/keycloak-quarkus-dist-$version.tar.gz" -C "$folder"
  # Whole or not at all: two runs at once, or one that was cut off.
  mv -T "$folder/keycloak-$version" "$home" 2>/dev/null || [ -x "$home/bin/kc.sh" ]
  rm -rf "$folder"
}

run() {
  install_
  KC_BOOTSTRAP_ADMIN_USERNAME=admin KC_BOOTSTRAP_ADMIN_PASSWORD=$KEYCLOAK_ADMIN JAVA_OPTS_KC_HEAP='-Xms256m -Xmx768m' \
    exec "$home/bin/kc.sh" start-dev --db=dev-mem --http-host=127.0.0.1 --http-port="$1" --hostname="http://localhost:$1"
}

case "${1:-}" in
  install) install_ ;;
  run) run "$2" ;;
  *)
    sed -n '2,4p' "$0" >&2
    exit 2
    ;;
esac
