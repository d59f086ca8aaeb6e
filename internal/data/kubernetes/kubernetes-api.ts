import { setTimeout as sleep } from 'node:timers/promises';
import {
  AppsV1Api,
  CoreV1Api,
  createConfiguration,
  type HttpMethod,
  KubernetesObjectApi,
  type RequestContext,
  ResponseContext,
  ServerConfiguration,
  wrapHttpLibrary,
} from '@kubernetes/client-node';
import { type Dispatcher, fetch } from 'undici';
import type { Count, Metrics } from '../../kratos/metrics/metrics.js';
import type { ClusterAccess } from './cluster-access.js';
import { RequestLimit, type RequestLimitOptions } from './request-limit.js';

export interface KubernetesApiOptions {
  readonly requestTimeoutMs: number;
  /** How long a request is repeated for a passing reason. */
  readonly retryBudgetMs: number;
  readonly requests: RequestLimitOptions;
}

const THROTTLED = 429;
const DEFAULT_RETRY_AFTER_MS = 1_000;
const LAST_RETRY_AFTER_MS = 30_000;

/**
 * The clients of the API server. They share connections, the request limit and the counts. A request that the API server
 * throttles (429) is repeated after the time that it names, within the retry budget: nothing was done.
 */
export class KubernetesApi {
  readonly objects: KubernetesObjectApi;
  readonly core: CoreV1Api;
  readonly apps: AppsV1Api;
  private readonly limit: RequestLimit;
  private readonly sent: Count;
  private readonly throttled: Count;
  private readonly closing = new AbortController();

  constructor(
    readonly access: ClusterAccess,
    private readonly options: KubernetesApiOptions,
    metrics: Metrics,
  ) {
    this.limit = new RequestLimit(options.requests);
    this.sent = metrics.count('kubernetes_requests_total', 'Requests to the API server, without watches.');
    this.throttled = metrics.count('kubernetes_throttled_total', 'Requests that the API server throttled (429).');
    const config = createConfiguration({
      // The address is that of the kubeconfig file as it is now.
      baseServer: {
        makeRequestContext: (endpoint: string, method: HttpMethod) =>
          new ServerConfiguration(access.getCurrentCluster().server, {}).makeRequestContext(endpoint, method),
      },
      authMethods: { default: access },
      httpApi: wrapHttpLibrary({ send: (request) => this.send(request) }),
    });
    this.objects = new KubernetesObjectApi(config);
    this.core = new CoreV1Api(config);
    this.apps = new AppsV1Api(config);
  }

  /** Ends requests that wait for their turn. */
  async close(): Promise<void> {
    this.closing.abort(new DOMException('the client is closed', 'TimeoutError'));
    await this.access.close();
  }

  private async send(request: RequestContext): Promise<ResponseContext> {
    const giveUpAtMs = performance.now() + this.options.retryBudgetMs;
    for (;;) {
      await this.limit.wait(this.closing.signal);
      this.sent.add();
      const reply = await this.fetch(request);
      if (reply.status !== THROTTLED) return contextOf(reply);
      this.throttled.add();
      const waitMs = retryAfterMs(reply);
      if (performance.now() + waitMs > giveUpAtMs) return contextOf(reply);
      await reply.body?.cancel();
      await sleep(waitMs, undefined, { signal: this.closing.signal });
    }
  }

  private fetch(request: RequestContext): Promise<Reply> {
    return fetch(request.getUrl(), {
      method: request.getHttpMethod(),
      headers: request.getHeaders(),
      body: request.getBody() as string | undefined,
      dispatcher: request.getDispatcher() as Dispatcher | undefined,
      // It also bounds the reading of the body.
      signal: AbortSignal.any([AbortSignal.timeout(this.options.requestTimeoutMs), this.closing.signal]),
    } as Parameters<typeof fetch>[1]);
  }
}

type Reply = Awaited<ReturnType<typeof fetch>>;

function contextOf(reply: Reply): ResponseContext {
  return new ResponseContext(reply.status, Object.fromEntries(reply.headers), {
    text: () => reply.text(),
    binary: async () => Buffer.from(await reply.arrayBuffer()),
    stream: () => reply.body as ReadableStream<Uint8Array> | null,
  });
}

function retryAfterMs(reply: Reply): number {
  const seconds = Number(reply.headers.get('retry-after') ?? Number.NaN);
  return Number.isFinite(seconds) ? Math.min(seconds * 1_000, LAST_RETRY_AFTER_MS) : DEFAULT_RETRY_AFTER_MS;
}
