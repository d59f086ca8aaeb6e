import cluster, { type Worker as Child } from 'node:cluster';
import { AggregatorRegistry, collectDefaultMetrics, Registry } from 'prom-client';
import type { Logger } from '../log/logger.js';
import { Metrics } from '../metrics/metrics.js';
import { App } from './app.js';
import type { Health } from './health.js';
import { OpsListener } from './ops.js';
import type { Server } from './server.js';

/** Environment variable that tells a worker process its index. */
export const WORKER_INDEX = 'KRATOS_WORKER_INDEX';

/** Worker → primary: whether the worker can take calls. */
interface ReadinessMessage {
  readonly type: 'kratos:ready';
  readonly ready: boolean;
}
/** Primary → worker: stop as after a signal. */
export const STOP_MESSAGE = { type: 'kratos:stop' } as const;

/** More deaths of workers than this within the window end the replica. */
const MAX_DEATHS = 5;
const DEATH_WINDOW_MS = 60_000;
const RESPAWN_DELAY_MS = 200;
/** Time that a worker has beyond its own deadlines before it is killed. */
const KILL_MARGIN_MS = 5_000;
/**
 * Under load, V8's default young generation of 16 MiB fills several times while a call waits, so waiting calls are
 * copied repeatedly and promoted to the old generation. Four times the size saved a fifth of a purchase's CPU time.
 */
const YOUNG_GENERATION = '--max-semi-space-size';
const YOUNG_GENERATION_MIB = 64;

/**
 * The worker processes of one replica, which share its listening sockets. A worker that dies is restarted with the same
 * index, after a pause that doubles. If a worker dies before it has served, or at the sixth death in a minute, the
 * replica ends with exit code 1, so that its supervisor notices.
 */
class Workers implements Server {
  readonly name = 'workers';
  private readonly children = new Map<number, { readonly child: Child; ready: boolean; served: boolean }>();
  private readonly deaths: number[] = [];
  private restartCount = 0;
  private readonly pauses = new Set<NodeJS.Timeout>();
  private stopping = false;
  private onAllGone: (() => void) | undefined;
  private onChange: (() => void) | undefined;

  constructor(
    private readonly count: number,
    private readonly logger: Logger,
    private readonly onFault: (err: Error) => void,
  ) {}

  get ready(): boolean {
    return this.children.size === this.count && [...this.children.values()].every((c) => c.ready);
  }

  /** Workers that were started again after they died. */
  get restarts(): number {
    return this.restartCount;
  }

  readonly readyCount = (): number => [...this.children.values()].filter((c) => c.ready).length;

  /** Resolves when every worker serves. */
  async start(): Promise<void> {
    const chosen = [...process.execArgv, process.env.NODE_OPTIONS ?? ''].some((o) => o.includes(YOUNG_GENERATION));
    if (!chosen)
      cluster.setupPrimary({ execArgv: [...process.execArgv, `${YOUNG_GENERATION}=${YOUNG_GENERATION_MIB}`] });
    for (let index = 0; index < this.count; index++) this.fork(index);
    await new Promise<void>((resolve) => {
      this.onChange = () => {
        if ([...this.children.values()].filter((c) => c.served).length === this.count) resolve();
      };
    });
  }

  async stop(deadline: AbortSignal): Promise<void> {
    this.stopping = true;
    for (const pause of this.pauses) clearTimeout(pause);
    if (this.children.size === 0) return;
    const gone = new Promise<void>((resolve) => {
      this.onAllGone = resolve;
    });
    for (const { child } of this.children.values()) child.send(STOP_MESSAGE, () => undefined);
    const kill = () => {
      for (const { child } of this.children.values()) child.process.kill('SIGKILL');
    };
    if (deadline.aborted) kill();
    else deadline.addEventListener('abort', kill, { once: true });
    await gone;
    deadline.removeEventListener('abort', kill);
  }

