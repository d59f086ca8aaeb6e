import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { projectRoot } from '../../internal/local/project.js';
import type { ServiceName } from '../../internal/local/services.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { KillableRabbitmq } from '../support/killable-rabbitmq.js';
import { OwnPostgres } from '../support/own-postgres.js';
import { OwnRedis } from '../support/own-redis.js';
import { type TestProcess, TestProcesses } from '../support/processes.js';

const SERVERS = ['postgres', 'redis', 'rabbitmq'] as const;
export type ServerName = (typeof SERVERS)[number];

export type ReplicaName = 'product-1' | 'product-2' | 'resource-1' | 'resource-2';

/** A process that may be killed, paused, cut off, and started again with another clock. */
export class Replica {
  private process: TestProcess | undefined;

  constructor(
    readonly name: ReplicaName,
    /** Between it and the servers: a network of its own, which can be cut. */
    readonly network: Readonly<Record<ServerName, FaultProxy>>,
    private readonly startProcess: (clockOffsetMs: number, again: TestProcess | undefined) => Promise<TestProcess>,
  ) {}

  /** The addresses stay the same over restarts. */
  get it(): TestProcess {
    if (!this.process) throw new Error(`${this.name} was never started`);
    return this.process;
  }

  async start(clockOffsetMs = 0): Promise<void> {
    this.process = await this.startProcess(clockOffsetMs, this.process);
  }

  kill(): Promise<void> {
    return this.it.kill();
  }

  pause(): void {
    process.kill(this.it.pid, 'SIGSTOP');
  }

  resume(): void {
    process.kill(this.it.pid, 'SIGCONT');
  }
}

/** A system of its own: two products, two resources and their servers. */
export class Stage {
  private constructor(
    readonly postgres: OwnPostgres,
    readonly redis: OwnRedis,
    readonly rabbitmq: KillableRabbitmq,
    readonly products: readonly [Replica, Replica],
    readonly resources: readonly [Replica, Replica],
    private readonly processes: TestProcesses,
  ) {}

  /** Whether this machine has the programs: servers that run elsewhere are not ours to kill. */
  static get available(): boolean {
    return OwnPostgres.available && OwnRedis.available && KillableRabbitmq.available;
  }

  static async open(): Promise<Stage> {
    const rabbitmq = new KillableRabbitmq();
    const [postgres, redis] = await Promise.all([
      OwnPostgres.start({ limitedDisk: true }),
      OwnRedis.start({ limitedDisk: true }),
      rabbitmq.start(),
    ]);
    const urls = { postgres: postgres.url, redis: redis.url, rabbitmq: rabbitmq.url };
    const processes = new TestProcesses();
    const replica = async (name: ReplicaName, env: Record<string, string> = {}): Promise<Replica> => {
      const network = {
        postgres: await FaultProxy.open(urls.postgres),
        redis: await FaultProxy.open(urls.redis),
        rabbitmq: await FaultProxy.open(urls.rabbitmq),
      };
      const service = name.split('-')[0] as ServiceName;
      const made = new Replica(name, network, (clockOffsetMs, before) =>
        processes.start(service, {
          env: {
            KAIMAI_POSTGRES_URL: network.postgres.url(urls.postgres),
            KAIMAI_REDIS_URL: network.redis.url(urls.redis),
            KAIMAI_RABBITMQ_URL: network.rabbitmq.url(urls.rabbitmq),
            KAIMAI_LOG_LEVEL: 'warn',
            ...env,
            ...(clockOffsetMs !== 0 && clockEnvironment(clockOffsetMs)),
          },
          config: { server: { replica: name }, ...(service === 'product' && PRODUCT_CONFIG) },
          ...(before && { addresses: { http: before.http, grpc: before.grpc, metrics: before.metrics } }),
          timeoutMs: START_TIMEOUT_MS,
        }),
      );
      await made.start();
      return made;
    };
    const products = await Promise.all([replica('product-1'), replica('product-2')]);
    const resources = await Promise.all([
      replica('resource-1', products[0].it.env()),
      replica('resource-2', products[1].it.env()),
    ]);
    return new Stage(postgres, redis, rabbitmq, products, resources, processes);
  }

  get replicas(): readonly Replica[] {
    return [...this.products, ...this.resources];
  }

  replica(name: ReplicaName): Replica {
    return this.replicas.find((r) => r.name === name)!;
  }

  /** The ends of the processes' logs. */
  logs(lines: number): string {
    return this.replicas
      .map((r) => `--- ${r.name}\n${r.it.log().trimEnd().split('\n').slice(-lines).join('\n')}`)
      .join('\n');
  }

  /** Stops the processes; the servers stay. */
  stopProcesses(): Promise<void> {
    return this.processes.end();
  }

  async close(): Promise<void> {
    await this.processes.end();
    for (const { network } of this.replicas) await Promise.all(SERVERS.map((s) => network[s].close()));
    await Promise.all([this.postgres.close(), this.redis.close(), this.rabbitmq.close()]);
  }
}

const START_TIMEOUT_MS = 60_000;
/** By default lost messages are sent again after two minutes, and a round waits less than that. */
const PRODUCT_CONFIG = { seckill: { user_rate: { per_second: 0, burst: 1 } }, outbox: { resend_after: '5s' } };

/** There is no faketime everywhere; a module that is loaded first moves the clock of a Node process. */
function clockEnvironment(offsetMs: number): Record<string, string> {
  const shift = pathToFileURL(join(projectRoot, 'dist/test/chaos/testdata/clock.js')).href;
  return {
    NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ''} --import=${shift}`,
    KAIMAI_TEST_CLOCK_MS: String(offsetMs),
  };
}
