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
exec docker-entrypoint.sh rabbitmq-server
