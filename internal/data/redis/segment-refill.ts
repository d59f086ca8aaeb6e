import { isSaleUnavailable } from '../../../gen/seckill/v1/errors.js';
import type { Admission, AdmissionResult, EpochOfItem, PurchaseRequest } from '../../biz/seckill/admission.js';
import { segmentsOf } from '../../biz/seckill/segment.js';
import type { Pace } from './pace.js';
import { type Level, stockOf, type UnitMove, type UnitMoves } from './unit-moves.js';

/** Looks at all segments for one set of purchases. Each that is not the last finds units that others then take. */
const MAX_ATTEMPTS = 64;
/** From this attempt on it waits for a random time, so that buyers of several segments do not take from each other in turn. */
const PATIENT_ATTEMPTS = 4;
const MAX_PAUSE_MS = 8;

/** The segments that answer, while no move between them is under way. */
interface KnownLevels {
  readonly levels: readonly Level[];
  /** Why not all segments, or not all units on their way, are known; undefined: they are. */
  readonly away: unknown;
}

type Refilled =
  | { readonly kind: 'FILLED'; readonly moves: readonly UnitMove[]; readonly away: unknown }
  /** The segments that answer have none, and others do not answer. */
  | { readonly kind: 'AWAY'; readonly away: unknown }
  | { readonly kind: 'EMPTY' }
  | { readonly kind: 'STALE' };

/**
 * Purchases that found their home segment without units. Units of other segments are moved there, and the purchases are
 * made again; so a user's limit and request ids are never judged anywhere but at home. SOLD_OUT is the answer only where
 * all segments were without units at one moment. While a segment does not answer, the others' units are taken.
 */
export class SegmentRefill {
  constructor(
    private readonly moves: UnitMoves,
    private readonly pace: Pace,
  ) {}

  /**
   * @returns one result for each request: STALE where units moved to and fro for too long, UNCONFIRMED where there may be
   * units in a segment that does not answer
   * @throws SALE_UNAVAILABLE when that is so for all of them
   */
  async admit(
    sale: EpochOfItem,
    home: { readonly segment: number; readonly admission: Pick<Admission, 'admitAll'> },
    requests: readonly PurchaseRequest[],
  ): Promise<readonly AdmissionResult[]> {
    const results: AdmissionResult[] = requests.map(() => ({ kind: 'SOLD_OUT' }));
    let open = requests.map((_, i) => i);
    for (let attempt = 0; attempt < MAX_ATTEMPTS && open.length > 0; attempt++) {
      if (attempt >= PATIENT_ATTEMPTS) await this.pace.pause(MAX_PAUSE_MS);
      const filled = await this.fill(
        sale,
        home.segment,
        open.map((i) => requests[i]!.quantity),
      );
      if (filled.kind === 'STALE') break;
      if (filled.kind === 'EMPTY') return results;
      if (filled.kind === 'AWAY') return unconfirmed(results, open, filled.away);
      // Sent together on one connection, so that hardly another caller can take the units in between.
      const putIn = Promise.all(filled.moves.map((move) => this.moves.putIn(sale, move)));
      const again = home.admission.admitAll(
        sale,
        open.map((i) => requests[i]!),
      );
      const [, outcomes] = await Promise.all([putIn, again]);
      // A note that stays is harmless: the move has arrived, and the sale keeper removes it.
      await Promise.allSettled(filled.moves.map((move) => this.moves.forget(sale, move)));
      open.forEach((i, at) => {
        results[i] = outcomes[at]!;
      });
      open = open.filter((i) => results[i]?.kind === 'SOLD_OUT');
      // Each further look would wait for the segment that does not answer.
      if (filled.away !== undefined && open.length > 0) return unconfirmed(results, open, filled.away);
    }
    for (const i of open) results[i] = { kind: 'STALE' };
    return results;
  }

  /**
   * Brings a unit to a segment that has none. @returns whether it has one now, unless others were faster; false where all
   * segments are empty
   * @throws SALE_UNAVAILABLE when a segment that may have units does not answer
   */
  async bringOne(sale: EpochOfItem, segment: number): Promise<boolean> {
    const filled = await this.fill(sale, segment, [1]);
    if (filled.kind === 'AWAY') throw filled.away;
    if (filled.kind === 'FILLED') await Promise.all(filled.moves.map((move) => this.moves.finish(sale, move)));
    return filled.kind === 'FILLED';
  }

