import { Counter, type Registry } from 'prom-client';
import type { InstanceJobUsecase, StallReason } from '../biz/instance/instance-job.js';
import type { InstanceJob } from '../biz/instance/instance-log.js';
import type { BackgroundServer } from '../kratos/background/background.js';
import type { BackgroundMeter } from '../kratos/background/background-meter.js';
import { type JobOutcome, Loop } from '../kratos/background/loop.js';
import type { Logger } from '../kratos/log/logger.js';

export interface InstanceWorkerOptions {
  /** Instances created side by side. */
  readonly concurrency: number;
  readonly pollIntervalMs: number;
}

const REPORT_BATCH = 32;
const REPORT_LANES = 2;

/** Creates the instances of jobs that are due and reports their outcomes. Any number of replicas may run it. */
export class InstanceWorker implements BackgroundServer {
  readonly name = 'instance_worker';
  private readonly creating: Loop<InstanceJob>;
  private readonly reporting: Loop<readonly InstanceJob[]>;

  constructor(jobs: InstanceJobUsecase, options: InstanceWorkerOptions, logger: Logger, registry: Registry) {
    const log = logger.child({ server: this.name });
    const rounds = new Counter({
      name: 'kaimai_instance_worker_rounds_total',
      help: 'Rounds of creating (one attempt at one instance) and of reporting (a batch), by outcome.',
      labelNames: ['work', 'outcome'] as const,
      registers: [registry],
    });
    const outcomeOf = (work: 'create' | 'report', stall: StallReason, units: number): JobOutcome => {
      rounds.inc({ work, outcome: stall === undefined ? 'busy' : 'stalled' });
      return stall === undefined ? { kind: 'done', units } : { kind: 'stalled', reason: stall };
    };
    const { pollIntervalMs: idleMs } = options;
    this.reporting = new Loop({
      name: 'instance reports',
      lanes: REPORT_LANES,
      idleMs,
      logger: log,
      claim: () => jobs.claimReports(REPORT_BATCH),
      run: async (batch) => outcomeOf('report', await jobs.report(batch), batch.length),
    });
    this.creating = new Loop({
      name: 'instance creation',
      lanes: options.concurrency,
      idleMs,
      logger: log,
      claim: () => jobs.claimCreation(),
      run: async (job) => {
        const stall = await jobs.create(job);
        if (stall === undefined) this.reporting.wake();
        return outcomeOf('create', stall, 1);
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
    await this.creating.stop(deadline);
    await this.reporting.stop(deadline);
  }
}
