import { setTimeout as sleep } from 'node:timers/promises';
import { type KubeConfig, type KubernetesObject, type V1Pod, type V1PodList, Watch } from '@kubernetes/client-node';
import { errorText } from '../../kratos/errors/error-text.js';
import type { Logger } from '../../kratos/log/logger.js';
import type { Count, Metrics } from '../../kratos/metrics/metrics.js';
import { faultOf } from './api-fault.js';
import type { KubernetesApi } from './kubernetes-api.js';
import { INSTANCE_LABEL, INSTANCE_SELECTOR } from './labels.js';
import { type PodState, podState } from './pod-state.js';

const PAGE = 500;
const FIRST_PAUSE_MS = 100;
const LAST_PAUSE_MS = 5_000;
/** The API server ends a watch after this time, so that its connections spread over its replicas. */
const WATCH_SECONDS = 300;
const GONE = 410;

type Listener = (state: PodState | undefined) => void;

/**
 * The pods of all instances, by one list and one watch instead of a poll for each. It keeps little of each pod, pages its
 * list, asks for bookmarks, continues a broken watch where it was, and lists again when that version has expired (410).
 * The client's own informer keeps whole pods, asks for no bookmarks and stops at the first error.
 */
export class PodWatch {
  private readonly pods = new Map<string, PodState>();
  private readonly listeners = new Map<string, Set<Listener>>();
  private readonly synced = Promise.withResolvers<void>();
  private readonly closing = new AbortController();
  private readonly logger: Logger;
  private readonly lists: Count;
  private readonly watches: Count;
  private running: Promise<void> | undefined;
  private version = '';
  private brokenSinceMs: number | undefined;

  /** @param namespace undefined: the instances of all namespaces */
  constructor(
    private readonly api: KubernetesApi,
    private readonly namespace: string | undefined,
    logger: Logger,
    metrics: Metrics,
    /** Called when the state of an instance changes. */
    private readonly onChange: (name: string) => void = () => {},
  ) {
    this.logger = logger;
    this.lists = metrics.count('kubernetes_pod_lists_total', 'Times that the pods of all instances were listed.');
    this.watches = metrics.count('kubernetes_pod_watches_total', 'Watches of the pods that were begun.');
    metrics.gauge('kubernetes_pods', 'Pods of instances, as the watch shows them.', 'max', () => this.pods.size);
    metrics.gauge(
      'kubernetes_watch_broken_seconds',
      'How long the watch of the pods has been broken; 0 if it works.',
      'max',
      () => (this.brokenSinceMs === undefined ? 0 : (performance.now() - this.brokenSinceMs) / 1_000),
    );
  }

  /** Begins at the first call. Resolves when the pods have been listed once. */
  start(): Promise<void> {
    this.running ??= this.run();
    return this.synced.promise;
  }

  async close(): Promise<void> {
    this.closing.abort();
    this.synced.promise.catch(() => {});
    this.synced.reject(new Error('the watch is closed'));
    await this.running;
  }

  /** The pod of an instance; undefined: it has none. */
  get(name: string): PodState | undefined {
    return this.pods.get(name);
  }

