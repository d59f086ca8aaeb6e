import type { InstanceLifeRepo, InstanceRemoval } from '../biz/instance/instance-life.js';
import type { InstanceReconcileUsecase } from '../biz/instance/instance-reconcile.js';
import type { BackgroundServer } from '../kratos/background/background.js';
import type { BackgroundMeter } from '../kratos/background/background-meter.js';
import { Loop } from '../kratos/background/loop.js';
import type { Logger } from '../kratos/log/logger.js';
import type { Metrics } from '../kratos/metrics/metrics.js';

export interface InstanceReconcilerOptions {
  readonly pollIntervalMs: number;
  readonly intervalMs: number;
}

const REMOVAL_LANES = 2;
const STATES = ['RUNNING', 'DOWN', 'LOST', 'REMOVING'] as const;

/**
 * Removes instances on request, records the states of those that run, and compares the records with what exists. Any
 * number of replicas may run it; one of them compares.
 */
export class InstanceReconciler implements BackgroundServer {
  readonly name = 'instance_reconciler';
  private readonly loops: readonly (Loop | Loop<readonly InstanceRemoval[]>)[];

  constructor(
    usecase: InstanceReconcileUsecase,
    instances: InstanceLifeRepo,
    { pollIntervalMs, intervalMs }: InstanceReconcilerOptions,
    logger: Logger,
    metrics: Metrics,
  ) {
    const log = logger.child({ server: this.name });
    const orphans = metrics.count(
      'instance_orphans_removed_total',
      'Instances that no record knew, and that were removed.',
    );
    const lost = metrics.count('instances_lost_total', 'Instances that were found to be gone without a removal.');
    const counts = new Map<(typeof STATES)[number], number>();
    metrics.gauge(
      'instances',
      'Instances that were created, by state, at the last comparison of this process.',
      'max',
      () => STATES.map((state) => [{ state }, counts.get(state) ?? 0] as const),
    );
    const removing = new Loop<readonly InstanceRemoval[]>({
      name: 'instance removals',
      lanes: REMOVAL_LANES,
      idleMs: pollIntervalMs,
      logger: log,
      claim: () => usecase.claimRemovals(),
      run: async (removals) => {
        const reason = await usecase.remove(removals);
        return reason === undefined ? { kind: 'done', units: removals.length } : { kind: 'stalled', reason };
      },
    });
    const recording = new Loop({
      name: 'instance states',
      idleMs: intervalMs,
      logger: log,
      // A change wakes it. Those that come during a round share the next one.
      round: async () => ({ units: await usecase.recordChanges(), again: usecase.hasChanges }),
    });
    usecase.onChange(() => recording.wake());
    const comparing = new Loop({
      name: 'instance comparison',
      idleMs: intervalMs,
      logger: log,
      round: async () => {
        const result = await usecase.compare();
        if (result === undefined) return { units: 0, again: false };
        orphans.add(result.orphansRemoved);
        lost.add(result.lost);
        for (const [state, n] of Object.entries(await instances.countStates())) counts.set(state as never, n);
        return { units: result.changed + result.lost + result.orphansRemoved, again: false };
      },
    });
    this.loops = [removing, recording, comparing];
  }

  observe(meter: BackgroundMeter): void {
    for (const loop of this.loops) loop.observe(meter);
  }

  async start(): Promise<void> {
    for (const loop of this.loops) await loop.start();
  }

  async stop(deadline: AbortSignal): Promise<void> {
    await Promise.all(this.loops.map((loop) => loop.stop(deadline)));
  }
}
