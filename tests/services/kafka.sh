#!/usr/bin/env bash
# One broker of Apache Kafka in KRaft mode on loopback, for tests and benches. It needs Java 17 and Maven.
#
#   kafka.sh start DIR    starts it with its data in DIR, goes on with what is there, and prints its address
#   kafka.sh stop DIR     ends it; "kill" instead of "stop" gives it no time
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
what=${1:?start, stop or kill}
dir=${2:?a folder}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
jars=${DYNAMIC_CEP_KAFKA_JARS:-$here/../../target/services/kafka}

if [ "$what" != start ]; then
    [ -f "$dir/pid" ] || exit 0
    pid=$(cat "$dir/pid")
    if [ "$what" = kill ]; then kill -9 "$pid" 2>/dev/null || true; else kill "$pid" 2>/dev/null || true; fi
    while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
    rm -f "$dir/pid"
    exit 0
fi

if ! compgen -G "$jars/kafka_2.13-*.jar" >/dev/null; then
    command -v mvn >/dev/null || { echo "kafka.sh: Maven is missing (Debian: maven openjdk-17-jre-headless)" >&2; exit 1; }
    mvn -q -B -f "$here/kafka-pom.xml" dependency:copy-dependencies -DoutputDirectory="$(realpath -m "$jars")" -DincludeScope=runtime >&2
fi

free_port() {
    while :; do
        local port=$((20000 + RANDOM % 10000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then echo "$port"; return; fi
    done
}

if [ ! -f "$dir/server.properties" ]; then
    port=$(free_port)
    controller=$(free_port)
    cat >"$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$dir/log
num.partitions=4
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
PROPERTIES
    java -cp "$jars/*" kafka.tools.StorageTool format -t MkU3OEVBNTcwNTJENDM2Qg -c "$dir/server.properties" >"$dir/server.log" 2>&1
fi
: >"$dir/server.log"
nohup java -Xms256m -Xmx512m -cp "$jars/*" kafka.Kafka "$dir/server.properties" >"$dir/server.log" 2>&1 </dev/null &
pid=$!
echo "$pid" >"$dir/pid"
for _ in $(seq 600); do
    if grep -q 'Kafka Server started' "$dir/server.log"; then
        sed -n 's#^advertised.listeners=PLAINTEXT://##p' "$dir/server.properties"
        exit 0
    fi
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
done
echo "kafka.sh: the broker did not start; see $dir/server.log" >&2
exit 1
