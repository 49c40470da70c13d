#!/bin/sh
# Formats the broker's storage where that was not done yet, and runs it.
#
#   broker.sh PROPERTIES
set -eu
/opt/kafka/bin/kafka-storage.sh format --ignore-formatted --cluster-id "$CLUSTER_ID" --config "$1"
exec /opt/kafka/bin/kafka-server-start.sh "$1"
