import { unavailable } from '../../../gen/common/v1/errors.js';

export interface TokenRevocation {
  readonly userId: string;
  /** The first generation of tokens that is not revoked. */
  readonly validGeneration: bigint;
}

/** Where revocations are stored. */
export abstract class TokenRevocationSource {
  /** The users whose tokens were revoked in this last time. */
  abstract listRevocations(withinMs: number): Promise<readonly TokenRevocation[]>;
}

export interface TokenRevocationPolicy {
  /** The longest time that a token is accepted after it was signed. */
  readonly lifetimeMs: number;
}

/** A revocation whose transaction commits later than others of its time is found by the next refreshes. */
const OVERLAP_MS = 60_000;

/**
 * The tokens that were revoked and have not expired. Password changes are rare, so a worker knows all of them and asks the
 * database once for each refresh, not for each call. Between refreshes, and while the database is away, the last known ones
 * stay in force.
 */
export class TokenRevocations {
  private readonly generations = new Map<string, { readonly valid: bigint; readonly knownAtMs: number }>();
  private refreshedAtMs: number | undefined;

  /** @param now a monotonic clock, in ms */
  constructor(
    private readonly source: TokenRevocationSource,
    private readonly policy: TokenRevocationPolicy,
    private readonly now: () => number = () => performance.now(),
  ) {}

  async refresh(): Promise<void> {
    const startedAtMs = this.now();
    const { lifetimeMs } = this.policy;
    const sinceMs = this.refreshedAtMs === undefined ? lifetimeMs : startedAtMs - this.refreshedAtMs + OVERLAP_MS;
    const found: readonly TokenRevocation[] = await this.source.listRevocations(Math.min(sinceMs, lifetimeMs));
    for (const { userId, validGeneration } of found) {
      const known = this.generations.get(userId);
      if (known && known.valid >= validGeneration) continue;
      // At the end of the map, which is in the order of knownAtMs.
      this.generations.delete(userId);
      this.generations.set(userId, { valid: validGeneration, knownAtMs: startedAtMs });
    }
    this.refreshedAtMs = startedAtMs;
    for (const [userId, { knownAtMs }] of this.generations) {
      if (startedAtMs - knownAtMs <= lifetimeMs) break;
      this.generations.delete(userId);
    }
  }

  /** @throws UNAVAILABLE before the first refresh has succeeded */
  isRevoked(userId: string, generation: bigint): boolean {
    if (this.refreshedAtMs === undefined) throw unavailable('the revoked tokens are not known yet; try again shortly');
    const known = this.generations.get(userId);
    return known !== undefined && generation < known.valid;
  }
}
