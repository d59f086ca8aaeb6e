import { randomUUID } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import { parseAddress } from '../app/address.js';
import type { Worker } from '../app/worker.js';
import type { ServiceInstance } from './service-registry.js';

/** An address that this process listens on. */
export interface ListenAddress {
  /** host:port as configured. */
  readonly addr: string;
  /** The port in use, which differs from the configured one if that is 0. */
  readonly port: number;
  /** Whether callers use TLS; the scheme of the endpoint says so, as in Kratos. */
  readonly secure: boolean;
}

export interface ServiceInstanceOptions {
  /** The name that callers look up, such as `kaimai.product`. */
  readonly name: string;
  readonly version: string;
  /** Host at which callers reach this process; empty: derived from the addresses. */
  readonly advertiseHost: string;
  /** Share of the calls, relative to the weights of the other instances. */
  readonly weight: number;
  readonly grpc: ListenAddress;
  readonly http: ListenAddress;
}

/** The entry of this process in a service registry. */
export function serviceInstance(worker: Worker, options: ServiceInstanceOptions): ServiceInstance {
  const { name, version, advertiseHost, weight, grpc, http } = options;
  const endpoint = (scheme: string, { addr, port, secure }: ListenAddress) =>
    `${scheme}${secure ? 's' : ''}://${bracketed(advertiseHost || reachableHost(parseAddress(addr).host))}:${port}`;
  return {
    id: `${worker.name}-${randomUUID()}`,
    name,
    version,
    metadata: { weight: String(weight) },
    endpoints: [endpoint('grpc', grpc), endpoint('http', http)],
  };
}

const ANY = new Set(['0.0.0.0', '::', '']);

/** The host itself, or, for one that means all interfaces and cannot be called, the first address of this machine. */
function reachableHost(host: string): string {
  if (!ANY.has(host)) return host;
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  const outside = addresses.filter((a) => !a.internal);
  return (outside.find((a) => a.family === 'IPv4') ?? outside[0])?.address ?? '127.0.0.1';
}

function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
