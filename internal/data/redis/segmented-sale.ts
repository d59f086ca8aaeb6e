import { isSaleUnavailable } from '../../../gen/seckill/v1/errors.js';
import type {
  AdmissionLoad,
  AdmissionResult,
  AdmissionState,
  LoadedSale,
  PurchaseRequest,
} from '../../biz/seckill/admission.js';
import { homeSegment, shareOf } from '../../biz/seckill/segment.js';
import type { Level, UnitMove } from './unit-moves.js';

/** Of a request whose segment does not answer. */
export const UNCONFIRMED: AdmissionResult = { kind: 'UNCONFIRMED' };

/** What admission holds of a sale of several segments. @param underWay moves whose units are in no segment */
export function asOneState(
  states: readonly AdmissionState[],
  levels: readonly Level[] | undefined,
  underWay: readonly UnitMove[],
): AdmissionState {
  const [first] = states as readonly [AdmissionState, ...AdmissionState[]];
  const loaded = asOneSale(states, underWay);
  return {
    now: first.now,
    server: states.map((s) => s.server).join(' '),
    unreadable: states.flatMap(({ unreadable }, k) => unreadable.map((name) => `${name} of segment ${k}`)),
    loaded,
    admitting: states.flatMap((s) => s.admitting),
    closedEpoch: states.every((s) => s.closedEpoch === first.closedEpoch) ? first.closedEpoch : undefined,
    backlog: states.reduce((sum, s) => sum + s.backlog, 0),
    streamExhausted: states.some((s) => s.streamExhausted),
    mark: JSON.stringify([states.map((s) => s.mark), levels?.map((l) => [l.movedIn, l.moves.map((m) => m.id)])]),
  };
}

/** undefined where a segment has not what the others have. */
function asOneSale(states: readonly AdmissionState[], underWay: readonly UnitMove[]): LoadedSale | undefined {
  const parts = states.flatMap((s) => s.loaded ?? []);
  const [first] = parts;
  if (!first || parts.length < states.length || parts.some((p) => p.epoch !== first.epoch)) return undefined;
  const oldest = parts.reduce((a, b) => (b.settingsVersion < a.settingsVersion ? b : a));
  const moving = underWay.reduce((sum, move) => sum + move.units, 0n);
  return {
    ...oldest,
    total: parts.reduce((sum, p) => sum + p.total, 0n),
    stock: parts.reduce((sum, p) => sum + p.stock, moving),
    counted: parts.flatMap((p) => p.counted),
    server: parts.map((p) => p.server).join(' '),
  };
}

/** Whether a single unit was refused, so that no segment has any. */
export function isSold(requests: readonly PurchaseRequest[], results: readonly AdmissionResult[]): boolean {
  return requests.some(({ quantity }, i) => quantity === 1 && results[i]?.kind === 'SOLD_OUT');
}

/**
 * Asks each home segment about the requests of its users. Those of a segment that does not answer are UNCONFIRMED: what
 * the others have decided stands.
 * @returns the results in the order of the requests
 * @throws SALE_UNAVAILABLE when none of the segments answers
 */
export async function askHomes(
  requests: readonly PurchaseRequest[],
  segments: number,
  ask: (home: number, own: readonly PurchaseRequest[]) => Promise<readonly AdmissionResult[]>,
): Promise<readonly AdmissionResult[]> {
  const parts = Map.groupBy(requests.keys(), (i) => homeSegment(requests[i]!.userId, segments));
  const results = new Array<AdmissionResult>(requests.length).fill(UNCONFIRMED);
  const away: unknown[] = [];
  const asked = [...parts].map(async ([home, places]) => {
    const own = ask(
      home,
      places.map((i) => requests[i]!),
    );
    const answers = await own.catch((err: unknown) => {
      if (!isSaleUnavailable(err)) throw err;
      away.push(err);
      return undefined;
    });
    if (answers === undefined) return;
    places.forEach((i, at) => {
      results[i] = answers[at]!;
    });
  });
  await Promise.all(asked);
  if (away.length > 0 && away.length === parts.size) throw away[0];
  return results;
}

/**
 * A user's units by the counts of all segments: entries that another program added count in the segment that they were
 * added to. A count below 0 does not offset another segment's: units that were counted in one segment and came back in
 * another leave both counts wrong, and a sum of 0 would hide that from the sale keeper.
 */
export function unitsInAll(counts: readonly number[]): number {
  const sum = (units: readonly number[]) => units.reduce((a, b) => a + b, 0);
  return sum(counts.filter((units) => units > 0)) || sum(counts);
}

/** What a load puts into one segment. */
export function partOf(state: AdmissionLoad, segment: number): AdmissionLoad {
  const { sale, stock, counted, buyers, vipLimits, backlogLimit } = state;
  const { segments } = sale;
  const isHome = (userId: string) => homeSegment(userId, segments) === segment;
  return {
    ...state,
    sale: { ...sale, total: shareOf(sale.total, segment, segments) },
    stock: shareOf(stock, segment, segments),
    counted: counted.slice(segment, segment + 1),
    buyers: new Map([...buyers].filter(([userId]) => isHome(userId))),
    vipLimits: vipLimits.filter((v) => isHome(v.userId)),
    backlogLimit: Math.ceil(backlogLimit / segments),
  };
}
