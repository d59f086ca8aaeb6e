import type { Server, Socket } from 'node:net';
import type { ClientAddresses } from './client-address.js';

export interface ConnectionLimitOptions {
  /** Open connections of the listener in this process. */
  readonly max: number;
  /** Of these, from one address (the /64 of an IPv6 client). Trusted proxies connect for many clients and have no limit. */
  readonly maxPerAddress: number;
}

/** Closes connections beyond the limits as soon as they are accepted, before any byte of them is read. */
export class ConnectionLimit {
  private readonly open = new Map<string, number>();

  constructor(
    private readonly options: ConnectionLimitOptions,
    private readonly clients: ClientAddresses,
  ) {}

  attach(server: Server): void {
    server.maxConnections = this.options.max;
    server.prependListener('connection', (socket: Socket) => this.accept(socket));
  }

  private accept(socket: Socket): void {
    const { remoteAddress } = socket;
    if (remoteAddress === undefined || this.clients.isTrustedProxy(remoteAddress)) return;
    const address = this.clients.networkOf(remoteAddress);
    const count = this.open.get(address) ?? 0;
    if (count >= this.options.maxPerAddress) {
      socket.destroy();
      return;
    }
    this.open.set(address, count + 1);
    socket.once('close', () => {
      const left = (this.open.get(address) ?? 1) - 1;
      if (left > 0) this.open.set(address, left);
      else this.open.delete(address);
    });
  }
}
