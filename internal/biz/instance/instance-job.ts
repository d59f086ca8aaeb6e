import { setImmediate } from 'node:timers/promises';
import { errorText } from '../../kratos/errors/error-text.js';
import type { Logger } from '../../kratos/log/logger.js';
import { NoTrace, type Trace } from '../../kratos/tracing/trace.js';
import { whileRenewing } from '../lease.js';
import type { InstanceJob, InstanceLogRepo, InstanceOutcome, InstanceSize } from './instance-log.js';

export type ProvisionOutcome =
  /** The instance runs with the requested size and owner, created now or before. */
  | { readonly kind: 'running'; readonly address: string }
  /** It can never be created. `remove` removes what there is of it. */
  | { readonly kind: 'failed'; readonly reason: string }
  /** It was not created, or that is unknown. Another attempt may succeed. */
  | { readonly kind: 'retry'; readonly reason: string }
  /** The provisioner is unavailable, which is no fault of this job. */
  | { readonly kind: 'unavailable'; readonly reason: string };

/** An instance that exists, as the provisioner labels it. */
export interface ProvisionedInstance {
  readonly name: string;
  readonly instanceId: bigint;
  readonly userId: string;
  readonly productId: bigint;
  readonly size: InstanceSize;
  readonly createdAt: Date;
  /** Whether it serves now. */
  readonly ready: boolean;
  /** Why it does not; empty if it does. */
  readonly reason: string;
  /** Empty: it has none yet. */
  readonly address: string;
  /** Tells this instance from an earlier or later one of the same name. */
  readonly handle: string;
}

/** How an instance that runs, or ran, is now. */
export interface InstanceStateChange {
  readonly instanceId: bigint;
  readonly state: 'RUNNING' | 'DOWN' | 'LOST';
  /** Why it does not run; empty if it does. */
  readonly reason: string;
  readonly address: string;
}

export abstract class Provisioner {
  /**
   * Creates the instance, and waits until it runs. The name is its identity: creating it again gives `running`. Creates
   * nothing once the job's lease is over, because then another worker may have the job. Expected failures are values.
   *
   * @param signal ends the wait, with `unavailable`
   */
  abstract create(job: InstanceJob, signal: AbortSignal): Promise<ProvisionOutcome>;
  /**
   * Makes sure that this job's instance does not exist. An instance with its name but another owner or size stays.
   * @throws UNAVAILABLE when the provisioner is unavailable
   */
  abstract remove(job: InstanceJob): Promise<void>;
  /** All instances with Kaimai's labels. @throws UNAVAILABLE when the provisioner is unavailable */
  abstract list(): Promise<readonly ProvisionedInstance[]>;
  /** Removes exactly this instance. @throws UNAVAILABLE when the provisioner is unavailable */
  abstract removeListed(instance: ProvisionedInstance): Promise<void>;
  /** The states of these instances as far as they are known without asking the provisioner. */
  abstract statesOf(instanceIds: readonly bigint[]): readonly InstanceStateChange[];
  /** @param listener called when the state of an instance may have changed */
  abstract onChange(listener: (instanceId: bigint) => void): void;
}

export type ReportOutcome =
  | { readonly kind: 'taken' }
  /** The product domain has no such request, or another report of it. It will never accept this one. */
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'retry'; readonly reason: string }
  /** The product domain does not answer, or rejects this caller. */
  | { readonly kind: 'unavailable'; readonly reason: string };

/** Nothing was reported. The job is claimed again when its lease is over. */
interface Unreported {
  readonly kind: 'unreported';
  readonly reason: string;
}

function unreported(err: unknown): Unreported {
  return { kind: 'unreported', reason: errorText(err) };
}

export abstract class InstanceReporter {
  /**
   * Reports the results of jobs to the product domain. Repeating a report changes nothing.
   * @returns one outcome for each job, in order
   */
  abstract report(jobs: readonly InstanceJob[]): Promise<readonly ReportOutcome[]>;
}

