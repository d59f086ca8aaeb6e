import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import type { AgentOptions, RequestOptions } from 'node:https';
import { type Cluster, KubeConfig, type RequestContext, type SecurityAuthentication } from '@kubernetes/client-node';
import { Agent, type Dispatcher, ProxyAgent } from 'undici';

/** How often a kubeconfig file is looked at for changes. */
const LOOK_INTERVAL_MS = 1_000;
/** Connections to the API server. Requests beyond them wait; the watch has one of them. */
const CONNECTIONS = 16;

type DispatcherOptions = ReturnType<KubeConfig['createDispatcherOptions']>;

/**
 * Where the API server is, and the credentials for it: a kubeconfig file, which is read again when it changes, or the
 * service account of this pod, whose token the client reads again every minute.
 *
 * It takes the place of the client's own authentication, which opens a new TLS connection for every request: here all
 * requests share the connections of one dispatcher until the certificates change.
 */
export class ClusterAccess implements SecurityAuthentication {
  private config: KubeConfig | undefined;
  private modifiedMs = 0;
  private lookedAtMs = Number.NEGATIVE_INFINITY;
  private dispatcher: { readonly key: string; readonly value: Dispatcher } | undefined;

  /** @param kubeconfig path; empty: the service account of this pod */
  constructor(private readonly kubeconfig: string) {}

  getName(): string {
    return 'cluster access';
  }

  /** @throws Error if the kubeconfig file cannot be read or names no cluster */
  getCurrentCluster(): Cluster {
    const cluster = this.current().getCurrentCluster();
    if (!cluster) throw new Error(`the kubeconfig file ${this.kubeconfig} has no cluster in its current context`);
    return cluster;
  }

  async applySecurityAuthentication(context: RequestContext): Promise<void> {
    const config = this.current();
    const options: RequestOptions & AgentOptions = {};
    await config.applyToHTTPSOptions(options);
    for (const [name, value] of Object.entries(options.headers ?? {})) context.setHeaderParam(name, String(value));
    if (options.auth) context.setHeaderParam('Authorization', `Basic ${Buffer.from(options.auth).toString('base64')}`);
    context.setDispatcher(this.dispatcherFor(config.createDispatcherOptions(config.getCurrentCluster(), options)));
  }

  async close(): Promise<void> {
    await this.dispatcher?.value.destroy();
    this.dispatcher = undefined;
  }

  private current(): KubeConfig {
    const nowMs = performance.now();
    if (this.config && (this.kubeconfig === '' || nowMs < this.lookedAtMs + LOOK_INTERVAL_MS)) return this.config;
    this.lookedAtMs = nowMs;
    if (this.kubeconfig === '') {
      this.config = new KubeConfig();
      this.config.loadFromCluster();
      return this.config;
    }
    // A file that is being replaced may be away for a moment: the earlier credentials serve until it is back.
    const modifiedMs = statSync(this.kubeconfig, { throwIfNoEntry: this.config === undefined })?.mtimeMs;
    if (this.config && (modifiedMs === undefined || Number(modifiedMs) === this.modifiedMs)) return this.config;
    const config = new KubeConfig();
    config.loadFromFile(this.kubeconfig);
    if (!config.getCurrentCluster() && this.config) return this.config;
    this.modifiedMs = Number(modifiedMs ?? 0);
    this.config = config;
    return config;
  }

  private dispatcherFor(options: DispatcherOptions): Dispatcher {
    const key = createHash('sha256').update(JSON.stringify(options)).digest('hex');
    if (this.dispatcher?.key === key) return this.dispatcher.value;
    const outdated = this.dispatcher?.value;
    this.dispatcher = { key, value: dispatcherOf(options) };
    // Its requests end first.
    outdated?.close().catch(() => {});
    return this.dispatcher.value;
  }
}

function dispatcherOf(options: DispatcherOptions): Dispatcher {
  switch (options.type) {
    case 'agent':
      return new Agent({ connections: CONNECTIONS, connect: options.connect as Agent.Options['connect'] & object });
    case 'none':
      return new Agent({ connections: CONNECTIONS });
    case 'proxy': {
      const { uri, requestTls, connect } = options;
      return new ProxyAgent({ uri, requestTls, connect } as ProxyAgent.Options);
    }
    case 'socks':
      throw new Error('a SOCKS proxy to the API server is not supported');
    default:
      return options satisfies never;
  }
}
