#!/usr/bin/env bash
# Holds the process that serves to its own OpenAPI document: requests made from it, and of what it does not allow, the same ones each time. It needs Python 3.10 or newer with venv.
#
#   schemathesis.sh PROGRAM [OPTION…]    PROGRAM: a built dynamic-cep; further options go to `st run`
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
program=$(realpath "${1:?a built dynamic-cep}")
shift
root=$here/../..
venv=${DYNAMIC_CEP_SCHEMATHESIS:-$root/target/services/schemathesis}

if [ ! -x "$venv/bin/st" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q schemathesis==4.32.5
fi

dir=$(mktemp -d)
serving=
end() {
    [ -z "$serving" ] || kill "$serving" 2>/dev/null || true
    rm -rf "$dir"
}
trap end EXIT

# Requests that take turns at one key are many.
DYNAMIC_CEP_DATA_DIR=$dir/data DYNAMIC_CEP_HTTP_LISTEN=127.0.0.1:0 DYNAMIC_CEP_LIMITS_REQUESTS_PER_SECOND=0 "$program" serve 2>"$dir/log" &
serving=$!
for _ in $(seq 100); do
    if grep -q 'the first key' "$dir/log"; then break; fi
    kill -0 "$serving" 2>/dev/null || { cat "$dir/log" >&2; exit 1; }
    sleep 0.1
done
url=$(sed -n 's/^listening on //p' "$dir/log")
key=$(sed -n 's/^the first key.* //p' "$dir/log")

# With rules in service events are judged, not only refused.
mkdir "$dir/pack"
printf 'fields: {id: int64, tenant: utf8, card: utf8, amount: float64, at: timestamp(ms)}\nid: id\ntenant: tenant\ntime: at\nsensitive: [card]\n' >"$dir/pack/schema.yaml"
printf 'rules:\n- {id: large, when: amount > 10, score: 5, action: review}\n' >"$dir/pack/rules.yaml"
for tenant in all acme; do
    "$program" push "$dir/pack" --url "$url" --key "$key" --tenant "$tenant" --activate >/dev/null
done

# Whatever the document allows, and then what there is.
touch "$dir/any.toml"
printf '[parameters]\ntenant = "acme"\nrule_set = "main"\nversion = 1\n' >"$dir/known.toml"

cd "$dir"
failed=0
for parameters in any known; do
    timeout 120 "$venv/bin/st" --config-file "$dir/$parameters.toml" run "$url/v1/openapi.json" --header "Authorization: Bearer $key" \
        --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
        --max-examples 40 --generation-deterministic --warnings off --request-timeout 20 "$@" || failed=$?
done
kill -0 "$serving" 2>/dev/null || { echo "schemathesis.sh: the process has ended:" >&2; failed=1; }
if [ "$failed" != 0 ]; then tail -20 "$dir/log" >&2; fi
exit "$failed"
