import { createServer, type Server as HttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parseAddress } from './address.js';
import type { DependencyState } from './health.js';
import type { Server } from './server.js';

/** What the operators' routes report. A worker process and the primary of several workers each have their own. */
export interface OpsSource {
  /** All metrics as Prometheus text; undefined if this address does not serve them. */
  readonly metrics?: () => Promise<{ readonly contentType: string; readonly text: string }>;
  readonly ready: () => boolean;
  /** Absent: this address says only whether the process is ready, because others than operators can call it. */
  readonly dependencies?: () => readonly DependencyState[];
}

/**
 * Serves /healthz (the process is alive), /readyz (it can take calls, and the state of its dependencies) and /metrics.
 * @returns whether the request was for one of them
 */
export function opsRoute(source: OpsSource, req: IncomingMessage, res: ServerResponse): boolean {
  const path = (req.url ?? '').split('?', 1)[0];
  if (path !== '/healthz' && path !== '/readyz' && (path !== '/metrics' || !source.metrics)) return false;
  if (req.method !== 'GET' && req.method !== 'HEAD') {
    res.setHeader('allow', 'GET, HEAD');
    json(res, 405, { status: 'METHOD_NOT_ALLOWED' });
  } else if (path === '/healthz') {
    json(res, 200, { status: 'ALIVE' });
  } else if (path === '/readyz') {
    const ready = source.ready();
    // The error text of a dependency can contain addresses, so it is only logged.
    const dependencies = source.dependencies?.().map(({ name, critical, up }) => ({ name, critical, up }));
    json(res, ready ? 200 : 503, { status: ready ? 'READY' : 'NOT_READY', ...(dependencies && { dependencies }) });
  } else {
    source.metrics?.().then(
      ({ contentType, text }) => res.writeHead(200, { 'content-type': contentType }).end(text),
      () => json(res, 500, { status: 'INTERNAL' }),
    );
  }
  return true;
}

function json(res: ServerResponse, status: number, body: unknown): void {
  res
    .writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
    .end(`${JSON.stringify(body)}\n`);
}

/** A listener for operators. It is separate, so that it answers while the others are overloaded or closed. */
export class OpsListener implements Server {
  readonly name = 'ops';
  private readonly server: HttpServer;

  constructor(
    private readonly addr: string,
    source: OpsSource,
  ) {
    this.server = createServer({ requestTimeout: 10_000, headersTimeout: 5_000 }, (req, res) => {
      if (!opsRoute(source, req, res)) json(res, 404, { status: 'NOT_FOUND' });
    });
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  start(): Promise<void> {
    const { host, port } = parseAddress(this.addr);
    return new Promise((resolve, reject) => {
      this.server.once('error', (err) => reject(new Error(`ops cannot listen on ${this.addr}: ${err.message}`)));
      this.server.listen(port, host, resolve);
    });
  }

  stop(): Promise<void> {
    return new Promise((resolve) => {
      this.server.close(() => resolve());
      this.server.closeAllConnections();
    });
  }
}
