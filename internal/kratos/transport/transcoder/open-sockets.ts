import type { Server, Socket } from 'node:net';

/** Share of the age by which connections differ, so that those that began together do not reconnect together. */
const SPREAD = 0.1;

/** The open connections of a server, and when each becomes old. */
export class OpenSockets {
  private readonly ends = new WeakMap<Socket, number>();
  private open = 0;

  /** @param maxAgeMs 0: connections do not become old */
  constructor(private readonly maxAgeMs: number) {}

  get count(): number {
    return this.open;
  }

  watch(server: Server): void {
    server.on('connection', (socket: Socket) => {
      this.open += 1;
      socket.once('close', () => {
        this.open -= 1;
      });
    });
  }

  /** Counts from the first request: with TLS, the socket of requests is not the one that was accepted. */
  isOld(socket: Socket): boolean {
    if (this.maxAgeMs === 0) return false;
    const now = performance.now();
    const endsAtMs = this.ends.get(socket);
    if (endsAtMs !== undefined) return now >= endsAtMs;
    this.ends.set(socket, now + this.maxAgeMs * (1 - SPREAD * Math.random()));
    return false;
  }
}
