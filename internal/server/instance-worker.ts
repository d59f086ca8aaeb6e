import { Counter, type Registry } from 'prom-client';
import type { InstanceJobUsecase } from '../biz/instance/instance-job.js';
import type { Server } from '../kratos/app/server.js';
import type { BackgroundMeter } from '../kratos/background/background-meter.js';
import { RoundLoop } from '../kratos/background/round-loop.js';
import type { Logger } from '../kratos/log/logger.js';

export interface InstanceWorkerOptions {
  /** Instances created side by side. */
  readonly concurrency: number;
  readonly pollIntervalMs: number;
}

const REPORT_BATCH = 32;
const REPORT_LANES = 2;

/** Creates the instances of jobs that are due and reports what became of them. Any number of replicas may run it. */
export class InstanceWorker implements Server {
  readonly name = 'instance_worker';
  private readonly creating: RoundLoop;
  private readonly reporting: RoundLoop;
  private meter: BackgroundMeter | undefined;

  constructor(jobs: InstanceJobUsecase, options: InstanceWorkerOptions, logger: Logger, registry: Registry) {
    const log = logger.child({ server: this.name });
    const rounds = new Counter({
      name: 'kaimai_instance_worker_rounds_total',
      help: 'Rounds of creating (one attempt at one instance) and of reporting (a batch), by outcome.',
      labelNames: ['work', 'outcome'] as const,
      registers: [registry],
    });
    const { pollIntervalMs } = options;
    this.reporting = new RoundLoop(
      {
        name: 'instance reports',
        lanes: REPORT_LANES,
        pollIntervalMs,
        round: async (found) => {
          const round = await jobs.reportRound(REPORT_BATCH, found);
          if (round.outcome !== 'idle') rounds.inc({ work: 'report', outcome: round.outcome });
          return round;
        },
      },
      log,
    );
    this.creating = new RoundLoop(
      {
        name: 'instance creation',
        lanes: options.concurrency,
        pollIntervalMs,
        round: async (found) => {
          const startedAt = performance.now();
          const round = await jobs.createRound(found);
          if (round.outcome === 'busy') this.meter?.round(1, performance.now() - startedAt);
          if (round.outcome === 'stalled') this.meter?.failed();
          if (round.outcome !== 'idle') rounds.inc({ work: 'create', outcome: round.outcome });
          if (round.outcome === 'busy') this.reporting.wake();
          return round;
        },
      },
      log,
    );
  }

  observe(meter: BackgroundMeter): void {
    this.meter = meter;
  }

  async start(): Promise<void> {
    this.creating.start();
    this.reporting.start();
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
