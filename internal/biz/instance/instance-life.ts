import { instanceNotFound } from '../../../gen/instance/v1/errors.js';
import type { Identity } from '../identity.js';
import { NIL_UUID } from '../identity.js';
import { type Page, type PageRequest, pageOf } from '../page.js';
import type { InstanceStateChange } from './instance-job.js';
import type { InstanceJob, InstanceSize } from './instance-log.js';
import { InstanceRemovalRepo } from './instance-removal.js';

/**
 * `STARTING` until it runs, or `FAILED` if it never will. `DOWN`: it exists, but does not serve. `LOST`: it is gone, and
 * no removal was requested. `REMOVING` and `REMOVED`: its owner, an operator or a refund asked for it.
 */
export type InstanceState = 'STARTING' | 'RUNNING' | 'DOWN' | 'LOST' | 'REMOVING' | 'REMOVED' | 'FAILED';

export interface Instance {
  readonly instanceId: bigint;
  readonly productId: bigint;
  /** UUID. */
  readonly userId: string;
  readonly orderId: bigint | undefined;
  readonly name: string;
  readonly size: InstanceSize;
  readonly state: InstanceState;
  /** Why it does not run; empty if it does. */
  readonly reason: string;
  /** Empty: it has none. */
  readonly address: string;
  readonly createdAt: Date;
  /** When the state began. */
  readonly since: Date;
}

export interface InstanceFilter {
  readonly userId?: string | undefined;
  /** undefined: all but REMOVED and FAILED. */
  readonly state?: InstanceState | undefined;
}

/** An instance whose removal one worker has claimed. */
export interface InstanceRemoval {
  readonly instance: InstanceJob;
  readonly attempts: number;
}

export abstract class InstanceLifeRepo extends InstanceRemovalRepo {
  /** Newest first. */
  abstract list(filter: InstanceFilter, page: PageRequest): Promise<Page<Instance>>;
  abstract find(instanceId: bigint, userId: string | undefined): Promise<Instance | undefined>;
  /** Claims requested removals of instances whose creation has been reported: before, its worker still needs it. */
  abstract claimRemovals(limit: number, leaseMs: number): Promise<readonly InstanceRemoval[]>;
  abstract markRemoved(instanceIds: readonly bigint[]): Promise<void>;
  abstract postponeRemoval(instanceId: bigint, reason: string, retryAfterMs: number): Promise<void>;
  /**
   * Stores states of instances that were created and whose removal was not requested.
   * @returns those that changed
   */
  abstract setStates(states: readonly InstanceStateChange[]): Promise<readonly InstanceStateChange[]>;
  /**
   * Which of these instances no record knows: neither an instance log that has not failed or been removed, nor an open
   * request of the product domain.
   */
  abstract findUnowned(instanceIds: readonly bigint[]): Promise<readonly bigint[]>;
  /** Instances that should exist, were created at least `minAgeMs` ago, and are not among these. At most `limit`. */
  abstract findMissing(existing: readonly bigint[], minAgeMs: number, limit: number): Promise<readonly bigint[]>;
  /** How many instances have each state. */
  abstract countStates(): Promise<Readonly<Record<'RUNNING' | 'DOWN' | 'LOST' | 'REMOVING', number>>>;
  /** Whether this replica does the next comparison; no other one does until `intervalMs` have passed. */
  abstract takeTurn(intervalMs: number): Promise<boolean>;
}

/** Owners see and delete their instances; operators all. */
export class InstanceLifeUsecase {
  constructor(private readonly instances: InstanceLifeRepo) {}

  list(caller: Identity, filter: InstanceFilter, page: PageRequest): Promise<Page<Instance>> {
    return this.instances.list({ ...filter, userId: ownerOf(caller) ?? filter.userId }, pageOf(page));
  }

  /** @throws INSTANCE_NOT_FOUND, for another user's instance too */
  async get(caller: Identity, instanceId: bigint): Promise<Instance> {
    return (await this.instances.find(instanceId, ownerOf(caller))) ?? noInstance(instanceId);
  }

  /**
   * Removes an instance for good. Its order stays as it is. Repeating it changes nothing.
   * @throws INSTANCE_NOT_FOUND, for another user's instance too
   */
  async delete(caller: Identity, instanceId: bigint): Promise<Instance> {
    const instance = await this.get(caller, instanceId);
    if (instance.state === 'FAILED') return instance;
    const reason = isOperator(caller) ? 'deleted by an operator' : 'deleted by its owner';
    await this.instances.requestRemovals([{ instanceId, reason }]);
    return this.get(caller, instanceId);
  }
}

function isOperator({ role }: Identity): boolean {
  return role === 'ADMIN' || role === 'INTERNAL';
}

/** Whose instances the caller sees; undefined: all. */
function ownerOf(caller: Identity): string | undefined {
  return isOperator(caller) ? undefined : (caller.userId ?? NIL_UUID);
}

function noInstance(instanceId: bigint): never {
  throw instanceNotFound(`no instance ${instanceId}`, { metadata: { instance_id: String(instanceId) } });
}