  /**
   * Tells the listener the current state and every further one.
   * @returns ends it
   */
  listen(name: string, listener: Listener): () => void {
    const listeners = this.listeners.get(name) ?? new Set();
    this.listeners.set(name, listeners.add(listener));
    listener(this.pods.get(name));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.listeners.delete(name);
    };
  }

  private async run(): Promise<void> {
    let pauseMs = FIRST_PAUSE_MS;
    while (!this.closing.signal.aborted) {
      try {
        if (this.version === '') await this.list();
        const startedMs = performance.now();
        await this.watch();
        // A watch that ends at once, again and again, must not become a flood of requests.
        if (performance.now() - startedMs > LAST_PAUSE_MS) pauseMs = FIRST_PAUSE_MS;
      } catch (err) {
        if (this.closing.signal.aborted) return;
        this.broken(err);
      }
      await sleep(pauseMs * (0.75 + Math.random() / 2), undefined, { signal: this.closing.signal }).catch(() => {});
      pauseMs = Math.min(pauseMs * 2, LAST_PAUSE_MS);
    }
  }

  private broken(err: unknown): void {
    if (this.brokenSinceMs !== undefined) return;
    this.brokenSinceMs = performance.now();
    this.logger.warn('the watch of the instances is broken and is begun again', { reason: reasonOf(err) });
  }

  private works(): void {
    if (this.brokenSinceMs !== undefined) this.logger.info('the watch of the instances works again');
    this.brokenSinceMs = undefined;
  }

  private async list(): Promise<void> {
    this.lists.add();
    const found = new Map<string, PodState>();
    let page: V1PodList | undefined;
    do {
      const _continue = page?.metadata?._continue;
      const request = { labelSelector: INSTANCE_SELECTOR, limit: PAGE, ...(_continue && { _continue }) };
      page = await (this.namespace === undefined
        ? this.api.core.listPodForAllNamespaces(request)
        : this.api.core.listNamespacedPod({ ...request, namespace: this.namespace }));
      for (const pod of page.items) {
        const name = instanceOf(pod);
        if (name !== undefined) found.set(name, newer(found.get(name), podState(pod)));
      }
    } while (page.metadata?._continue);
    this.version = page.metadata?.resourceVersion ?? '';
    for (const name of [...this.pods.keys()]) if (!found.has(name)) this.set(name, undefined);
    for (const [name, state] of found) this.set(name, state);
    this.works();
    this.synced.resolve();
  }

  /** Resolves when the watch ended in the ordinary way, or because its version expired. */
  private async watch(): Promise<void> {
    this.watches.add();
    const path =
      this.namespace === undefined ? '/api/v1/pods' : `/api/v1/namespaces/${encodeURIComponent(this.namespace)}/pods`;
    const query = {
      labelSelector: INSTANCE_SELECTOR,
      resourceVersion: this.version,
      allowWatchBookmarks: true,
      timeoutSeconds: WATCH_SECONDS,
    };
    const ended = Promise.withResolvers<void>();
    // ClusterAccess has what a Watch reads of a KubeConfig.
    const watch = new Watch(this.api.access as unknown as KubeConfig);
    const request = await watch.watch(
      path,
      query,
      (phase, object) => this.take(phase, object),
      (err) => (err === null || err === undefined || isQuiet(err) ? ended.resolve() : ended.reject(err)),
    );
    const stop = () => {
      request.abort();
      ended.resolve();
    };
    this.closing.signal.addEventListener('abort', stop, { once: true });
    if (this.closing.signal.aborted) stop();
    try {
      await ended.promise;
    } catch (err) {
      if ((err as { statusCode?: number }).statusCode !== GONE) throw err;
      this.version = '';
    } finally {
      this.closing.signal.removeEventListener('abort', stop);
    }
  }

  private take(phase: string, object: KubernetesObject & { readonly code?: number }): void {
    this.works();
    if (phase === 'ERROR') {
      // Whatever the error is, a new list mends it.
      this.version = '';
      return;
    }
    this.version = object.metadata?.resourceVersion ?? this.version;
    if (phase === 'BOOKMARK') return;
    const pod = object as V1Pod;
    const name = instanceOf(pod);
    if (name === undefined) return;
    const known = this.pods.get(name);
    const state = podState(pod);
    if (phase !== 'DELETED') this.set(name, newer(known, state));
    else if (known === undefined || known.uid === state.uid) this.set(name, undefined);
  }

  private set(name: string, state: PodState | undefined): void {
    const known = this.pods.get(name);
    if (state === undefined) this.pods.delete(name);
    else this.pods.set(name, state);
    for (const listener of [...(this.listeners.get(name) ?? [])]) listener(state);
    if (known?.ready !== state?.ready || known?.reason !== state?.reason) this.onChange(name);
  }
}

/** Of two pods of an instance, the one that stays: while one is being deleted, its successor may exist already. */
function newer(known: PodState | undefined, state: PodState): PodState {
  return known !== undefined && known.uid !== state.uid && state.ending && !known.ending ? known : state;
}

function instanceOf({ metadata }: V1Pod): string | undefined {
  const id = metadata?.labels?.[INSTANCE_LABEL];
  return id === undefined ? undefined : `inst-${id}`;
}

/** Nothing came for a while: the watch goes on with a new connection, because this one may be dead. */
function isQuiet(err: unknown): boolean {
  return err instanceof DOMException && err.name === 'TimeoutError';
}

function reasonOf(err: unknown): string {
  try {
    return faultOf(err).reason;
  } catch {
    return errorText(err);
  }
}
