#!/bin/sh
# As Kafka's own script of this name, behind the folder of jars: heap and log settings come from the environment.
jars=$1
shift
# shellcheck disable=SC2086  # each may be several words
exec java ${KAFKA_HEAP_OPTS:--Xmx256m} ${KAFKA_LOG4J_OPTS:-} -cp "/opt/kafka/$jars/*" "$@"
