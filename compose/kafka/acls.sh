#!/bin/sh
# Who may do what in Kafka: the bridge makes the topics and writes to them, the stream reads, and sends dead letters again.
#
#   acls.sh BOOTSTRAP_SERVERS
set -eu
acls() {
    /opt/kafka/bin/kafka-acls.sh --bootstrap-server "$1" --command-config /etc/headwater/client.properties --add \
        --allow-principal "User:$2" --topic headwater. --resource-pattern-type prefixed $3
}
acls "$1" bridge "--operation Create --operation Write --operation Describe --operation DescribeConfigs"
acls "$1" stream "--operation Read --operation Write --operation Describe"
