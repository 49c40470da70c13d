#!/bin/sh
# Waits until the agent tells how it is, at most SECONDS, and prints that as one line of JSON; or the state of its unit.
#
#   first-health.sh SECONDS
set -eu
config=${HEADWATER_PREFIX-}/etc/headwater/edge.yaml
if [ ! -f "$config" ]; then
    echo '{"state": "unconfigured"}'
    exit 0
fi
left=${1:?how many seconds?}
while :; do
    # 1 says that something is wrong with it: that too is an answer.
    answer=$(headwater-edge status --json "$config" 2>/dev/null) || :
    case $answer in
    '{'*) break ;;
    esac
    [ "$left" -gt 0 ] || break
    left=$((left - 1))
    sleep 1
done
case $answer in
'{'*) printf '%s' "$answer" | tr -d '\n' ;;
*) printf '{"state": "%s"}' "$(systemctl is-active headwater-edge.service || :)" ;;
esac
echo
