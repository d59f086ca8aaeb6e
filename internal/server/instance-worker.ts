import type { CreationOutcome, InstanceJobUsecase } from '../biz/instance/instance-job.js';
import type { InstanceJob } from '../biz/instance/instance-log.js';
import type { BackgroundServer } from '../kratos/background/background.js';
import type { BackgroundMeter } from '../kratos/background/background-meter.js';
import { type JobOutcome, Loop } from '../kratos/background/loop.js';
import type { Logger } from '../kratos/log/logger.js';
import type { Metrics } from '../kratos/metrics/metrics.js';

export interface InstanceWorkerOptions {
  /** Instances created side by side. */
  readonly concurrency: number;
  readonly pollIntervalMs: number;
}

const CREATIONS: readonly CreationOutcome['kind'][] = ['created', 'failed', 'retry', 'taken', 'unavailable'];
const REPORT_BATCH = 250;
const REPORT_LANES = 2;

/** Creates the instances of jobs that are due and reports their outcomes. Any number of replicas may run it. */
export class InstanceWorker implements BackgroundServer {
  readonly name = 'instance_worker';
  private readonly creating: Loop<InstanceJob>;
  private readonly reporting: Loop<readonly InstanceJob[]>;
  private readonly stopping = new AbortController();

  constructor(
    private readonly jobs: InstanceJobUsecase,
    options: InstanceWorkerOptions,
    logger: Logger,
    metrics: Metrics,
  ) {
    const log = logger.child({ server: this.name });
    const creations = metrics.counts(
      'instance_attempts_total',
      'Attempts to create an instance, by outcome: failed is for good, after retry another attempt follows, taken by another worker, unavailable provisioner.',
      'outcome',
      CREATIONS,
    );
    const reports = metrics.counts(
      'instance_reports_total',
      'Batches of results reported to the product domain, by outcome; stalled means that none could be reported.',
      'outcome',
      ['done', 'stalled'],
    );
    const { pollIntervalMs: idleMs } = options;
    this.reporting = new Loop({
      name: 'instance reports',
      lanes: REPORT_LANES,
      idleMs,
      logger: log,
      claim: () => jobs.claimReports(REPORT_BATCH),
      run: async (batch) => {
        const reason = await jobs.report(batch);
        reports[reason === undefined ? 'done' : 'stalled'].add();
        return reason === undefined ? { kind: 'done', units: batch.length } : { kind: 'stalled', reason };
      },
    });
    this.creating = new Loop({
      name: 'instance creation',
      lanes: options.concurrency,
      idleMs,
      logger: log,
      claim: () => jobs.claimCreation(),
      run: async (job) => {
        const outcome = await jobs.create(job, this.stopping.signal);
        creations[outcome.kind].add();
        if (outcome.kind === 'unavailable') return { kind: 'stalled', reason: outcome.reason };
        // Failures are reported, too.
        if (outcome.kind === 'created' || outcome.kind === 'failed') this.reporting.wake();
        return workOf(outcome);
      },
    });
  }

  observe(meter: BackgroundMeter): void {
    this.creating.observe(meter);
  }

  async start(): Promise<void> {
    await this.creating.start();
    await this.reporting.start();
  }

  /** There are new jobs: look now instead of at the next poll. */
  wake(): void {
    this.creating.wake();
  }

  /** Creations first, so that their outcomes may still be reported. */
  async stop(deadline: AbortSignal): Promise<void> {
    // An instance may take minutes until it is ready. Another worker goes on with it.
    this.stopping.abort();
    await this.creating.stop(deadline);
    await this.reporting.stop(deadline);
    if (!deadline.aborted) await this.jobs.leaveReports().catch(() => {});
  }
}

/** An instance that failed for good is counted apart from those that were created. */
function workOf({ kind }: CreationOutcome): JobOutcome {
  return { kind: 'done', units: kind === 'created' ? 1 : 0, isolated: kind === 'failed' ? 1 : 0 };
}
