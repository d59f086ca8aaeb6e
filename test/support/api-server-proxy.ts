import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { request } from 'node:https';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { writeKubeconfig } from '../../internal/local/kubernetes/cluster.js';
import type { SuiteCluster } from './kubernetes.js';

/** What the proxy does with one request. */
export type Injection =
  /** Answers it, and forwards nothing. */
  | { readonly status: number; readonly message: string; readonly headers?: Readonly<Record<string, string>> }
  /** Forwards it, and breaks the connection instead of answering. */
  | { readonly reply: 'cut' }
  /** Forwards it, and answers half of the body. */
  | { readonly reply: 'half' }
  /** Forwards it, and answers so late that the client has given up. */
  | { readonly reply: 'late'; readonly afterMs: number };

export interface ProxiedRequest {
  readonly method: string;
  readonly path: string;
  readonly isWatch: boolean;
}

/** A proxy in front of the real API server that spoils the requests that a test chooses. */
export class ApiServerProxy {
  /** Of the requests that came, without those for discovery. */
  readonly requests: ProxiedRequest[] = [];
  private readonly watches = new Set<ServerResponse>();

  private constructor(
    private readonly server: Server,
    readonly kubeconfig: string,
    /** Decides about each request. */
    public inject: (request: ProxiedRequest) => Injection | undefined,
  ) {}

  static async open(suite: SuiteCluster): Promise<ApiServerProxy> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const file = suite.file(`proxy-${port}.kubeconfig`);
    writeKubeconfig(file, { server: `http://127.0.0.1:${port}`, token: suite.cluster.adminToken, caFile: undefined });
    const proxy = new ApiServerProxy(server, file, () => undefined);
    server.on('request', (req, res) => void proxy.handle(suite.cluster.url, req, res));
    return proxy;
  }

  /** Requests of a method to paths that contain `part`. */
  count(method: string, part: string): number {
    return this.requests.filter((r) => r.method === method && r.path.includes(part) && !r.isWatch).length;
  }

  /** Breaks the watches that are open. @returns how many there were */
  cutWatches(): number {
    const open = this.watches.size;
    for (const reply of this.watches) reply.destroy();
    return open;
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private async handle(url: string, req: IncomingMessage, res: ServerResponse): Promise<void> {
    const { method = '', url: path = '' } = req;
    const seen = { method, path, isWatch: path.includes('watch=true') };
    const isDiscovery = /^\/apis?\/[^?]*$/.test(path) && !path.includes('/namespaces/');
    if (!isDiscovery) this.requests.push(seen);
    const injection = isDiscovery ? undefined : this.inject(seen);
    if (injection && 'status' in injection) {
      const { status: code, message, headers = {} } = injection;
      res.writeHead(code, { 'content-type': 'application/json', ...headers });
      res.end(JSON.stringify({ kind: 'Status', apiVersion: 'v1', status: 'Failure', message, code }));
      return;
    }
    const forwarded = request(new URL(path, url), { method, headers: req.headers, rejectUnauthorized: false });
    forwarded.on('error', () => res.destroy());
    forwarded.on('response', async (reply) => {
      if (injection?.reply === 'late') await sleep(injection.afterMs);
      if (injection?.reply === 'cut') return res.destroy();
      res.writeHead(reply.statusCode ?? 502, reply.headers);
      if (injection?.reply === 'half') {
        reply.once('data', (bytes: Buffer) => {
          res.write(bytes.subarray(0, bytes.length / 2));
          setImmediate(() => res.destroy());
        });
        return;
      }
      reply.pipe(res);
      if (seen.isWatch) this.watches.add(res);
      res.on('close', () => {
        this.watches.delete(res);
        reply.destroy();
      });
    });
    req.pipe(forwarded);
  }
}
