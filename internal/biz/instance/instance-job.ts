import { errorText } from '../../kratos/errors/error-text.js';
import type { Logger } from '../../kratos/log/logger.js';
import { NoTrace, type Trace } from '../../kratos/tracing/trace.js';
import type { RoundOutcome } from '../outbox.js';
import type { InstanceJob, InstanceLogRepo } from './instance-log.js';

export type ProvisionOutcome =
  /** The instance exists, made now or before, with the size and owner that were asked for. */
  | { readonly kind: 'running' }
  /** It cannot be made, now or later, and nothing of it exists. */
  | { readonly kind: 'failed'; readonly reason: string }
  /** It was not made, or nobody knows; another attempt may succeed. */
  | { readonly kind: 'retry'; readonly reason: string }
  /** Whoever makes instances does not answer: no fault of this one. */
  | { readonly kind: 'unavailable'; readonly reason: string };

export abstract class Provisioner {
  /**
   * Makes the instance. The name is its identity: making it again is `running`. Begins nothing once the job's lease is
   * over, because then the job is somebody else's. Expected failures are values.
   */
  abstract create(job: InstanceJob): Promise<ProvisionOutcome>;
  /**
   * Makes sure that this job's instance does not exist; leaves one that bears its name for another owner or size.
   * @throws UNAVAILABLE when that cannot be told
   */
  abstract remove(job: InstanceJob): Promise<void>;
}

export type ReportOutcome =
  | { readonly kind: 'taken' }
  /** The product domain knows no such request, or was told otherwise before: it will never take this report. */
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'retry'; readonly reason: string }
  /** The product domain does not answer, or not to us. */
  | { readonly kind: 'unavailable'; readonly reason: string };

export abstract class InstanceReporter {
  /** Tells the product domain what became of an instance. Telling it again changes nothing. */
  abstract report(job: InstanceJob): Promise<ReportOutcome>;
}

export interface InstanceJobOptions {
  /** Creations that may fail before the instance is FAILED. */
  readonly maxAttempts: number;
  /** First wait before another attempt; doubles each time. */
  readonly retryBackoffMs: number;
  readonly leaseMs: number;
}

export interface JobRound {
  readonly outcome: RoundOutcome;
  /** Why a job did not get on. */
  readonly reason: string | undefined;
}

const IDLE: JobRound = { outcome: 'idle', reason: undefined };
const DONE: JobRound = { outcome: 'busy', reason: undefined };
const LAST_RETRY_MS = 60_000;

/*
 * A job's way. Every step is committed before the next begins and may be repeated, so a crash anywhere loses nothing:
 * when the lease of the dead worker ends, another takes the job up where the record says it is.
 *
 *     PROCESSING ── create ──> SUCCESS ─────────── report ──> reported
 *         │  ↑ retry after a wait
 *         └─ failed, or out of attempts ──> FAILED ── remove ── report ──> reported
 *
 * FAILED is set before what may exist is removed: nobody creates for a job that is FAILED, so nothing that another
 * worker has made for a SUCCESS can be removed. The report of a failure waits for the removal.
 */
export class InstanceJobUsecase {
  constructor(
    private readonly logs: InstanceLogRepo,
    private readonly provisioner: Provisioner,
    private readonly reporter: InstanceReporter,
    private readonly options: InstanceJobOptions,
    private readonly logger: Logger,
    private readonly trace: Trace = new NoTrace(),
  ) {}

  /**
   * One attempt at one job.
   * @param found called as soon as there is one, since an attempt may take long
   */
  async createRound(found: () => void): Promise<JobRound> {
    const job = await this.logs.claimToCreate(this.options.leaseMs);
    if (!job) return IDLE;
    found();
    const outcome = await this.trace.resume('instance create', job.trace, () => this.provisioner.create(job));
    switch (outcome.kind) {
      case 'running':
        return this.settle(job, 'SUCCESS', '');
      case 'failed':
        return this.settle(job, 'FAILED', outcome.reason);
      case 'retry': {
        const attempts = job.attempts + 1;
        if (attempts >= this.options.maxAttempts) {
          return this.settle(job, 'FAILED', `gave up after ${attempts} attempts: ${outcome.reason}`);
        }
        await this.logs.countAttempt(job, outcome.reason, this.retryAfterMs(attempts));
        return { outcome: 'busy', reason: outcome.reason };
      }
      case 'unavailable':
        await this.logs.release(job, 0);
        return { outcome: 'stalled', reason: outcome.reason };
      default:
        return outcome satisfies never;
    }
  }

  /** Reports outcomes that wait, at most `limit`. */
  async reportRound(limit: number, found: () => void): Promise<JobRound> {
    const jobs = await this.logs.claimToReport(limit, this.options.leaseMs);
    if (jobs.length === 0) return IDLE;
    found();
    const reasons = await Promise.all(jobs.map((job) => this.report(job).catch((err: unknown) => errorText(err))));
    const stalled = reasons.every((reason) => reason !== undefined);
    return { outcome: stalled ? 'stalled' : 'busy', reason: reasons.find((reason) => reason !== undefined) };
  }

  /** @returns undefined when the product domain had its last word, else why it is to be tried again */
  private async report(job: InstanceJob): Promise<string | undefined> {
    if (job.status === 'FAILED') await this.provisioner.remove(job);
    const outcome = await this.trace.resume('instance report', job.trace, () => this.reporter.report(job));
    switch (outcome.kind) {
      case 'taken':
        await this.logs.markReported(job, '');
        return undefined;
      case 'refused':
        await this.logs.markReported(job, outcome.reason);
        this.logger.error('the product domain refuses the report of an instance', {
          instanceId: String(job.instanceId),
          status: job.status,
          reason: outcome.reason,
        });
        return undefined;
      case 'retry':
        await this.logs.countReport(job, outcome.reason, this.retryAfterMs(job.reportAttempts + 1));
        return outcome.reason;
      case 'unavailable':
        await this.logs.release(job, 0);
        return outcome.reason;
      default:
        return outcome satisfies never;
    }
  }

  private async settle(job: InstanceJob, status: 'SUCCESS' | 'FAILED', reason: string): Promise<JobRound> {
    const stands = await this.logs.settle({ job, status, reason });
    // Our lease ran out on the way and somebody else gave the job up: what we made has no owner.
    if (stands === 'FAILED' && status === 'SUCCESS') await this.provisioner.remove(job);
    return DONE;
  }

  private retryAfterMs(attempts: number): number {
    return Math.min(this.options.retryBackoffMs * 2 ** Math.min(attempts - 1, 20), LAST_RETRY_MS);
  }
}
