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
# How long an answer may take, and be: whoever answers is the agent, which may hang, or mean no good.
answer_s=30 answer_bytes=262144
while :; do
    # 1 says that something is wrong with it: that too is an answer.
    answer=$(setsid --wait timeout "$answer_s" headwater-edge status --json "$config" </dev/null 2>/dev/null |
        head -c "$answer_bytes" | tr -d '\0\n')
    case $answer in
    '{'*) break ;;
    esac
    [ "$left" -gt 0 ] || break
    left=$((left - 1))
    sleep 1
done
case $answer in
'{'*) printf '%s' "$answer" ;;
*) printf '{"state": "%s"}' "$(systemctl is-active headwater-edge.service || :)" ;;
esac
echo
