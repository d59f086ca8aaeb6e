import { TcpBalancer } from '../../../internal/local/balancer.js';
import type { Launch } from '../../../internal/local/launch.js';
import { nextFreePort } from '../../../internal/local/servers/ports.js';
import { pickAddresses, type ServiceAddresses, type ServiceName } from '../../../internal/local/services.js';
import { type Context, SERVICES } from './context.js';

const CLUSTERED_REPLICAS = 2;

/** One process to start. */
export interface Replica {
  readonly service: ServiceName;
  /** `product`, or `product-1` where there are several. */
  readonly label: string;
  readonly addresses: ServiceAddresses;
}

/**
 * Picks all addresses, before any process starts: the services call each other. Several replicas of a service are behind
 * balancers at its usual addresses.
 */
export async function placeReplicas(ctx: Context, launch: Launch, clustered: boolean): Promise<readonly Replica[]> {
  for (const service of SERVICES) ctx.addresses.set(service, await pickAddresses(service, nextFreePort));
  const replicas: Replica[] = [];
  for (const [service, entry] of ctx.addresses) {
    if (!clustered) {
      replicas.push({ service, label: service, addresses: entry });
      continue;
    }
    const own: Replica[] = [];
    for (let i = 1; i <= CLUSTERED_REPLICAS; i++) {
      own.push({ service, label: `${service}-${i}`, addresses: await pickAddresses(service, nextFreePort) });
    }
    for (const transport of ['http', 'grpc'] as const) {
      const targets = own.map(({ addresses }) => addresses[transport]);
      const balancer = await TcpBalancer.start(() => targets, Number(entry[transport].split(':')[1]));
      launch.atEnd(() => balancer.close());
    }
    // There is no balancer for operators: each replica has metrics of its own.
    ctx.addresses.set(service, { ...entry, metrics: own[0]!.addresses.metrics });
    replicas.push(...own);
  }
  return replicas;
}