  private fork(index: number): void {
    const child = cluster.fork({ [WORKER_INDEX]: String(index) });
    const state = { child, ready: false, served: false };
    this.children.set(index, state);
    child.on('message', (message: ReadinessMessage) => {
      if (message.type !== 'kratos:ready') return;
      state.ready = message.ready;
      state.served ||= message.ready;
      this.onChange?.();
    });
    child.on('exit', (code, signal) => {
      this.children.delete(index);
      if (this.stopping) {
        if (code !== 0) this.logger.warn('worker exited with an error', { worker: index, code, signal });
        if (this.children.size === 0) this.onAllGone?.();
        return;
      }
      this.logger.error('worker died', { worker: index, pid: child.process.pid, code, signal });
      const now = Date.now();
      this.deaths.push(now);
      const recent = this.deaths.filter((at) => now - at < DEATH_WINDOW_MS).length;
      if (!state.served) this.onFault(new Error(`worker ${index} died before it served`));
      else if (recent > MAX_DEATHS) this.onFault(new Error(`workers died ${recent} times in a minute`));
      else this.forkLater(index, RESPAWN_DELAY_MS * 2 ** (recent - 1));
    });
  }

  private forkLater(index: number, delayMs: number): void {
    const pause = setTimeout(() => {
      this.pauses.delete(pause);
      this.restartCount++;
      this.fork(index);
    }, delayMs);
    this.pauses.add(pause);
  }
}

export interface PrimaryOptions {
  /** Name of the process, for the log. */
  readonly name: string;
  /** Worker processes. */
  readonly workers: number;
  /** Prefix of the metrics of the primary itself. */
  readonly metricsNamespace: string;
  /** host:port of /metrics, /healthz and /readyz; empty for none. */
  readonly metricsAddr: string;
  /** The values of each worker. */
  readonly drainDelayMs: number;
  readonly stopTimeoutMs: number;
}

/** Runs the primary process of a replica with several workers; resolves with the exit code. */
export async function runPrimary(options: PrimaryOptions, logger: Logger): Promise<number> {
  const { metricsAddr, drainDelayMs, stopTimeoutMs } = options;
  // A signal to the process group reaches the primary and the workers; workers stop only at the primary's message.
  const workers: Workers = new Workers(options.workers, logger, (err) => app.fail(err));
  const aggregator = new AggregatorRegistry();
  const own = new Registry();
  collectDefaultMetrics({ register: own, prefix: `${options.metricsNamespace}_primary_` });
  workerMetrics(new Metrics(own, options.metricsNamespace), options.workers, workers);
  const ops = new OpsListener(metricsAddr, {
    ready: () => workers.ready,
    dependencies: () => [],
    metrics: async () => ({
      contentType: own.contentType,
      text: `${await own.metrics()}${await aggregator.clusterMetrics()}`,
    }),
  });
  const app: App = new App({
    name: `${options.name}-primary`,
    logger,
    servers: metricsAddr === '' ? [workers] : [workers, ops],
    health: { serving: false },
    // Each worker waits its own drain delay.
    drainDelayMs: 0,
    stopTimeoutMs: drainDelayMs + stopTimeoutMs + KILL_MARGIN_MS,
  });
  return app.run();
}

/** Exported by the primary, or by the process itself where it is its only worker. */
export function workerMetrics(
  metrics: Metrics,
  count: number,
  workers: { readonly readyCount: () => number; readonly restarts: number },
): void {
  metrics.gauge('workers', 'Worker processes that the replica should have.', 'sum', () => count);
  metrics.gauge('workers_ready', 'Worker processes that can take calls.', 'sum', workers.readyCount);
  metrics.counter(
    'worker_restarts_total',
    'Worker processes that died and were started again.',
    () => workers.restarts,
  );
}

/** Lets the primary know, in a worker process, whether this worker can take calls. */
export function reportReadiness(health: Health): void {
  if (!cluster.isWorker) return;
  health.onChange(() => {
    const message: ReadinessMessage = { type: 'kratos:ready', ready: health.ready };
    if (process.connected) process.send?.(message);
  });
}