  /**
   * Takes units for purchases of these quantities out of other segments.
   * @returns FILLED also where the segment itself has units by now; the moves are to be put in
   */
  private async fill(sale: EpochOfItem, segment: number, quantities: readonly number[]): Promise<Refilled> {
    const known = await this.settled(sale);
    if (!known) return { kind: 'STALE' };
    const { levels, away } = known;
    const smallest = BigInt(Math.min(...quantities));
    if (stockOf(levels.filter((l) => l.stock > 0n)) < smallest) {
      if (away !== undefined) return { kind: 'AWAY', away };
      const again = await this.settled(sale);
      if (!again) return { kind: 'STALE' };
      // Without a move that arrived in between, what the segments had was not where it had not been looked at yet.
      const unmoved = again.levels.every((level, i) => level.movedIn === levels[i]?.movedIn);
      const still = stockOf(again.levels.filter((l) => l.stock > 0n)) < smallest;
      if (again.away !== undefined) return { kind: 'AWAY', away: again.away };
      return unmoved && still ? { kind: 'EMPTY' } : { kind: 'FILLED', moves: [], away };
    }
    const wanted = quantities.reduce((sum, quantity) => sum + BigInt(quantity), 0n);
    return { kind: 'FILLED', moves: await this.takeOut(sale, segment, wanted, levels), away };
  }

  private async takeOut(
    sale: EpochOfItem,
    segment: number,
    wanted: bigint,
    levels: readonly Level[],
  ): Promise<readonly UnitMove[]> {
    const moves: UnitMove[] = [];
    let missing = wanted - (levels.find((l) => l.segment === segment)?.stock ?? 0n);
    const others = levels.filter((l) => l.segment !== segment && l.stock > 0n);
    for (const { segment: from, stock } of others.sort((a, b) => Number(b.stock - a.stock))) {
      if (missing <= 0n) break;
      // Half of a segment that has many, so that the next purchases need no move.
      const half = stock / 2n;
      const units = missing > half ? missing : half;
      const move = await this.moves.takeOut(sale, { from, to: segment, units });
      if (!move) continue;
      moves.push(move);
      missing -= move.units;
    }
    return moves;
  }

  /** The levels when no move is under way: the ones that others began are seen through. */
  private async settled(sale: EpochOfItem): Promise<KnownLevels | undefined> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const asked = segmentsOf(sale.segments ?? 1).map((segment) => this.moves.level(sale, segment));
      const { answers, away } = await answersOf(asked);
      const levels = answers.flatMap((level) => level ?? []);
      if (levels.length < answers.length) return undefined;
      const underWay = levels.flatMap((level) => level.moves);
      if (underWay.length === 0) return { levels, away };
      const finished = await answersOf(underWay.map((move) => this.moves.finish(sale, move)));
      // The units of a move to a segment that does not answer are in none until it does.
      const unknown = away ?? finished.away;
      if (unknown !== undefined) return { levels, away: unknown };
    }
    return undefined;
  }
}

/** @throws SALE_UNAVAILABLE when no other purchase has a result */
function unconfirmed(results: AdmissionResult[], open: readonly number[], away: unknown): readonly AdmissionResult[] {
  if (open.length === results.length) throw away;
  for (const i of open) results[i] = { kind: 'UNCONFIRMED' };
  return results;
}

/** @returns what answers. @throws any failure other than SALE_UNAVAILABLE */
async function answersOf<T>(asked: readonly Promise<T>[]): Promise<{ answers: T[]; away: unknown }> {
  const settled = await Promise.allSettled(asked);
  const failures = settled.flatMap((s) => (s.status === 'rejected' ? [s.reason as unknown] : []));
  for (const failure of failures) if (!isSaleUnavailable(failure)) throw failure;
  return { answers: settled.flatMap((s) => (s.status === 'fulfilled' ? [s.value] : [])), away: failures[0] };
}
