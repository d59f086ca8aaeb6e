import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import type { AgentOptions, RequestOptions } from 'node:https';
import { join } from 'node:path';
import { type Cluster, KubeConfig, type RequestContext, type SecurityAuthentication } from '@kubernetes/client-node';
import { Agent, type Dispatcher, ProxyAgent } from 'undici';

/** How often the files of the credentials are looked at for changes. */
const LOOK_INTERVAL_MS = 1_000;
/** Connections to the API server. Requests beyond them wait; the watch has one of them. */
const CONNECTIONS = 16;

type DispatcherOptions = ReturnType<KubeConfig['createDispatcherOptions']>;

/** Where Kubernetes mounts the service account of a pod. */
const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

/**
 * Where the API server is, and the credentials for it: a kubeconfig file, or the service account of this pod. Both are
 * read again when a file changes. The client's own account of a pod reads its token once a minute, so that a token that
 * was revoked early would cost a minute of creations.
 *
 * It takes the place of the client's own authentication, which opens a new TLS connection for every request: here all
 * requests share the connections of one dispatcher until the certificates change.
 */
export class ClusterAccess implements SecurityAuthentication {
  private config: KubeConfig | undefined;
  private version = '';
  private lookedAtMs = Number.NEGATIVE_INFINITY;
  private dispatcher: { readonly key: string; readonly value: Dispatcher } | undefined;

  /**
   * @param kubeconfig path; empty: the service account of this pod
   * @param serviceAccount its folder
   */
  constructor(
    private readonly kubeconfig: string,
    private readonly serviceAccount = SERVICE_ACCOUNT,
  ) {}

  getName(): string {
    return 'cluster access';
  }

  /** @throws Error if the files cannot be read, or name no cluster */
  getCurrentCluster(): Cluster {
    return this.current().getCurrentCluster() as Cluster;
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
    if (this.config && nowMs < this.lookedAtMs + LOOK_INTERVAL_MS) return this.config;
    this.lookedAtMs = nowMs;
    try {
      const version = this.filesVersion();
      if (this.config && version === this.version) return this.config;
      const config = this.kubeconfig === '' ? podConfig(this.serviceAccount) : fileConfig(this.kubeconfig);
      this.version = version;
      this.config = config;
    } catch (err) {
      // A file that is being replaced may be away or incomplete: the earlier credentials serve until it is back.
      if (!this.config) throw err;
    }
    return this.config;
  }

  /** Changes when one of the files does. @throws Error if one is missing, or outside of a pod */
  private filesVersion(): string {
    if (this.kubeconfig === '') podServer();
    const files = this.kubeconfig === '' ? podFiles(this.serviceAccount) : [this.kubeconfig];
    // The inode tells a file from one that takes its place within a millisecond.
    const versions = Object.values(files).map((file) => statSync(file));
    return versions.map(({ mtimeMs, ino, size }) => `${mtimeMs} ${ino} ${size}`).join();
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

function fileConfig(file: string): KubeConfig {
  const config = new KubeConfig();
  config.loadFromFile(file);
  if (!config.getCurrentCluster()) throw new Error(`the kubeconfig file ${file} has no cluster in its current context`);
  return config;
}

function podConfig(folder: string): KubeConfig {
  const { token, ca } = podFiles(folder);
  const config = new KubeConfig();
  config.loadFromClusterAndUser(
    {
      name: 'pod',
      server: podServer(),
      caData: readFileSync(ca).toString('base64'),
      skipTLSVerify: false,
    },
    { name: 'pod', token: readFileSync(token, 'utf8').trim() },
  );
  return config;
}

/** @throws Error outside of a pod */
function podServer(): string {
  const { KUBERNETES_SERVICE_HOST: host = '', KUBERNETES_SERVICE_PORT: port = '443' } = process.env;
  if (host !== '') return `https://${host.includes(':') ? `[${host}]` : host}:${port}`;
  throw new Error('resource.kubernetes.kubeconfig is empty, and this process is not in a pod of a Kubernetes cluster');
}

function podFiles(folder: string): { readonly token: string; readonly ca: string } {
  return { token: join(folder, 'token'), ca: join(folder, 'ca.crt') };
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
