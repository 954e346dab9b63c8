#!/usr/bin/env bash
# Installs what the tests need, when missing, and runs them all. From a fresh clone: ./tests/run.sh
#
# Needs cargo and a C compiler; PostgreSQL comes from the distribution's packages (Debian, Ubuntu). The tests start
# their own servers on free loopback ports and leave nothing behind.
set -eu
cd "$(dirname "$0")/.."

began=$(date +%s)
step() { printf '\n== %4ds  %s\n' "$(($(date +%s) - began))" "$*"; }

have_postgres() { compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || command -v postgres >/dev/null; }

install_postgres() {
    local sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    # The package would start a cluster of its own; the tests make theirs.
    "${sudo[@]}" mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo 'create_main_cluster = false' | "${sudo[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql
}

if have_postgres; then
    step "PostgreSQL is there"
else
    step "installing PostgreSQL from the distribution's packages"
    install_postgres
fi

step "format"
cargo fmt --all --check

step "lints"
cargo clippy --workspace --all-targets --locked -- -D warnings

step "build"
cargo test --workspace --locked --no-run

step "tests"
# Half an hour is three times what they need: a test that hangs is told (libtest names it after a minute) and ends.
timeout --kill-after=10 1800 cargo test --workspace --locked --no-fail-fast

if cargo deny --version >/dev/null 2>&1; then
    step "advisories, licences, bans (cargo deny)"
    cargo deny check
else
    step "cargo-deny is not installed: advisories and licences were not checked"
fi

step "all passed"
