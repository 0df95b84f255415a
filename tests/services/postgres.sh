#!/usr/bin/env bash
# A PostgreSQL of its own on loopback, for tests. It installs Debian's package where there is none.
#
#   postgres.sh start DIR    starts it with its data in DIR, goes on with what is there, and prints its URL
#   postgres.sh stop DIR     ends it; "kill" instead of "stop" gives it no time
set -euo pipefail
what=${1:?start, stop or kill}
dir=${2:?a folder}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

programs() { compgen -G '/usr/lib/postgresql/*/bin/initdb' | sort -V | tail -n 1 | xargs -r dirname; }

bin=$(programs)
if [ -z "$bin" ]; then
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null
    bin=$(programs)
fi

# PostgreSQL refuses to run as root.
as_user() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }

if [ "$what" != start ]; then
    [ -f "$dir/data/postmaster.pid" ] || exit 0
    mode=fast
    [ "$what" = stop ] || mode=immediate
    (cd / && as_user "$bin/pg_ctl" -D "$dir/data" -m "$mode" -w stop >/dev/null)
    exit 0
fi

free_port() {
    while :; do
        local port=$((20000 + RANDOM % 10000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then echo "$port"; return; fi
    done
}

if [ ! -f "$dir/data/PG_VERSION" ]; then
    mkdir -p "$dir/data"
    [ "$(id -u)" != 0 ] || chown postgres "$dir" "$dir/data"
    (cd / && as_user "$bin/initdb" -D "$dir/data" -U postgres --auth=trust --encoding=UTF8 --no-sync >/dev/null)
    free_port >"$dir/port"
fi
port=$(cat "$dir/port")
settings="-c listen_addresses=127.0.0.1 -c port=$port -c unix_socket_directories= -c fsync=off"
if ! (cd / && as_user "$bin/pg_ctl" -D "$dir/data" -l "$dir/data/server.log" -o "$settings" -w start >/dev/null); then
    echo "postgres.sh: the server did not start; see $dir/data/server.log" >&2
    exit 1
fi
echo "postgres://postgres@127.0.0.1:$port/postgres"
