#!/bin/sh
# Starts RabbitMQ with the account kaimai, which is created on an empty data directory. As an Erlang term, because # in a value of
# rabbitmq.conf begins a comment.
set -eu
umask 077
password=$(sed 's/[\\"]/\\&/g' /run/secrets/rabbitmq_password)
cat >/etc/rabbitmq/advanced.config <<EOC
[{rabbit, [{default_user, <<"kaimai">>}, {default_pass, <<"$password">>}]}].
EOC
chown rabbitmq /etc/rabbitmq/advanced.config
# The nodes of a cluster share a cookie, which is made from the password because it opens as much.
if [ -n "${RABBITMQ_CLUSTER_NODES:-}" ]; then
  cookie=/var/lib/rabbitmq/.erlang.cookie
  sha256sum </run/secrets/rabbitmq_password | cut -c1-64 | tr -d '\n' >"$cookie.new"
  chown rabbitmq "$cookie.new"
  chmod 400 "$cookie.new"
  mv "$cookie.new" "$cookie"
  conf=/etc/rabbitmq/conf.d/20-cluster.conf
  echo 'cluster_formation.peer_discovery_backend = classic_config' >"$conf"
  echo 'cluster_partition_handling = pause_minority' >>"$conf"
  number=0
  for node in $RABBITMQ_CLUSTER_NODES; do
    number=$((number + 1))
    echo "cluster_formation.classic_config.nodes.$number = rabbit@$node" >>"$conf"
  done
  chown rabbitmq "$conf"
fi
exec docker-entrypoint.sh rabbitmq-server
