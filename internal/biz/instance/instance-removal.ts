/** An instance that must not exist any more, and why. */
export interface InstanceRemovalRequest {
  readonly instanceId: bigint;
  readonly reason: string;
}

/** Where the resource domain records removals. */
export abstract class InstanceRemovalRepo {
  /** Records that these instances must not exist. Repeating it keeps the first reason. */
  abstract requestRemovals(removals: readonly InstanceRemovalRequest[]): Promise<void>;
}
