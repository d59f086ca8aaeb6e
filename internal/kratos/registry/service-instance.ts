import { randomUUID } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import type { Config } from '../../conf/config.js';
import { projectVersion } from '../../conf/version.js';
import { parseAddress } from '../app/address.js';
import type { Worker } from '../app/worker.js';
import type { ServiceInstance } from './registry.js';

/** This process as others find it. `ports` are those that it listens on. */
export function serviceInstance(
  config: Config,
  worker: Worker,
  ports: { readonly grpc: number; readonly http: number },
): ServiceInstance {
  const { advertiseHost, weight } = config.registry;
  const host = (addr: string) => advertiseHost || reachableHost(parseAddress(addr).host);
  return {
    id: `${worker.consumerName}-${randomUUID()}`,
    name: `kaimai.${worker.process}`,
    version: projectVersion(),
    metadata: { weight: String(weight) },
    endpoints: [
      `grpc://${bracketed(host(config.server.grpc.addr))}:${ports.grpc}`,
      `http://${bracketed(host(config.server.http.addr))}:${ports.http}`,
    ],
  };
}

const ANY = new Set(['0.0.0.0', '::', '']);

/** An address that listens on all interfaces is none that anybody can call: then the first of this machine's own. */
function reachableHost(host: string): string {
  if (!ANY.has(host)) return host;
  const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  const outside = addresses.filter((a) => !a.internal);
  return (outside.find((a) => a.family === 'IPv4') ?? outside[0])?.address ?? '127.0.0.1';
}

function bracketed(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
