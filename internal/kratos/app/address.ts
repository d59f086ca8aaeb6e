/** host and port of a checked "host:port"; an IPv6 host stands in brackets. */
export function parseAddress(addr: string): { readonly host: string; readonly port: number } {
  const colon = addr.lastIndexOf(':');
  return { host: addr.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(addr.slice(colon + 1)) };
}
