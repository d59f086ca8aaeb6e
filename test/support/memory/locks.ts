/** A deadlock: transactions that wait for each other. */
export class Deadlock extends Error {
  override readonly name = 'Deadlock';
}

/** A lock owner. */
export interface LockOwner {
  /** The key this owner waits for. */
  waitsFor: string | undefined;
  readonly held: Set<string>;
}

interface Lock {
  owner: LockOwner;
  readonly queue: { readonly owner: LockOwner; readonly resolve: () => void; readonly reject: (err: Error) => void }[];
}

/** Exclusive locks by name, granted in the order of the requests. */
export class Locks {
  private readonly locks = new Map<string, Lock>();

  /** @param pause called while waiting for a lock */
  constructor(private readonly pause: (wait: Promise<void>) => Promise<void> = (wait) => wait) {}

  /** @throws Deadlock if waiting would close a cycle; the last one in the cycle loses */
  async acquire(owner: LockOwner, key: string): Promise<void> {
    if (this.tryAcquire(owner, key)) return;
    const lock = this.locks.get(key)!;
    for (let other: LockOwner | undefined = lock.owner; other; ) {
      if (other === owner) throw new Deadlock(`waiting for ${key} would never end`);
      other = other.waitsFor === undefined ? undefined : this.locks.get(other.waitsFor)?.owner;
    }
    owner.waitsFor = key;
    await this.pause(new Promise<void>((resolve, reject) => lock.queue.push({ owner, resolve, reject })));
  }

  /** Acquires the lock if it is free. */
  tryAcquire(owner: LockOwner, key: string): boolean {
    const lock = this.locks.get(key);
    if (lock) return lock.owner === owner;
    this.locks.set(key, { owner, queue: [] });
    owner.held.add(key);
    return true;
  }

  release(owner: LockOwner, key: string): void {
    const lock = this.locks.get(key);
    if (lock?.owner !== owner) return;
    owner.held.delete(key);
    const next = lock.queue.shift();
    if (!next) {
      this.locks.delete(key);
      return;
    }
    lock.owner = next.owner;
    next.owner.waitsFor = undefined;
    next.owner.held.add(key);
    next.resolve();
  }

  /** Releases all locks and leaves all queues. */
  releaseAll(owner: LockOwner): void {
    const queue = owner.waitsFor === undefined ? undefined : this.locks.get(owner.waitsFor)?.queue;
    const place = queue?.findIndex((w) => w.owner === owner) ?? -1;
    if (place >= 0) queue?.splice(place, 1)[0]?.reject(new Error('the transaction ended while it waited'));
    owner.waitsFor = undefined;
    for (const key of [...owner.held]) this.release(owner, key);
  }
}
