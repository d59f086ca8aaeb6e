#!/bin/sh
# Starts Redis with its password in a file: every user of a machine can read the arguments of a process.
set -eu
umask 077
password=$(sed 's/[\\"]/\\&/g' /run/secrets/redis_password)
# The second is for a replica, which logs in to its master.
printf 'requirepass "%s"\nmasterauth "%s"\n' "$password" "$password" >/tmp/redis.conf
chown redis /tmp/redis.conf
exec docker-entrypoint.sh redis-server /tmp/redis.conf "$@"
