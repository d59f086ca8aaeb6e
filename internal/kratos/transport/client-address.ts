import { BlockList, isIP } from 'node:net';
import type { Call } from './call.js';

const MAX_KNOWN_PEERS = 10_000;

/**
 * Determines the client address of a call: its peer, or what a trusted proxy reports. In X-Forwarded-For that is the
 * last address that does not belong to a trusted proxy; the client itself may have written the ones before.
 */
export class ClientAddresses {
  private readonly trusted = new BlockList();
  private readonly trustsAny: boolean;
  private readonly keys = new Map<string, string>();

  /** @param proxies addresses and networks in CIDR notation */
  constructor(proxies: readonly string[]) {
    this.trustsAny = proxies.length > 0;
    for (const proxy of proxies) {
      const [address = '', bits] = proxy.split('/');
      const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
      if (bits === undefined) this.trusted.addAddress(address, family);
      else this.trusted.addSubnet(address, Number(bits), family);
    }
  }

  /** The IPv4 address, or the /64 of an IPv6 address, since a client usually has a whole /64. */
  keyOf(call: Call): string {
    if (!this.trustsAny) return this.keyOfPeer(call.peer);
    const peer = plain(call.peer.slice(0, call.peer.lastIndexOf(':')));
    if (!this.isTrusted(peer)) return network(peer);
    const hops = call.metadataAll('x-forwarded-for').join(',').split(',');
    for (let i = hops.length - 1; i >= 0; i--) {
      const hop = plain(hops[i]!.trim());
      // Nothing before an invalid entry can be trusted.
      if (isIP(hop) === 0) break;
      if (!this.isTrusted(hop)) return network(hop);
    }
    const real = call.metadata('x-real-ip');
    const address = typeof real === 'string' ? plain(real.trim()) : '';
    return network(isIP(address) === 0 ? peer : address);
  }

  /** Remembered, because connections are used repeatedly. */
  private keyOfPeer(peer: string): string {
    let key = this.keys.get(peer);
    if (key === undefined) {
      key = network(plain(peer.slice(0, peer.lastIndexOf(':'))));
      if (this.keys.size >= MAX_KNOWN_PEERS) this.keys.clear();
      this.keys.set(peer, key);
    }
    return key;
  }

  /** Whether an address that a socket reports is that of a trusted proxy. */
  isTrustedProxy(address: string): boolean {
    return this.trustsAny && this.isTrusted(plain(address));
  }

  /** The key of an address that a socket reports. */
  networkOf(address: string): string {
    return network(plain(address));
  }

  private isTrusted(address: string): boolean {
    const family = isIP(address);
    return family !== 0 && this.trusted.check(address, family === 6 ? 'ipv6' : 'ipv4');
  }
}

const MAPPED = '::ffff:';

/** Unwraps an IPv4 address that an IPv6 socket reports. */
function plain(address: string): string {
  return address.startsWith(MAPPED) && address.includes('.') ? address.slice(MAPPED.length) : address;
}

function network(address: string): string {
  if (!address.includes(':')) return address;
  const [head = '', tail] = (address.split('%', 1)[0] ?? '').toLowerCase().split('::', 2);
  const groups = head === '' ? [] : head.split(':');
  if (tail !== undefined) {
    const after = tail === '' ? [] : tail.split(':');
    // A dotted ending counts as two groups.
    const dotted = tail.includes('.') ? 1 : 0;
    while (groups.length + after.length + dotted < 8) groups.push('0');
    groups.push(...after);
  }
  return `${groups
    .slice(0, 4)
    .map((g) => g.replace(/^0+(?=.)/, ''))
    .join(':')}::/64`;
}
