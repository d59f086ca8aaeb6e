import { errorText } from '../../kratos/errors/error-text.js';
import type { Logger } from '../../kratos/log/logger.js';
import type { InstanceStateChange, Provisioner } from './instance-job.js';
import type { InstanceLifeRepo, InstanceRemoval } from './instance-life.js';

export interface ReconcilePolicy {
  /** Time between two comparisons. */
  readonly intervalMs: number;
  /** Age at which an instance that no record knows is removed. */
  readonly orphanGraceMs: number;
  /** Lease of a removal. */
  readonly leaseMs: number;
}

export interface ReconcileResult {
  /** Instances whose state changed. */
  readonly changed: number;
  /** Instances that were found to be gone. */
  readonly lost: number;
  /** Instances that no record knew, and that were removed. */
  readonly orphansRemoved: number;
}

const REMOVALS = 32;
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 60_000;
/** Instances whose loss one round records. */
const LOST_BATCH = 1_000;
/** A log may say SUCCESS this much later than the list of what exists was begun. */
const LIST_MARGIN_MS = 5_000;

/** Keeps the records and what exists the same: removes what must not exist, and records what became of the rest. */
export class InstanceReconcileUsecase {
  private readonly changedIds = new Set<bigint>();

  constructor(
    private readonly instances: InstanceLifeRepo,
    private readonly provisioner: Provisioner,
    private readonly policy: ReconcilePolicy,
    private readonly logger: Logger,
  ) {}

  /** @param listener called when there are states to record */
  onChange(listener: () => void): void {
    this.provisioner.onChange((instanceId) => {
      this.changedIds.add(instanceId);
      listener();
    });
  }

  /** Whether there are states to record. */
  get hasChanges(): boolean {
    return this.changedIds.size > 0;
  }

  /** Claims removals that are due; undefined if there are none. */
  async claimRemovals(): Promise<readonly InstanceRemoval[] | undefined> {
    const removals = await this.instances.claimRemovals(REMOVALS, this.policy.leaseMs);
    return removals.length === 0 ? undefined : removals;
  }

  /** Removes the instances. @returns why none could be removed; undefined if one was */
  async remove(removals: readonly InstanceRemoval[]): Promise<string | undefined> {
    const reasons = await Promise.all(removals.map((removal) => this.removeOne(removal)));
    const removed = removals.filter((_, i) => reasons[i] === undefined).map(({ instance }) => instance.instanceId);
    if (removed.length === 0) return reasons[0];
    await this.instances.markRemoved(removed);
    return undefined;
  }

  /** Records the states that changed since the last call. @returns how many */
  async recordChanges(): Promise<number> {
    const ids = [...this.changedIds];
    if (ids.length === 0) return 0;
    this.changedIds.clear();
    try {
      return (await this.record(this.provisioner.statesOf(ids))).length;
    } catch (err) {
      for (const id of ids) this.changedIds.add(id);
      throw err;
    }
  }

  /**
   * Compares the records with what exists, if it is this replica's turn.
   * @returns undefined if it is not
   * @throws UNAVAILABLE
   */
  async compare(): Promise<ReconcileResult | undefined> {
    if (!(await this.instances.takeTurn(this.policy.intervalMs))) return undefined;
    const startedMs = performance.now();
    const existing = await this.provisioner.list();
    const states = existing.map(({ instanceId, ready, reason, address }): InstanceStateChange => {
      return { instanceId, state: ready ? 'RUNNING' : 'DOWN', reason, address };
    });
    const changed = await this.record(states);
    const unowned = new Set(await this.instances.findUnowned(existing.map(({ instanceId }) => instanceId)));
    let orphansRemoved = 0;
    for (const instance of existing) {
      if (!unowned.has(instance.instanceId)) continue;
      const ageMs = Date.now() - instance.createdAt.getTime();
      if (ageMs < this.policy.orphanGraceMs) continue;
      await this.provisioner.removeListed(instance);
      orphansRemoved++;
      this.logger.error('an instance that no record knows was removed', {
        name: instance.name,
        userId: instance.userId,
      });
    }
    const minAgeMs = performance.now() - startedMs + LIST_MARGIN_MS;
    const ids = existing.map(({ instanceId }) => instanceId);
    const missing = await this.instances.findMissing(ids, minAgeMs, LOST_BATCH);
    const reason = 'it does not exist any more';
    const lost = await this.record(
      missing.map((instanceId) => ({ instanceId, state: 'LOST' as const, reason, address: '' })),
    );
    return { changed: changed.length, lost: lost.length, orphansRemoved };
  }

  private async record(states: readonly InstanceStateChange[]): Promise<readonly InstanceStateChange[]> {
    if (states.length === 0) return [];
    const changed = await this.instances.setStates(states);
    for (const { instanceId, state, reason } of changed) {
      const fields = { instanceId: String(instanceId), reason };
      if (state === 'LOST') this.logger.error('an instance is lost', fields);
      else if (state === 'DOWN') this.logger.warn('an instance is down', fields);
    }
    return changed;
  }

  private async removeOne({ instance, attempts }: InstanceRemoval): Promise<string | undefined> {
    try {
      await this.provisioner.remove(instance);
      return undefined;
    } catch (err) {
      const retryAfterMs = Math.min(FIRST_RETRY_MS * 2 ** Math.min(attempts, 20), LAST_RETRY_MS);
      await this.instances.postponeRemoval(instance.instanceId, errorText(err), retryAfterMs);
      return errorText(err);
    }
  }
}
