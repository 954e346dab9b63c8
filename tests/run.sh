#!/usr/bin/env bash
# Runs every check of the repository: format, lints, and all tests. From a fresh clone: ./tests/run.sh
#
# Needs a Rust toolchain with rustfmt and clippy. Debian or Ubuntu packages that are missing (C compiler, PostgreSQL,
# procps, curl) are installed first, as root or with sudo. The tests start their own servers on free loopback ports
# and leave nothing running.
#
# Every check runs even when an earlier one failed, so one run reports all failures. Only a failed build ends the run
# early. The logs of the test rings stay in the folder "rings" of the target folder until the next run.
set -euo pipefail
cd "$(dirname "$0")/.."

logs=${CARGO_TARGET_DIR:-target}/rings
# Seconds between two progress lines.
progress_interval=30
# Time limit of one ring in seconds, about four times what the slowest ring needs on two cores. libtest names a test
# that runs for over a minute, so the log of a ring that was ended names the tests that hung.
ring_limit=1800

# A fresh clone builds everything once, so the files for incremental builds would be written and never read.
[ -z "${CI:-}" ] || export CARGO_INCREMENTAL=0

failed=()
step() { printf '\n== %4ds  %s\n' "$SECONDS" "$*"; }

# check NAME COMMAND...: runs a check in the foreground and records its failure.
check() {
    local name=$1 began=$SECONDS
    shift
    step "$name"
    if "$@"; then
        step "$name: passed in $((SECONDS - began)) s"
    else
        step "$name: FAILED after $((SECONDS - began)) s"
        failed+=("$name")
    fi
}

# ---- Packages -------------------------------------------------------------------------------------------------------

install_missing_packages() {
    local missing=() sudo=()
    type -P cc >/dev/null || missing+=(gcc libc6-dev)
    # The tests signal processes with the program `kill` and run the curl commands that the demo prints.
    type -P kill >/dev/null || missing+=(procps)
    type -P curl >/dev/null || missing+=(curl)
    # The root certificates, which cargo needs for downloads.
    compgen -G '/etc/ssl/certs/*' >/dev/null || missing+=(ca-certificates)
    # The tests run the server from Debian's folder; a server elsewhere in PATH is not used.
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
    if [ ${#missing[@]} = 0 ]; then
        step "packages: all are installed"
        return
    fi
    step "packages: installing ${missing[*]}"
    if ! type -P apt-get >/dev/null; then
        echo "apt-get not found: install the equivalents of these Debian packages: ${missing[*]}" >&2
        exit 1
    fi
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    # Keeps the package from creating and starting a database cluster; the tests create their own.
    if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        "${sudo[@]}" mkdir -p /etc/postgresql-common
        echo 'create_main_cluster = false' | "${sudo[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
    fi
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq -o Acquire::Retries=3 --no-install-recommends "${missing[@]}" >/dev/null
}

require_toolchain() {
    local tool
    for tool in cargo rustfmt cargo-clippy; do
        if ! type -P "$tool" >/dev/null; then
            echo "$tool not found: install Rust with the components rustfmt and clippy" >&2
            exit 1
        fi
    done
}

# ---- Rings ----------------------------------------------------------------------------------------------------------

# The rings that run, by name: process id of `timeout`, and second of the start.
declare -A ring_pid=() ring_began=()

stop_rings() { [ ${#ring_pid[@]} = 0 ] || kill "${ring_pid[@]}" 2>/dev/null || true; }
trap stop_rings EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start_ring NAME NICENESS ARGUMENTS...: runs `cargo test` with these arguments in the background. All rings select
# --workspace, because another selection of packages has other features and would be built again.
start_ring() {
    local name=$1 niceness=$2
    shift 2
    step "tests, ring $name: started"
    nice -n "$niceness" timeout --kill-after=10 "$ring_limit" \
        cargo test --workspace --locked --no-fail-fast "$@" >"$logs/$name.log" 2>&1 </dev/null &
    ring_pid[$name]=$!
    ring_began[$name]=$SECONDS
}

# Number of tests in a ring's log that passed so far.
passed() { grep -c '^test .* \.\.\. ok$' "$logs/$1.log" || true; }

finish_ring() {
    local name=$1 status=0
    wait "${ring_pid[$name]}" || status=$?
    unset "ring_pid[$name]"
    if [ "$status" = 0 ]; then
        step "tests, ring $name: passed in $((SECONDS - ring_began[$name])) s"
        grep '^test result: .* [1-9][0-9]* passed' "$logs/$name.log" || true
    else
        cat "$logs/$name.log"
        step "tests, ring $name: FAILED after $((SECONDS - ring_began[$name])) s (status $status; 124 is the time limit)"
        failed+=("tests, ring $name")
    fi
}

# Waits for every ring that runs. Ends after ring_limit at the latest, because `timeout` ends each ring then.
await_rings() {
    local name next=$((SECONDS + progress_interval)) line
    while [ ${#ring_pid[@]} != 0 ]; do
        sleep 1
        for name in "${!ring_pid[@]}"; do
            kill -0 "${ring_pid[$name]}" 2>/dev/null || finish_ring "$name"
        done
        if [ "$SECONDS" -ge "$next" ] && [ ${#ring_pid[@]} != 0 ]; then
            next=$((SECONDS + progress_interval))
            line=
            for name in "${!ring_pid[@]}"; do line+="  $name: $(passed "$name") tests passed"; done
            printf '== %4ds%s\n' "$SECONDS" "$line"
        fi
    done
}

# ---- The run --------------------------------------------------------------------------------------------------------

install_missing_packages
require_toolchain
mkdir -p "$logs"

check "format" cargo fmt --all --check

# The lints need a build of their own: clippy reads only the metadata of dependencies, which `cargo check` writes, and
# the tests need compiled code. Both share build scripts and procedural macros, the C code of aws-lc and zstd included.
step "build of all tests"
cargo test --workspace --locked --no-run
check "lints" cargo clippy --workspace --all-targets --locked -- -D warnings

# The ring "node" has real sockets and time limits, and mostly waits. The other rings only compute; their lower
# priority keeps the processors free for "node" whenever it needs them.
start_ring node 0 --test node
start_ring unit 9 --lib --bins --test tidy
start_ring sim 9 --test sim
await_rings
check "documentation tests" cargo test --workspace --locked --doc

if cargo deny --version >/dev/null 2>&1; then
    check "advisories, licences, bans (cargo deny)" cargo deny check
else
    step "cargo-deny is not installed: advisories and licences were not checked"
fi

if [ ${#failed[@]} != 0 ]; then
    step "FAILED:"
    printf '  %s\n' "${failed[@]}"
    exit 1
fi
step "all passed"