export interface InstanceJobOptions {
  /** Attempts after which the job is FAILED. */
  readonly maxAttempts: number;
  /** Wait before the second attempt. It doubles with each further one. */
  readonly retryBackoffMs: number;
  /** Renewed while the job is worked on. The jobs of a dead worker wait for its end. */
  readonly leaseMs: number;
}

/** What one attempt at an instance came to. */
export type CreationOutcome =
  | { readonly kind: 'created' }
  /** For good: the order is refunded. */
  | { readonly kind: 'failed'; readonly reason: string }
  /** Another attempt follows. */
  | { readonly kind: 'retry'; readonly reason: string }
  /** The lease ended meanwhile, and another worker has the job. */
  | { readonly kind: 'taken' }
  /** No job can be worked on at present. */
  | { readonly kind: 'unavailable'; readonly reason: string };

/** Why no job can be worked on at present, as when the other side cannot be reached; undefined if this job was. */
export type StallReason = string | undefined;

const LAST_RETRY_MS = 60_000;
/** Results that a process keeps in order to report them itself. They are reported long before their leases end. */
const KEPT_MAX = 1_000;
/** So that results which did not fit, or that a dead worker left, are not reported last. */
const CLAIMED_EVERY = 4;

/*
 * The steps of a job. Each is committed before the next begins and may be repeated, so a crash loses nothing: when the
 * lease of the dead worker ends, another worker continues with the step that the record says.
 *
 *     PROCESSING ── create ──> SUCCESS ─────────── report ──> reported
 *         │  ↑ retry after a wait
 *         └─ failed, or out of attempts ──> FAILED ── remove ── report ──> reported
 *
 * FAILED is set before the instance that may exist is removed. No worker creates an instance for a FAILED job, so the
 * removal cannot hit an instance that another worker has created for a SUCCESS. The report of a failure waits for the
 * removal. Only the holder of the lease sets FAILED, because the next holder may succeed.
 *
 * A worker reports its own results without claiming them again, which would write each row once more: it keeps the lease
 * until then.
 */
export class InstanceJobUsecase {
  /** On record, and under leases of this worker. */
  private readonly kept: InstanceJob[] = [];
  private reportRounds = 0;

  constructor(
    private readonly logs: InstanceLogRepo,
    private readonly provisioner: Provisioner,
    private readonly reporter: InstanceReporter,
    private readonly options: InstanceJobOptions,
    private readonly logger: Logger,
    private readonly trace: Trace = new NoTrace(),
  ) {}

  /** Claims the next job whose instance is to be created; undefined if none is due. */
  claimCreation(): Promise<InstanceJob | undefined> {
    return this.logs.claimToCreate(this.options.leaseMs);
  }

  /** Makes one attempt at a claimed job. `signal` ends its wait, and leaves the job to another worker. */
  async create(job: InstanceJob, signal: AbortSignal): Promise<CreationOutcome> {
    const outcome = await this.holding(job, () =>
      this.trace.resume('instance create', job.trace, () => this.provisioner.create(job, signal)),
    );
    switch (outcome.kind) {
      case 'running':
        return this.settle({ job, status: 'SUCCESS', reason: '', address: outcome.address });
      case 'failed':
        return this.settle({ job, status: 'FAILED', reason: outcome.reason, address: '' });
      case 'retry': {
        const attempts = job.attempts + 1;
        if (attempts >= this.options.maxAttempts) {
          const reason = `gave up after ${attempts} attempts: ${outcome.reason}`;
          return this.settle({ job, status: 'FAILED', reason, address: '' });
        }
        await this.logs.countAttempt(job, outcome.reason, this.retryAfterMs(attempts));
        return outcome;
      }
      case 'unavailable':
        await this.logs.release(job, 0);
        return outcome;
      default:
        return outcome satisfies never;
    }
  }

  /** At most `limit` jobs whose outcome is to be reported, of this worker or claimed; undefined if there are none. */
  async claimReports(limit: number): Promise<readonly InstanceJob[] | undefined> {
    // The results that were recorded by one statement are kept one after the other in this turn of the event loop.
    await setImmediate();
    this.reportRounds += 1;
    if (this.kept.length > 0 && this.reportRounds % CLAIMED_EVERY !== 0) return this.kept.splice(0, limit);
    const claimed = await this.logs.claimToReport(limit, this.options.leaseMs);
    const jobs = claimed.length > 0 ? claimed : this.kept.splice(0, limit);
    return jobs.length === 0 ? undefined : jobs;
  }

