import type { AddressInfo } from 'node:net';
import { createServer, connect as dial, type Server, type Socket } from 'node:net';

/** A TCP proxy in front of a real server that can simulate faults. */
export class FaultProxy {
  /** Accepts bytes from both sides and forwards none. */
  swallow = false;
  /** Closes every new connection immediately. */
  refuse = false;
  /** Number of connections closed that way. */
  refused = 0;
  private readonly sockets = new Set<Socket>();
  /** Connections that came while the network was cut. */
  private held: Socket[] | undefined;

  private constructor(
    private readonly server: Server,
    readonly port: number,
    private target: URL,
  ) {}

  /** A proxy in front of the host and port of `url`. */
  static async open(url: string): Promise<FaultProxy> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const proxy = new FaultProxy(server, (server.address() as AddressInfo).port, new URL(url));
    server.on('connection', (client) => proxy.join(client));
    return proxy;
  }

  /** `url` with this proxy's address. */
  url(url: string): string {
    const changed = new URL(url);
    changed.hostname = '127.0.0.1';
    changed.port = String(this.port);
    return changed.href;
  }

  /** Forwards all connections to another server from now on, and closes the existing ones. */
  failOver(url: string): void {
    this.moveTo(url);
    this.reset();
  }

  /** Forwards new connections to another server; existing ones are not affected. */
  moveTo(url: string): void {
    this.target = new URL(url);
  }

  /**
   * Cuts the network until `heal`: connections stay open, new ones are accepted, and nothing moves in either direction.
   * What was sent arrives afterwards, as TCP has it.
   */
  partition(): void {
    this.held ??= [];
    for (const socket of this.sockets) socket.pause();
  }

  heal(): void {
    const held = this.held ?? [];
    this.held = undefined;
    for (const socket of this.sockets) socket.resume();
    for (const client of held) this.join(client);
  }

  /** Resets every connection. */
  reset(): void {
    for (const socket of this.sockets) socket.resetAndDestroy();
  }

  async close(): Promise<void> {
    for (const socket of [...this.sockets, ...(this.held ?? [])]) socket.destroy();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private join(client: Socket): void {
    if (this.refuse) {
      this.refused++;
      client.resetAndDestroy();
      return;
    }
    if (this.held) {
      client.pause();
      client.on('error', () => {});
      this.held.push(client);
      return;
    }
    if (client.destroyed) return;
    client.resume();
    const upstream = dial(Number(this.target.port), this.target.hostname);
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      this.sockets.add(from);
      from.setNoDelay(true);
      from.on('data', (bytes) => {
        if (!this.swallow) to.write(bytes);
      });
      from.on('error', () => {});
      from.on('close', () => {
        this.sockets.delete(from);
        to.destroy();
      });
    }
  }
}
