#!/usr/bin/env bash
# oauth2-proxy, a relying party in Go: people sign in through our pages in Chromium, the app behind it sees what was proven, and
# they sign out of both. It is built from the Go module proxy and kept in the user's cache folder.
. "$(dirname "$0")/house.sh"

VERSION=v7.15.4
command -v curl >/dev/null || need_packages curl
command -v go >/dev/null || fail "go is not there: oauth2-proxy $VERSION is built with Go 1.26 or newer"
need_browser

built=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/sallyport-test/oauth2-proxy-$VERSION
if [ ! -x "$built" ]; then
  mkdir "$folder/build"
  # As a tool of a module of its own: `go install …@version` asks for the list of all versions, which a proxy may not have.
  (
    cd "$folder/build"
    go mod init build
    go get -tool "github.com/oauth2-proxy/oauth2-proxy/v7@$VERSION"
    GOBIN=$folder/bin go install github.com/oauth2-proxy/oauth2-proxy/v7
  ) >"$folder/build.log" 2>&1 || fail "go could not build oauth2-proxy $VERSION"
  mkdir -p "$(dirname "$built")"
  # Whole or not at all, if two build it at once.
  cp "$folder/bin/oauth2-proxy" "$built.$$"
  mv "$built.$$" "$built"
fi

APP=http://127.0.0.1:$(free_port)
UPSTREAM=http://127.0.0.1:$(free_port)
OAUTH2_PROXY_CLIENT_SECRET=$(secret)
OAUTH2_PROXY_COOKIE_SECRET=$(secret | cut -c1-32)
export APP UPSTREAM OAUTH2_PROXY_CLIENT_SECRET OAUTH2_PROXY_COOKIE_SECRET
serve examples/clients/oauth2-proxy.yaml

# Over plain http on loopback a browser keeps no cookie that is Secure, and the host has a port.
{
  here examples/clients/oauth2-proxy.cfg |
    sed -e "s|http://127.0.0.1:8080|$UPSTREAM|" -e "s|\"login.example.com\"|\"${ISSUER#http://}\"|"
  echo "http_address = \"${APP#http://}\""
  echo 'cookie_secure = false'
} >"$folder/oauth2-proxy.cfg"
"$built" --config "$folder/oauth2-proxy.cfg" >"$folder/oauth2-proxy.log" 2>&1 &
started+=("$!")
answers "$!" "$APP/ping"

node --import tsx test/rp/oauth2-proxy.ts
echo "oauth2-proxy $VERSION: signed in with an authenticator app, claims seen, signed out of both"
