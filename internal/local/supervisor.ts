import { setTimeout as sleep } from 'node:timers/promises';
import { errorText } from '../kratos/errors/error-text.js';

/** Something that should always run, and can be started again in place. */
export interface Supervised {
  readonly name: string;
  isRunning(): boolean;
  /** Why it does not run, for people. */
  describeExit(): string;
  /** Stops what is left of it and starts it again at the same addresses. Resolves when it serves. */
  restart(signal: AbortSignal): Promise<void>;
}

export interface SupervisorOptions {
  /** The first restart waits this long; each one after it twice as long as the one before. */
  firstDelayMs: number;
  lastDelayMs: number;
  /** After running this long without a restart the delay starts over. */
  stableMs: number;
  pollMs: number;
  report(message: string): void;
}

export const SUPERVISOR_DEFAULTS = { firstDelayMs: 500, lastDelayMs: 30_000, stableMs: 60_000, pollMs: 250 } as const;

/** Restarts one unit when it ends, with exponential backoff, or at once on request. */
export class Supervisor {
  private requested: { why: string } | undefined;
  private wake = new AbortController();

  constructor(
    private readonly unit: Supervised,
    private readonly options: SupervisorOptions,
  ) {}

  /** Runs until the signal is aborted. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { pollMs, stableMs, report } = this.options;
    let failures = 0;
    let runningSince = performance.now();
    let failure: string | undefined;
    while (!signal.aborted) {
      if (!this.requested && failure === undefined) {
        if (performance.now() - runningSince >= stableMs) failures = 0;
        if (this.unit.isRunning()) {
          await this.pause(pollMs, signal);
          continue;
        }
        failure = this.unit.describeExit();
      }
      if (!this.requested && failure !== undefined) {
        const delayMs = this.delayMs(failures++);
        report(`${failure}\nRestarting ${this.unit.name} in ${delayMs / 1_000} s.`);
        await this.pause(delayMs, signal);
      }
      if (signal.aborted) return;
      const request = this.requested;
      this.requested = undefined;
      if (request) failures = 0;
      const startedAt = performance.now();
      try {
        await this.unit.restart(signal);
        failure = undefined;
        runningSince = performance.now();
        const seconds = ((runningSince - startedAt) / 1_000).toFixed(1);
        report(`${this.unit.name} restarted in ${seconds} s${request ? ` (${request.why})` : ''}.`);
      } catch (error) {
        if (!signal.aborted) failure = errorText(error);
      }
    }
  }

  /** Asks for a restart now, also while the unit runs or waits for its next attempt. */
  restart(why: string): void {
    this.requested = { why };
    this.wake.abort();
  }

  private delayMs(failures: number): number {
    return Math.min(this.options.firstDelayMs * 2 ** Math.min(failures, 20), this.options.lastDelayMs);
  }

  private async pause(ms: number, signal: AbortSignal): Promise<void> {
    this.wake = new AbortController();
    // A request may have come since the caller looked.
    if (this.requested) return;
    await sleep(ms, undefined, { signal: AbortSignal.any([signal, this.wake.signal]) }).catch(() => {});
  }
}
