# shellcheck shell=bash
# A server of this checkout for a relying party that nobody here wrote: on loopback, in a folder that goes away with it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

folder=$(mktemp -d "${TMPDIR:-/tmp}/sallyport-rp.XXXXXX")
chmod 755 "$folder"
started=()

clean_up() {
  local code=$?
  # The logs first: they say why.
  if [ "$code" -ne 0 ]; then tail -n 15 "$folder"/*.log >&2 || true; fi
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${started[@]}"; do
    for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  done
  rm -rf "$folder"
  exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

# Debian packages, unless they are there.
need_packages() {
  local missing=()
  for name in "$@"; do dpkg -s "$name" >/dev/null 2>&1 || missing+=("$name"); done
  [ "${#missing[@]}" -eq 0 ] && return
  [ "$(id -u)" -eq 0 ] || fail "not root, and these Debian packages are missing: apt-get install ${missing[*]}"
  apt-get update -qq
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
    >"$folder/install.log" 2>&1 || fail "apt-get could not install ${missing[*]}"
}

need_browser() {
  [ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null || need_packages chromium fonts-dejavu-core
}

free_port() {
  node -e "const s = require('node:net').createServer().listen(0, '127.0.0.1', () => { console.log(s.address().port); s.close() })"
}

secret() {
  head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n'
}

# Waits for an address to answer at all, while the process lives.
answers() {
  local pid=$1 url=$2
  for _ in $(seq 150); do
    if curl -sS -o /dev/null --max-time 2 "$url" 2>/dev/null; then return; fi
    kill -0 "$pid" 2>/dev/null || fail "it ended before it answered at $url"
    sleep 0.2
  done
  fail "nothing answers at $url"
}

# The configuration of docs/clients.md, with the addresses of this run.
here() {
  sed -e "s|https://login.example.com|$ISSUER|g" -e "s|https://[a-z]*\.example\.com|$APP|g" "$1"
}

# Registers the app of this seed file and two people, and serves.
serve() {
  ISSUER=http://127.0.0.1:$(free_port)
  export ISSUER PORT=${ISSUER##*:} SALLYPORT_DATA_DIR=$folder/data
  export NODE_ENV=development
  RP_PASSWORD=$(secret)
  export RP_PASSWORD
  here "$1" >"$folder/client.yaml"
  local file
  for file in test/rp/people.yaml "$folder/client.yaml"; do
    node --import tsx server/cli/index.ts apply "$file" >>"$folder/sallyport.log" 2>&1 || fail "sallyport apply refused $1"
  done
  node --import tsx server/cli/index.ts serve >>"$folder/sallyport.log" 2>&1 &
  started+=("$!")
  answers "$!" "$ISSUER/readyz"
}
