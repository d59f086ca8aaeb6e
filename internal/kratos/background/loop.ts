import type { Logger } from '../log/logger.js';
import { aborted } from './aborted.js';
import type { BackgroundServer } from './background.js';
import type { BackgroundMeter } from './background-meter.js';

interface CommonOptions {
  readonly name: string;
  /** Wait after a round that found nothing. After rounds that stalled or threw, the wait doubles up to `maxStallMs`. */
  readonly idleMs: number;
  /** Default 2 s. */
  readonly maxStallMs?: number;
  readonly logger: Logger;
}

/** What a round did. */
export interface WorkDone {
  readonly units: number;
  /** Units that failed on their own and were set aside, so that the others could go on. */
  readonly isolated?: number;
  /**
   * Whether to begin the next round at once. Default: if this one did something. A loop that waits for work within its
   * round says true also for nothing; one that keeps to its interval says false.
   */
  readonly again?: boolean;
}

/** Work that is found and done in one step. */
interface RoundOptions extends CommonOptions {
  /**
   * Does a bounded amount of work and resolves with what it did. `signal` is
   * aborted when the deadline of the stop has passed.
   */
  readonly round: (signal: AbortSignal) => Promise<number | WorkDone>;
}

/** Work that is claimed first, so that several jobs can run side by side. */
interface JobOptions<Job> extends CommonOptions {
  /** Jobs that may run side by side, so that one waits for the database while another waits for its destination. */
  readonly lanes: number;
  /** Resolves with undefined if there is nothing to do. */
  readonly claim: () => Promise<Job | undefined>;
  /** Whether a claimed job suggests that there are more, so that the other lanes look too. Default: it does. */
  readonly suggestsMore?: (job: Job) => boolean;
  /** It has to bound its own waits. */
  readonly run: (job: Job) => Promise<JobOutcome>;
}

export type LoopOptions<Job> = RoundOptions | JobOptions<Job>;

export type JobOutcome =
  | ({ readonly kind: 'done' } & WorkDone)
  /** No job of this loop can be done at present, as when a destination cannot be reached. */
  | { readonly kind: 'stalled'; readonly reason: string };

/** What a round found: nothing to do; work, and possibly more; or work that cannot be done at present. */
type RoundOutcome = 'idle' | 'busy' | 'stalled';

const MAX_STALL_MS = 2_000;

/**
 * A background server that works in rounds, and survives whatever a round throws.
 *
 *     busy    → again at once
 *     idle    → again after `idleMs`, or when woken
 *     stalled → again after a wait that doubles up to 2 s, with jitter; also if the round threw
 *
 * The first lane polls; the others sleep until a lane has claimed a job that suggests more.
 */
export class Loop<Job = unknown> implements BackgroundServer {
  readonly name: string;
  private readonly idle = new Set<() => void>();
  private readonly stalled = new Set<() => void>();
  private readonly deadlinePassed = new AbortController();
  private meter: BackgroundMeter | undefined;
  private stopping = false;
  private running: Promise<unknown> | undefined;
  private stalledSinceMs: number | undefined;

  constructor(private readonly options: LoopOptions<Job>) {
    this.name = options.name;
  }

  observe(meter: BackgroundMeter): void {
    this.meter = meter;
  }

  async start(): Promise<void> {
    const lanes = 'round' in this.options ? 1 : this.options.lanes;
    this.running = Promise.all(Array.from({ length: lanes }, (_, lane) => this.runLane(lane)));
  }

  /** Looks for work now instead of at the next poll. Does not shorten the wait of a loop that is stalled. */
  wake(): void {
    for (const wake of [...this.idle]) wake();
  }

  /** Begins no further round and waits for those in progress, until `deadline` is aborted. */
  async stop(deadline: AbortSignal): Promise<void> {
    this.stopping = true;
    for (const wake of [...this.idle, ...this.stalled]) wake();
    if (this.running) await Promise.race([this.running, aborted(deadline)]);
    this.deadlinePassed.abort();
  }

  private async runLane(lane: number): Promise<void> {
    let stalls = 0;
    while (!this.stopping) {
      const outcome = await this.runRound();
      if (outcome === 'stalled') {
        const waitMs = Math.min(
          this.options.idleMs * 2 ** Math.min(stalls++, 20),
          this.options.maxStallMs ?? MAX_STALL_MS,
        );
        await this.sleep(this.stalled, waitMs * (0.75 + Math.random() / 2));
        continue;
      }
      stalls = 0;
      if (outcome === 'idle') await this.sleep(this.idle, lane === 0 ? this.options.idleMs : undefined);
    }
  }

  private async runRound(): Promise<RoundOutcome> {
    const startedAt = performance.now();
    try {
      const result = await this.work(this.options);
      if (result?.kind === 'stalled') {
        this.meter?.failed();
        this.logStall({ reason: result.reason });
        return 'stalled';
      }
      this.meter?.round(result?.units ?? 0, performance.now() - startedAt);
      if (result?.isolated) this.meter?.isolated(result.isolated);
      if (!result) return 'idle';
      this.logResumption();
      return (result.again ?? result.units + (result.isolated ?? 0) > 0) ? 'busy' : 'idle';
    } catch (err) {
      this.meter?.failed();
      this.logStall({ err });
      return 'stalled';
    }
  }

  /** Resolves with undefined if there was nothing to do. */
  private async work(options: LoopOptions<Job>): Promise<JobOutcome | undefined> {
    if ('round' in options) {
      const result = await options.round(this.deadlinePassed.signal);
      return { kind: 'done', ...(typeof result === 'number' ? { units: result } : result) };
    }
    const job = await options.claim();
    if (job === undefined) return undefined;
    if (options.suggestsMore?.(job) ?? true) this.wake();
    // There was a job, so there may be another.
    const outcome = await options.run(job);
    return outcome.kind === 'done' ? { again: true, ...outcome } : outcome;
  }

  /** Logs the first of the rounds that stall, not each of them. */
  private logStall(fields: { readonly reason: string } | { readonly err: unknown }): void {
    if (this.stalledSinceMs !== undefined) return;
    this.stalledSinceMs = performance.now();
    this.options.logger.error(`${this.name}: stalled`, fields);
  }

  private logResumption(): void {
    if (this.stalledSinceMs === undefined) return;
    const stalledMs = Math.round(performance.now() - this.stalledSinceMs);
    this.stalledSinceMs = undefined;
    this.options.logger.info(`${this.name}: resumed`, { stalledMs });
  }

  private sleep(sleepers: Set<() => void>, ms: number | undefined): Promise<void> {
    if (this.stopping) return Promise.resolve();
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        sleepers.delete(wake);
        resolve();
      };
      const timer = ms === undefined ? undefined : setTimeout(wake, ms);
      sleepers.add(wake);
    });
  }
}
