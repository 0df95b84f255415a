#!/usr/bin/env bash
# Has the Python client score generated events by Arrow Flight, in the clear and encrypted, and holds what it says to what `match` finds in the same events. It needs Python 3.10 or newer with
# venv, and openssl.
#
#   flight_client.sh PROGRAM    PROGRAM: a built dynamic-cep
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
program=$(realpath "${1:?a built dynamic-cep}")
root=$here/../..
venv=${DYNAMIC_CEP_PYARROW:-$root/target/services/pyarrow}

if ! "$venv/bin/python" -c 'import pyarrow.flight' 2>/dev/null; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q pyarrow==26.0.1
fi

dir=$(mktemp -d)
serving=
end() {
    [ -z "$serving" ] || kill "$serving" 2>/dev/null || true
    rm -rf "$dir"
}
trap end EXIT
fail() {
    echo "flight_client.sh: $1" >&2
    tail -20 "$dir/log" >&2
    exit 1
}

# A process over a new folder, with further variables of the environment.
start() {
    rm -rf "$dir/data"
    env DYNAMIC_CEP_DATA_DIR="$dir/data" DYNAMIC_CEP_HTTP_LISTEN=127.0.0.1:0 DYNAMIC_CEP_FLIGHT_LISTEN=127.0.0.1:0 "$@" "$program" serve 2>"$dir/log" &
    serving=$!
    for _ in $(seq 100); do
        if grep -q 'the first key' "$dir/log"; then break; fi
        kill -0 "$serving" 2>/dev/null || fail "the process does not begin"
        sleep 0.1
    done
    url=$(sed -n 's/^listening on //p' "$dir/log")
    flight=$(sed -n 's/^Arrow Flight at //p' "$dir/log")
    key=$(sed -n 's/^the first key.* //p' "$dir/log")
}

"$program" generate --events 5000 --fraud 0.02 --step 2s --output "$dir/events.parquet"
"$program" generate --events 5000 --fraud 0.02 --step 2s --output "$dir/events.ndjson"
"$program" match "$root/rules/fraud" --events "$dir/events.parquet" --output "$dir/decisions.ndjson" 2>/dev/null
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' \
    -addext basicConstraints=critical,CA:FALSE \
    -keyout "$dir/key.pem" -out "$dir/certificate.pem" 2>/dev/null

# Counts by action, as the client tells them.
right=$(sed -n 's/.*"action":"\([a-z]*\)".*/\1/p' "$dir/decisions.ndjson" | sort | uniq -c | awk '{print $2 ": " $1}')
case $right in *block*) ;; *) fail "there is nothing to find: $right" ;; esac

check() {
    told=$("$venv/bin/python" "$root/deploy/clients/score_flight.py" "$@")
    [ "$(printf '%s\n' "$told" | sed -n '/^[a-z]*: [0-9]*$/p' | sort)" = "$right" ] || fail "the client says
$told
and match
$right"
}

start
"$program" push "$root/rules/fraud" --url "$url" --key "$key" --activate >/dev/null
check "$dir/events.parquet" --url "$flight" --key "$key" --batch 700
check "$dir/events.ndjson" --url "$flight" --key "$key"
if "$venv/bin/python" "$root/deploy/clients/score_flight.py" "$dir/events.parquet" --url "$flight" --key dcep_0_0 >/dev/null 2>"$dir/told"; then
    fail "a stranger was answered"
fi
grep -q 'there is no such key' "$dir/told" || fail "$(cat "$dir/told")"
kill "$serving"
wait "$serving" || fail "the process ended with $?"

start DYNAMIC_CEP_HTTP_TLS_CERTIFICATE="$dir/certificate.pem" DYNAMIC_CEP_HTTP_TLS_KEY="$dir/key.pem"
"$program" push "$root/rules/fraud" --url "$url" --key "$key" --ca "$dir/certificate.pem" --activate >/dev/null
check "$dir/events.parquet" --url "$flight" --key "$key" --ca "$dir/certificate.pem"
kill "$serving"
wait "$serving" || fail "the process ended with $?"
echo "flight_client.sh: the client found what match finds"
