import type { Logger } from '../log/logger.js';

/** What a round found: nothing to do; work, and maybe more; or work that cannot be done at present. */
export type RoundOutcome = 'idle' | 'busy' | 'stalled';

export interface RoundLoopOptions {
  /** For the log. */
  readonly name: string;
  /** Rounds that may run side by side, so that one waits for the database while another waits for its destination. */
  readonly lanes: number;
  /** Wait between rounds that found nothing. */
  readonly pollIntervalMs: number;
  /** One round. It bounds its own waits. It calls `found` when there is work for the other lanes too. */
  readonly round: (
    found: () => void,
  ) => Promise<{ readonly outcome: RoundOutcome; readonly reason?: string | undefined }>;
}

const LAST_STALL_MS = 5_000;

/**
 * Runs rounds for as long as the process serves.
 *
 *     busy    → again at once
 *     idle    → again after the poll interval, or when woken
 *     stalled → again after a wait that doubles up to 5 s, with jitter (also when the round threw)
 *
 * The first lane polls; the others sleep until one has found work for them.
 */
export class RoundLoop {
  private readonly idle = new Set<() => void>();
  private readonly stalled = new Set<() => void>();
  private stopping = false;
  private lanes: Promise<unknown> | undefined;
  private stalledSinceMs: number | undefined;

  constructor(
    private readonly options: RoundLoopOptions,
    private readonly logger: Logger,
  ) {}

  start(): void {
    this.lanes = Promise.all(Array.from({ length: this.options.lanes }, (_, lane) => this.run(lane)));
  }

  /** There is work: look now. Does not shorten the wait of a loop that is stalled. */
  wake(): void {
    for (const wake of [...this.idle]) wake();
  }

  /** Begins no further round and waits for those under way, until `deadline` fires. */
  async stop(deadline: AbortSignal): Promise<void> {
    this.stopping = true;
    for (const wake of [...this.idle, ...this.stalled]) wake();
    if (!this.lanes) return;
    await Promise.race([this.lanes, fired(deadline)]);
  }

  private async run(lane: number): Promise<void> {
    let stalls = 0;
    while (!this.stopping) {
      const outcome = await this.round();
      if (outcome === 'stalled') {
        const waitMs = Math.min(this.options.pollIntervalMs * 2 ** Math.min(stalls++, 20), LAST_STALL_MS);
        await this.sleep(this.stalled, waitMs * (0.75 + Math.random() / 2));
        continue;
      }
      stalls = 0;
      if (outcome === 'idle') await this.sleep(this.idle, lane === 0 ? this.options.pollIntervalMs : undefined);
    }
  }

  private async round(): Promise<RoundOutcome> {
    try {
      const { outcome, reason } = await this.options.round(() => this.wake());
      if (outcome === 'stalled') this.tellStall(reason);
      else if (outcome === 'busy') this.tellFlow();
      return outcome;
    } catch (err) {
      this.tellStall(undefined, err);
      return 'stalled';
    }
  }

  /** Said once when it begins, not each time it is tried. */
  private tellStall(reason: string | undefined, err?: unknown): void {
    if (this.stalledSinceMs !== undefined) return;
    this.stalledSinceMs = performance.now();
    this.logger.error(`${this.options.name}: nothing goes through`, err === undefined ? { reason } : { err });
  }

  private tellFlow(): void {
    if (this.stalledSinceMs === undefined) return;
    const ms = Math.round(performance.now() - this.stalledSinceMs);
    this.stalledSinceMs = undefined;
    this.logger.info(`${this.options.name}: goes through again`, { stalledMs: ms });
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

/** Resolves when `signal` has fired. */
export function fired(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
