/** One process of a service, as others find it: Kratos' `registry.ServiceInstance`, in JSON. */
export interface ServiceInstance {
  /** Unique to each start of a process. */
  readonly id: string;
  /** The name that callers look up, such as `kaimai.product`. */
  readonly name: string;
  readonly version: string;
  /** `weight`: share of the calls, relative to the weights of the other instances. */
  readonly metadata: Readonly<Record<string, string>>;
  /** `grpc://host:port` and `http://host:port`, with TLS `grpcs://` and `https://`, as callers reach them. */
  readonly endpoints: readonly string[];
}

/** Where the instances of services find each other. Its failure neither stops nor slows a service. */
export abstract class ServiceRegistry {
  /**
   * Lists this process and keeps it listed until `deregister`. Resolves without waiting for the registry, which is
   * retried in the background if it does not answer.
   */
  abstract register(instance: ServiceInstance): Promise<void>;
  /** Removes the entry. Resolves once callers can see that, or after a bounded wait if the registry does not answer. */
  abstract deregister(): Promise<void>;
}

/** For a single machine, or a platform that has service discovery of its own. */
export class NoServiceRegistry extends ServiceRegistry {
  override async register(): Promise<void> {}
  override async deregister(): Promise<void> {}
}

export function formatInstance(instance: ServiceInstance): string {
  const { id, name, version, metadata, endpoints } = instance;
  return JSON.stringify({ id, name, version, metadata, endpoints });
}

/**
 * An entry of a registry, read strictly enough that a foreign one cannot break a client; undefined if it is invalid.
 */
export function parseInstance(text: string): ServiceInstance | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { id, name, version = '', metadata, endpoints } = value as Record<string, unknown>;
  if (typeof id !== 'string' || typeof name !== 'string' || typeof version !== 'string') return undefined;
  if (!Array.isArray(endpoints)) return undefined;
  const pairs = typeof metadata === 'object' && metadata !== null ? Object.entries(metadata) : [];
  return {
    id,
    name,
    version,
    metadata: Object.fromEntries(pairs.filter((pair): pair is [string, string] => typeof pair[1] === 'string')),
    endpoints: endpoints.filter((e): e is string => typeof e === 'string'),
  };
}

const DEFAULT_WEIGHT = 100;
const MAX_WEIGHT = 10_000;

/** The share of the calls of an instance; 100 if its metadata has no valid weight. */
export function weightOf(instance: ServiceInstance): number {
  const weight = Number(instance.metadata.weight);
  return Number.isInteger(weight) && weight > 0 ? Math.min(weight, MAX_WEIGHT) : DEFAULT_WEIGHT;
}
