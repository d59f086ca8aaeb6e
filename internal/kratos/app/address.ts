/** Host and port of a valid "host:port". An IPv6 host is in brackets, which are removed. */
export function parseAddress(addr: string): { readonly host: string; readonly port: number } {
  const colon = addr.lastIndexOf(':');
  return { host: addr.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(addr.slice(colon + 1)) };
}
