import type { Cluster, Command, Redis } from 'ioredis';
import type { Metrics } from '../../kratos/metrics/metrics.js';

/** What a connection is for. */
export type RedisUse = 'commands' | 'admission' | 'blocking';

/** `away`: Redis does not answer or can do nothing now; `unreadable`: a key holds something else than it should. */
const ERRORS = ['away', 'unreadable', 'other'] as const;
export type RedisErrorKind = (typeof ERRORS)[number];

/**
 * Counts the failed commands of a connection and the connections that were lost, and times its commands. A command of
 * the connection that waits at the server has no time: how long it waits says nothing of Redis.
 * @param kindOf undefined for errors that are no failures
 */
export function meterCommands(
  connection: Redis | Cluster,
  use: RedisUse,
  metrics: Metrics,
  kindOf: (err: unknown) => RedisErrorKind | undefined,
): void {
  const errors = metrics.counts(
    'redis_errors_total',
    'Commands that failed: away (no answer, or a server that takes no writes), unreadable (a key holds something else), other.',
    'kind',
    ERRORS,
    { connection: use },
  );
  const losses = metrics.count('redis_connection_losses_total', 'Connections to Redis that were lost.', {
    connection: use,
  });
  const times =
    use === 'blocking'
      ? undefined
      : metrics.times('redis_command_seconds', 'Time from sending a command to its reply, by connection.', {
          connection: use,
        });
  let ready = false;
  connection.on('ready', () => {
    ready = true;
  });
  connection.on('close', () => {
    if (ready) losses.add();
    ready = false;
  });
  const send = connection.sendCommand.bind(connection);
  connection.sendCommand = (command: Command, ...rest: []) => {
    const startedAt = performance.now();
    command.promise.then(
      () => times?.add((performance.now() - startedAt) / 1000),
      (err: unknown) => {
        times?.add((performance.now() - startedAt) / 1000);
        const kind = kindOf(err);
        if (kind !== undefined) errors[kind].add();
      },
    );
    return send(command, ...rest);
  };
}
