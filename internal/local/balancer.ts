import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/**
 * A TCP balancer: gives each new connection to the next target that accepts it. What moves a connection that exists is
 * the server's own limit of its age.
 */
export class TcpBalancer {
  private readonly open = new Set<Socket>();
  private turn = 0;

  private constructor(
    private readonly server: Server,
    private readonly targets: () => readonly string[],
  ) {}

  /**
   * @param targets host:port of each, asked for at each connection
   * @param port 0: any
   */
  static async start(targets: () => readonly string[], port = 0): Promise<TcpBalancer> {
    // A caller that has sent its last byte still waits for its reply.
    const server = createServer({ allowHalfOpen: true, noDelay: true });
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    const balancer = new TcpBalancer(server, targets);
    server.on('connection', (client) => balancer.join(client));
    return balancer;
  }

  /** host:port */
  get address(): string {
    return `127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    const closed = once(this.server, 'close');
    this.server.close();
    for (const socket of this.open) socket.destroy();
    await closed;
  }

  private join(client: Socket): void {
    this.track(client);
    this.dial(client, this.targets().length);
  }

  private dial(client: Socket, triesLeft: number): void {
    const targets = this.targets();
    const target = targets[this.turn++ % targets.length];
    if (target === undefined || triesLeft === 0 || client.destroyed) {
      client.resetAndDestroy();
      return;
    }
    const end = target.lastIndexOf(':');
    const upstream = connect({
      ...{ host: target.slice(0, end), port: Number(target.slice(end + 1)) },
      ...{ allowHalfOpen: true, noDelay: true },
    });
    const refused = () => this.dial(client, triesLeft - 1);
    upstream.once('error', refused);
    upstream.once('connect', () => {
      upstream.off('error', refused);
      this.track(upstream);
      client.pipe(upstream);
      upstream.pipe(client);
      client.once('close', () => upstream.destroy());
      upstream.once('close', () => client.destroy());
    });
  }

  private track(socket: Socket): void {
    this.open.add(socket);
    socket.on('error', () => socket.destroy());
    socket.once('close', () => this.open.delete(socket));
  }
}
