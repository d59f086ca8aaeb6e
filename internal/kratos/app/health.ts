import { errorText } from '../errors/error-text.js';
import type { Logger } from '../log/logger.js';
import type { Metrics } from '../metrics/metrics.js';
import type { HealthProbe } from './health-probe.js';
import type { Server } from './server.js';

export interface DependencyState {
  readonly name: string;
  readonly critical: boolean;
  readonly up: boolean;
  /** Why the dependency is down, for operators. */
  readonly error: string | undefined;
}

const INTERVAL_MS = 1_000;
const CHECK_TIMEOUT_MS = 2_000;

/**
 * Readiness: a process can take calls if it has started, is not stopping, and its critical dependencies answer. The
 * state of other dependencies is only reported: taking a pod out of service because of them would help no caller.
 * Liveness is separate: a process that answers at all is alive.
 */
export class Health implements Server {
  readonly name = 'health';
  private states: DependencyState[];
  private isServing = false;
  private timer: NodeJS.Timeout | undefined;
  private round: Promise<void> | undefined;
  private readonly stopping = new AbortController();
  private readonly listeners = new Set<() => void>();

  constructor(
    private readonly probes: readonly HealthProbe[],
    private readonly logger: Logger,
  ) {
    this.states = probes.map((p) => ({ name: p.name, critical: p.critical, up: false, error: 'not checked yet' }));
  }

  async start(): Promise<void> {
    await this.check();
    const tick = () => {
      this.round = this.check().then(() => {
        if (!this.stopping.signal.aborted) this.timer = setTimeout(tick, INTERVAL_MS);
      });
    };
    this.timer = setTimeout(tick, INTERVAL_MS);
  }

  async stop(): Promise<void> {
    this.serving = false;
    this.stopping.abort();
    clearTimeout(this.timer);
    await this.round;
    clearTimeout(this.timer);
  }

  /** Set when every server has started, cleared when the process begins to stop. */
  set serving(value: boolean) {
    const before = this.ready;
    this.isServing = value;
    this.notify(before);
  }

  get ready(): boolean {
    return this.isServing && this.states.every((s) => s.up || !s.critical);
  }

  get dependencies(): readonly DependencyState[] {
    return this.states;
  }

  /** Calls `listener` whenever `ready` changes. @returns a function that removes it */
  onChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  private async check(): Promise<void> {
    const states = await Promise.all(this.probes.map((p) => this.probe(p)));
    if (this.stopping.signal.aborted) return;
    const before = this.ready;
    for (const [i, state] of states.entries()) {
      if (state.up === this.states[i]?.up) continue;
      if (state.up) this.logger.info('dependency is up', { dependency: state.name });
      else this.logger.warn('dependency is down', { dependency: state.name, error: state.error });
    }
    this.states = states;
    this.notify(before);
  }

  private async probe(probe: HealthProbe): Promise<DependencyState> {
    const signal = AbortSignal.any([this.stopping.signal, AbortSignal.timeout(CHECK_TIMEOUT_MS)]);
    let error: string | undefined;
    let giveUp: (() => void) | undefined;
    try {
      // Raced with the signal, because a probe that ignores it must not make a process look ready forever.
      await Promise.race([
        probe.check(signal),
        new Promise<never>((_, reject) => {
          giveUp = () => reject(new Error('timed out'));
          signal.addEventListener('abort', giveUp, { once: true });
        }),
      ]);
    } catch (err) {
      error = errorText(err);
    } finally {
      if (giveUp) signal.removeEventListener('abort', giveUp);
    }
    return { name: probe.name, critical: probe.critical, up: error === undefined, error };
  }

  private notify(before: boolean): void {
    if (this.ready !== before) for (const listener of this.listeners) listener();
  }
}

export function healthMetrics(metrics: Metrics, health: Health): void {
  metrics.gauge('ready', '1 if the process can take calls.', 'min', () => (health.ready ? 1 : 0));
  metrics.gauge('dependency_up', '1 if the server that the process depends on answers.', 'min', () =>
    health.dependencies.map(({ name, up }) => [{ dependency: name }, up ? 1 : 0] as const),
  );
}
