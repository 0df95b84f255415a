#!/usr/bin/env bash
# An object store that speaks S3 on loopback, for tests: moto's server, which keeps everything in memory. It needs Python 3.10 or newer with venv.
#
#   s3.sh start DIR    starts it, makes the bucket `dynamic-cep`, and prints its URL
#   s3.sh stop DIR     ends it, and what it kept is gone; "kill" instead of "stop" gives it no time
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
what=${1:?start, stop or kill}
dir=${2:?a folder}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
venv=${DYNAMIC_CEP_MOTO:-$here/../../target/services/moto}

if [ "$what" != start ]; then
    [ -f "$dir/pid" ] || exit 0
    pid=$(cat "$dir/pid")
    if [ "$what" = kill ]; then kill -9 "$pid" 2>/dev/null || true; else kill "$pid" 2>/dev/null || true; fi
    while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
    rm -f "$dir/pid"
    exit 0
fi

if [ ! -x "$venv/bin/moto_server" ]; then
    python3 -m venv "$venv" >&2
    "$venv/bin/pip" install -q 'moto[server]==5.2.5' >&2
fi

free_port() {
    while :; do
        local port=$((20000 + RANDOM % 10000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then echo "$port"; return; fi
    done
}

[ -f "$dir/port" ] || free_port >"$dir/port"
url=http://127.0.0.1:$(cat "$dir/port")
nohup "$venv/bin/moto_server" -H 127.0.0.1 -p "$(cat "$dir/port")" >"$dir/server.log" 2>&1 </dev/null &
pid=$!
echo "$pid" >"$dir/pid"
for _ in $(seq 300); do
    if "$venv/bin/python" -c 'import sys, urllib.request as r; r.urlopen(r.Request(sys.argv[1], method="PUT"), timeout=5)' "$url/dynamic-cep" 2>/dev/null; then
        echo "$url"
        exit 0
    fi
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
done
echo "s3.sh: the object store did not start; see $dir/server.log" >&2
exit 1
