#!/bin/sh
# Makes one cluster of the nodes that are given as arguments (address:port), half of them replicas. Does nothing if it is there.
set -eu
REDISCLI_AUTH=$(cat /run/secrets/redis_password)
export REDISCLI_AUTH
first=$1
if redis-cli -h "${first%:*}" -p "${first#*:}" cluster info | grep -q '^cluster_state:ok'; then exit 0; fi
exec redis-cli --cluster create "$@" --cluster-replicas 1 --cluster-yes
