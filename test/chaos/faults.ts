import { setTimeout as sleep } from 'node:timers/promises';
import type { Random } from '../simulation/random.js';
import { OwnRedis } from '../support/own-redis.js';
import { manage } from '../support/rabbitmq-management.js';
import { eventually } from '../support/wait.js';
import type { Replica, ServerName, Stage } from './stage.js';

/** Carried out while buyers buy. Resolves with what ends it; a fault that ends by itself has nothing to end. */
export interface Fault {
  readonly name: string;
  /** What it harms: two faults at once harm different things. */
  readonly harms: readonly string[];
  /** Whether purchases that were told QUEUED may be lost or rejected: Redis lost data, and QUEUED is provisional. */
  readonly losesPurchases?: true;
  /** Whether this machine lets it happen; undefined: each machine does. */
  readonly isPossible?: (stage: Stage) => boolean;
  readonly begin: (stage: Stage, random: Random) => Promise<() => Promise<void>>;
}

const QUEUE = 'resource.instance.created';
/** How far a clock is off: more than a pay timeout, less than a purchase token's window of ten minutes. */
const CLOCK_MS = 7 * 60_000;
const TRUNCATED_BYTES = 4_096;
/** How much older than the fault the copy is that Redis comes back with. */
const STALE_MS = 700;

const product = (stage: Stage, random: Random): Replica => random.pick(stage.products);
const resource = (stage: Stage, random: Random): Replica => random.pick(stage.resources);
type PickReplica = typeof product;

const nothing = async (): Promise<void> => {};

function killed(name: string, pick: PickReplica): Fault {
  return {
    name: `${name} killed`,
    harms: [name],
    begin: async (stage, random) => {
      const replica = pick(stage, random);
      await replica.kill();
      return () => replica.start();
    },
  };
}

function paused(name: string, pick: PickReplica): Fault {
  return {
    name: `${name} paused`,
    harms: [name],
    begin: async (stage, random) => {
      const replica = pick(stage, random);
      replica.pause();
      return async () => replica.resume();
    },
  };
}

function cutOff(name: string, pick: PickReplica, from: readonly ServerName[]): Fault {
  return {
    name: `${name} cut off from ${from.join(', ')}`,
    harms: [name],
    begin: async (stage, random) => {
      const { network } = pick(stage, random);
      for (const server of from) network[server].partition();
      return async () => {
        for (const server of from) network[server].heal();
      };
    },
  };
}

function clockOff(name: string, pick: PickReplica): Fault {
  return {
    name: `${name} with a clock that is off`,
    harms: [name],
    begin: async (stage, random) => {
      const replica = pick(stage, random);
      await replica.it.stop();
      await replica.start(random.chance(0.5) ? CLOCK_MS : -CLOCK_MS);
      return async () => {
        await replica.it.stop();
        await replica.start();
      };
    },
  };
}