  /** Leaves results that it has kept to other workers, which would otherwise wait until the leases end. */
  async leaveReports(): Promise<void> {
    await Promise.all(this.kept.splice(0).map((job) => this.logs.release(job, 0)));
  }

  /** Reports the outcomes of claimed jobs. */
  async report(jobs: readonly InstanceJob[]): Promise<StallReason> {
    const { leaseMs } = this.options;
    const renew = async () => {
      await Promise.all(jobs.map((job) => this.logs.renew(job, leaseMs)));
    };
    const outcomes = await whileRenewing(leaseMs, renew, () => this.reportAll(jobs));
    const reasons = await Promise.all(
      jobs.map((job, i) => this.recordReport(job, outcomes[i] as ReportOutcome | Unreported).catch(errorText)),
    );
    return reasons.every((reason) => reason !== undefined) ? reasons[0] : undefined;
  }

  /** The removal of one failed instance, if it fails, delays only its own report. */
  private async reportAll(jobs: readonly InstanceJob[]): Promise<readonly (ReportOutcome | Unreported)[]> {
    const removals = await Promise.all(jobs.map((job) => this.removeFailed(job)));
    const ready = jobs.filter((_, i) => removals[i] === undefined);
    let reported: Promise<readonly ReportOutcome[]> | undefined;
    // One call for all of them, as part of the first one's trace. Each has its own span around it.
    const outcomes = await Promise.all(
      ready.map((job, i) =>
        this.trace
          .resume('instance report', job.trace, async () => {
            reported ??= this.reporter.report(ready);
            return (await reported)[i] as ReportOutcome;
          })
          .catch(unreported),
      ),
    );
    let next = 0;
    return removals.map((failure) => failure ?? (outcomes[next++] as ReportOutcome | Unreported));
  }

  private async removeFailed(job: InstanceJob): Promise<Unreported | undefined> {
    if (job.status !== 'FAILED') return undefined;
    return this.provisioner.remove(job).then(() => undefined, unreported);
  }

  /** @returns undefined when the product domain accepted or refused the report for good, else why to try again */
  private async recordReport(job: InstanceJob, outcome: ReportOutcome | Unreported): Promise<string | undefined> {
    switch (outcome.kind) {
      case 'taken':
        await this.logs.markReported(job, '');
        return undefined;
      case 'refused':
        await this.logs.markReported(job, outcome.reason);
        this.logger.error('the product domain refused the report of an instance', {
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
      case 'unreported':
        return outcome.reason;
      default:
        return outcome satisfies never;
    }
  }

  private holding<T>(job: InstanceJob, work: () => Promise<T>): Promise<T> {
    const { leaseMs } = this.options;
    return whileRenewing(leaseMs, () => this.logs.renew(job, leaseMs), work);
  }

  private async settle(outcome: InstanceOutcome): Promise<CreationOutcome> {
    const { job, status, reason } = outcome;
    const keeps = this.kept.length < KEPT_MAX;
    const current = await this.logs.settle(keeps ? { ...outcome, keepMs: this.options.leaseMs } : outcome);
    // The lease ended meanwhile, and the next holder has given up the job: this instance must not exist.
    if (current === 'FAILED' && status === 'SUCCESS') await this.provisioner.remove(job);
    if (current !== status) return { kind: 'taken' };
    // If it was another worker that recorded this result, both report it, which changes nothing.
    if (keeps) this.kept.push({ ...job, status, reason });
    if (status === 'SUCCESS') return { kind: 'created' };
    const { instanceId, source, sourceId } = job;
    this.logger.error('an instance could not be created', { instanceId: String(instanceId), source, sourceId, reason });
    return { kind: 'failed', reason };
  }

  private retryAfterMs(attempts: number): number {
    return Math.min(this.options.retryBackoffMs * 2 ** Math.min(attempts - 1, 20), LAST_RETRY_MS);
  }
}
