#!/bin/sh
# Makes one cluster of the nodes that are given as arguments (address:port), half of them replicas. Where it is made already, it only
# waits until that serves: nodes that start together need some seconds.
set -eu
REDISCLI_AUTH=$(cat /run/secrets/redis_password)
export REDISCLI_AUTH
info() { redis-cli -h "${1%:*}" -p "${1#*:}" cluster info | tr -d '\r'; }
if info "$1" | grep -qx 'cluster_known_nodes:1'; then exec redis-cli --cluster create "$@" --cluster-replicas 1 --cluster-yes; fi
tries=60
until info "$1" | grep -qx 'cluster_state:ok'; do
  tries=$((tries - 1))
  if [ "$tries" -eq 0 ]; then
    info "$1" >&2
    exit 1
  fi
  sleep 1
done