export const FAULTS: readonly Fault[] = [
  killed('product', product),
  killed('resource', resource),
  paused('product', product),
  paused('resource', resource),
  cutOff('product', product, ['redis']),
  cutOff('product', product, ['postgres']),
  cutOff('product', product, ['postgres', 'redis', 'rabbitmq']),
  cutOff('resource', resource, ['rabbitmq']),
  cutOff('resource', resource, ['postgres', 'rabbitmq']),
  clockOff('product', product),
  clockOff('resource', resource),
  {
    name: 'connections reset',
    harms: ['connections'],
    begin: async (stage) => {
      for (const { network } of stage.replicas) for (const proxy of Object.values(network)) proxy.reset();
      return nothing;
    },
  },
  {
    name: 'PostgreSQL killed',
    harms: ['postgres'],
    begin: async (stage) => {
      await stage.postgres.kill();
      return () => stage.postgres.restart();
    },
  },
  {
    name: 'PostgreSQL paused',
    harms: ['postgres'],
    begin: async (stage) => {
      stage.postgres.pause();
      return async () => stage.postgres.resume();
    },
  },
  {
    name: 'Redis killed',
    harms: ['redis'],
    begin: async (stage) => {
      await stage.redis.kill();
      return () => stage.redis.restart();
    },
  },
  {
    name: 'Redis paused',
    harms: ['redis'],
    begin: async (stage) => {
      process.kill(stage.redis.pid, 'SIGSTOP');
      return async () => void process.kill(stage.redis.pid, 'SIGCONT');
    },
  },
  {
    name: 'FLUSHALL',
    harms: ['redis'],
    losesPurchases: true,
    begin: async (stage) => {
      await stage.redis.client.flushall();
      return nothing;
    },
  },
  {
    name: 'Redis back with older data',
    harms: ['redis'],
    losesPurchases: true,
    begin: async (stage) => {
      const copy = stage.redis.copy();
      await sleep(STALE_MS);
      await stage.redis.kill();
      return async () => {
        stage.redis.putBack(copy);
        await stage.redis.restart();
      };
    },
  },
  {
    name: 'Redis with a truncated append-only file',
    harms: ['redis'],
    losesPurchases: true,
    begin: async (stage, random) => {
      await stage.redis.kill();
      stage.redis.truncate(1 + random.int(TRUNCATED_BYTES));
      return () => stage.redis.restart();
    },
  },
  {
    name: 'Redis demoted, connections kept',
    harms: ['redis'],
    losesPurchases: true,
    begin: async (stage) => {
      const replica = await OwnRedis.start();
      await replica.follow(stage.redis);
      await stage.redis.client.replicaof('127.0.0.1', new URL(replica.url).port);
      return async () => {
        // Promoted again without what its successor may have missed: replication is asynchronous.
        await replica.client.replicaof('NO', 'ONE');
        await stage.redis.client.replicaof('NO', 'ONE');
        await replica.close();
      };
    },
  },
  {
    name: 'Redis without memory',
    harms: ['redis'],
    begin: async (stage) => {
      await stage.redis.client.config('SET', 'maxmemory', '1');
      return async () => void (await stage.redis.client.config('SET', 'maxmemory', '0'));
    },
  },
  {
    name: 'Redis with a full disk',
    harms: ['redis'],
    // What it could not write, it did not acknowledge.
    isPossible: (stage) => stage.redis.disk !== undefined,
    begin: async (stage) => {
      stage.redis.disk!.fill();
      return async () => {
        stage.redis.disk!.free();
        await stage.redis.restartIfEnded();
      };
    },
  },
  {
    name: 'PostgreSQL with a full disk',
    harms: ['postgres'],
    isPossible: (stage) => stage.postgres.disk !== undefined,
    begin: async (stage) => {
      stage.postgres.disk!.fill();
      return async () => {
        stage.postgres.disk!.free();
        await stage.postgres.restartIfEnded();
      };
    },
  },
  {
    name: 'RabbitMQ killed',
    harms: ['rabbitmq'],
    begin: async (stage) => {
      stage.rabbitmq.kill();
      return () => stage.rabbitmq.start();
    },
  },
  {
    name: 'RabbitMQ paused',
    harms: ['rabbitmq'],
    begin: async (stage) => {
      process.kill(stage.rabbitmq.pid, 'SIGSTOP');
      return async () => void process.kill(stage.rabbitmq.pid, 'SIGCONT');
    },
  },
  {
    name: 'queue purged',
    // Messages come of purchases: a fault that stops those leaves nothing in the queue to lose.
    harms: ['queue', 'redis', 'postgres', 'rabbitmq'],
    begin: async (stage) => {
      // A resource that consumes leaves nothing in the queue to lose.
      for (const { network } of stage.resources) network.rabbitmq.partition();
      return async () => {
        await eventually('messages wait in the queue', async () => {
          const queue = (await manage(stage.rabbitmq.managementUrl, 'GET', `queues/%2F/${QUEUE}`)) as {
            messages?: number;
          };
          return (queue.messages ?? 0) > 0;
        });
        await manage(stage.rabbitmq.managementUrl, 'DELETE', `queues/%2F/${QUEUE}/contents`);
        for (const { network } of stage.resources) network.rabbitmq.heal();
      };
    },
  },
  {
    name: 'queue deleted',
    harms: ['queue'],
    begin: async (stage) => {
      await manage(stage.rabbitmq.managementUrl, 'DELETE', `queues/%2F/${QUEUE}`);
      return nothing;
    },
  },
];

/** Two faults that harm different things, begun together. */
export function both(a: Fault, b: Fault): Fault {
  return {
    name: `${a.name} + ${b.name}`,
    harms: [...a.harms, ...b.harms],
    ...((a.losesPurchases ?? b.losesPurchases) && { losesPurchases: true }),
    isPossible: (stage) => [a, b].every((fault) => fault.isPossible?.(stage) !== false),
    begin: async (stage, random) => {
      const ends = await Promise.all([a.begin(stage, random), b.begin(stage, random)]);
      return async () => void (await Promise.all(ends.map((end) => end())));
    },
  };
}

/** Whether both can be begun at once. */
export function compatible(a: Fault, b: Fault): boolean {
  return !a.harms.some((harmed) => b.harms.includes(harmed));
}
