import { BlockList, isIP } from 'node:net';
import type { Call } from './call.js';

/**
 * Finds out where a call comes from: its peer, or what a trusted proxy says of it. Of X-Forwarded-For it is the last
 * address that no trusted proxy has: what stands before that anybody may have written.
 */
export class ClientAddresses {
  private readonly trusted = new BlockList();
  private readonly trustsAny: boolean;

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

  /** The IPv4 address, or the /64 of an IPv6 one: whoever has one address of it has all of them. */
  keyOf(call: Call): string {
    const peer = plain(call.peer.slice(0, call.peer.lastIndexOf(':')));
    if (!this.trustsAny || !this.isTrusted(peer)) return network(peer);
    const hops = call.metadataAll('x-forwarded-for').join(',').split(',');
    for (let i = hops.length - 1; i >= 0; i--) {
      const hop = plain(hops[i]!.trim());
      // Nothing before what is no address can be believed.
      if (isIP(hop) === 0) break;
      if (!this.isTrusted(hop)) return network(hop);
    }
    const real = call.metadata('x-real-ip');
    const address = typeof real === 'string' ? plain(real.trim()) : '';
    return network(isIP(address) === 0 ? peer : address);
  }

  private isTrusted(address: string): boolean {
    const family = isIP(address);
    return family !== 0 && this.trusted.check(address, family === 6 ? 'ipv6' : 'ipv4');
  }
}

const MAPPED = '::ffff:';

/** An IPv4 address that came by an IPv6 socket is an IPv4 address. */
function plain(address: string): string {
  return address.startsWith(MAPPED) && address.includes('.') ? address.slice(MAPPED.length) : address;
}

function network(address: string): string {
  if (!address.includes(':')) return address;
  const [head = '', tail] = (address.split('%', 1)[0] ?? '').toLowerCase().split('::', 2);
  const groups = head === '' ? [] : head.split(':');
  if (tail !== undefined) {
    const after = tail === '' ? [] : tail.split(':');
    // A dotted end is two groups.
    const dotted = tail.includes('.') ? 1 : 0;
    while (groups.length + after.length + dotted < 8) groups.push('0');
    groups.push(...after);
  }
  return `${groups
    .slice(0, 4)
    .map((g) => g.replace(/^0+(?=.)/, ''))
    .join(':')}::/64`;
}
