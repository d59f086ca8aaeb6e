import type { ClusterEnvironment } from '../../../internal/local/kubernetes/launch.js';
import type { RunningServer, ServerName } from '../../../internal/local/servers/server.js';
import { type Place, type Source, serverKinds } from '../../../internal/local/servers/servers.js';
import {
  addressVariables,
  type Service,
  type ServiceAddresses,
  type ServiceName,
  type SupervisedService,
} from '../../../internal/local/services.js';

export const SERVERS = ['postgres', 'redis', 'rabbitmq'] as const satisfies ServerName[];
export const SERVICES = ['product', 'resource'] as const satisfies ServiceName[];
/** For `--inspect`. Far enough apart for the workers of product, which take the ports after its own. */
export const INSPECTOR_PORTS: Record<ServiceName, number> = { product: 9229, resource: 9249 };

export interface UpOptions {
  readonly watch?: true;
  readonly inspect?: true;
  readonly servers?: Place;
  /** Instances are workloads of a cluster on this machine. */
  readonly kubernetes?: true;
  /** Engines as clusters, and several replicas of product and resource. */
  readonly cluster?: true;
  /** Folder of the configuration files. */
  readonly conf?: string;
}

/** What runs. */
export interface Started {
  servers: Map<ServerName, RunningServer>;
  /** By their labels. */
  services: Map<string, Service>;
  supervised: Map<string, SupervisedService>;
}

/** What the steps of the start leave for later ones. */
export interface Context extends Started {
  kubernetes?: ClusterEnvironment;
  sources: Map<ServerName, Source>;
  /** Where callers find the services. */
  addresses: Map<ServiceName, ServiceAddresses>;
  /** URLs of PostgreSQL for services that log in as themselves. */
  logins: ReadonlyMap<ServiceName, string>;
}

export function urlOf(ctx: Started, name: ServerName): string {
  const server = ctx.servers.get(name);
  if (!server) throw new Error(`${serverKinds[name].title} is not running`);
  return server.url;
}

export function variables(ctx: Context): Record<string, string> {
  const result: Record<string, string> = {};
  for (const server of ctx.servers.values()) {
    result[serverKinds[server.name].urlVariable] = server.url;
    Object.assign(result, server.extras);
  }
  for (const [name, addresses] of ctx.addresses) Object.assign(result, addressVariables(name, addresses));
  return { ...result, ...ctx.kubernetes?.variables };
}
