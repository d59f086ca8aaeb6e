/** One process of a service, as others find it: Kratos' `registry.ServiceInstance`, in JSON. */
export interface ServiceInstance {
  /** Different for every start of a process. */
  readonly id: string;
  /** What callers ask for, such as `kaimai.product`. */
  readonly name: string;
  readonly version: string;
  /** `weight`: its share of the calls, against the weights of the others. */
  readonly metadata: Readonly<Record<string, string>>;
  /** `grpc://host:port` and `http://host:port`, as they are reached from elsewhere. */
  readonly endpoints: readonly string[];
}

/** Where instances are told to each other. A registry that is down stops and slows nobody. */
export abstract class Registry {
  /**
   * Lists this process and keeps it listed until `deregister`. Resolves at once or soon: a registry that does not answer
   * is tried again in the background.
   */
  abstract register(instance: ServiceInstance): Promise<void>;
  /** Takes the entry off. Resolves when callers can know, or after a bounded wait where the registry is away. */
  abstract deregister(): Promise<void>;
}

/** Knows of no others: one machine, or a platform that finds services by itself. */
export class NoRegistry extends Registry {
  override async register(): Promise<void> {}
  override async deregister(): Promise<void> {}
}

export function formatInstance(instance: ServiceInstance): string {
  const { id, name, version, metadata, endpoints } = instance;
  return JSON.stringify({ id, name, version, metadata, endpoints });
}

/** What a registry holds, read strictly enough that others' entries cannot break a client; undefined where it is none. */
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

/** Its share of the calls; 100 where it names none that counts. */
export function weightOf(instance: ServiceInstance): number {
  const weight = Number(instance.metadata.weight);
  return Number.isInteger(weight) && weight > 0 ? Math.min(weight, MAX_WEIGHT) : DEFAULT_WEIGHT;
}
