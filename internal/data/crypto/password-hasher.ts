import { createHash, timingSafeEqual } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { setTimeout } from 'node:timers/promises';
import { hash, type Options, parseOptions, verify } from '@node-rs/argon2';
import { BulkheadRejectedError, bulkhead } from 'cockatiel';
import { passwordHashingBusy } from '../../../gen/user/v1/errors.js';
import { type HashPurpose, type PasswordCheck, PasswordHasher } from '../../biz/user/user.js';
import { md5Hash } from '../../biz/user/user-import.js';
import type { Config } from '../../conf/config.js';

/** argon2id in PHC strings, and md5 of imported users, which is outdated by its nature. */
export class Argon2PasswordHasher extends PasswordHasher {
  private readonly cost: Pick<Options, 'memoryCost' | 'timeCost' | 'parallelism'>;
  /**
   * A hash holds a core for its whole time, and one of libuv's few threads, which files and names are looked up on,
   * too.
   */
  private readonly turns: ReturnType<typeof bulkhead>;
  /** Each has at most its concurrency among the turns, so that registrations and logins alternate when both queue. */
  private readonly queues: Readonly<Record<HashPurpose, ReturnType<typeof bulkhead>>>;
  private readonly restFactor: number;
  private restUntil = 0;

  /** @param workers processes on this machine that hash as this one does */
  constructor(
    { memoryKib, iterations, parallelism, concurrency, queue }: Config['auth']['password'],
    workers: number,
    cores = availableParallelism(),
    private readonly sleep: (ms: number) => Promise<unknown> = setTimeout,
  ) {
    super();
    this.cost = { memoryCost: memoryKib, timeCost: iterations, parallelism };
    this.queues = { login: bulkhead(concurrency, queue), registration: bulkhead(concurrency, queue) };
    this.turns = bulkhead(concurrency, concurrency);
    this.restFactor = Math.max(0, (concurrency * workers) / (cores / 2) - 1);
  }

  override async hash(password: string, purpose: HashPurpose = 'login'): Promise<string> {
    return this.inTurn(() => hash(bytesOf(password), this.cost), purpose);
  }

  override async verify(password: string, stored: string | undefined): Promise<PasswordCheck> {
    if (stored === undefined || stored.startsWith('$md5$')) {
      // The same work whether there is such a user, and before anything is known of the password.
      const newHash = await this.hash(password);
      const matches = stored !== undefined && md5Matches(password, stored);
      return { matches, newHash: matches ? newHash : undefined };
    }
    const matches = await this.inTurn(() => verify(stored, bytesOf(password)));
    return { matches, newHash: matches && this.isOutdated(stored) ? await this.hash(password) : undefined };
  }

  private isOutdated(stored: string): boolean {
    const { memoryCost, timeCost, parallelism } = parseOptions(stored);
    return (
      memoryCost !== this.cost.memoryCost || timeCost !== this.cost.timeCost || parallelism !== this.cost.parallelism
    );
  }

  private async inTurn<T>(work: () => Promise<T>, purpose: HashPurpose = 'login'): Promise<T> {
    try {
      return await this.queues[purpose].execute(() => this.turns.execute(() => this.rested(work)));
    } catch (err) {
      if (err instanceof BulkheadRejectedError)
        throw passwordHashingBusy(`too many ${purpose}s at once: try again`, { retryAfterMs: 1_000 });
      throw err;
    }
  }

  /** Keeps all workers together to half of the cores, by pauses as long as the last hash asks for. */
  private async rested<T>(work: () => Promise<T>): Promise<T> {
    const restMs = this.restUntil - performance.now();
    if (restMs > 0) await this.sleep(restMs);
    const startedAt = performance.now();
    try {
      return await work();
    } finally {
      const endedAt = performance.now();
      this.restUntil = endedAt + (endedAt - startedAt) * this.restFactor;
    }
  }
}

/** Keyboards write one character in several forms. */
function bytesOf(password: string): Buffer {
  return Buffer.from(password.normalize('NFKC'));
}

/** MD5 of the raw bytes: the other system did not normalize passwords. */
function md5Matches(password: string, stored: string): boolean {
  const given = md5Hash(createHash('md5').update(password).digest('hex'));
  return given.length === stored.length && timingSafeEqual(Buffer.from(given), Buffer.from(stored));
}
