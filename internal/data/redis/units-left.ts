import { isSaleUnavailable, saleUnavailable } from '../../../gen/seckill/v1/errors.js';
import type { Admission, EpochOfItem, UnitsLeft } from '../../biz/seckill/admission.js';
import type { UnitMoves } from './unit-moves.js';

type Segment = Pick<Admission, 'state'>;

/**
 * The units of the segments that answer in time. The last known number of the others is not added: it may have
 * been sold since. For the same reason units on their way count only where it is known that they have not arrived.
 * @param segments all of the sale
 * @param inTime returns when all have answered, or when it takes too long
 * @throws SALE_UNAVAILABLE when none of them answers
 */
export async function unitsLeft(
  sale: EpochOfItem,
  segments: readonly Segment[],
  moves: Pick<UnitMoves, 'level' | 'hasArrived'>,
  inTime: (answers: Promise<unknown>) => Promise<void>,
): Promise<UnitsLeft> {
  const look = async (segment: Segment, k: number) => {
    const [state, level] = await Promise.all([segment.state(sale.itemId), moves.level(sale, k)]);
    const isWhole = state.loaded?.epoch === sale.epoch && state.unreadable.length === 0;
    return { now: state.now, level: isWhole ? level : undefined };
  };
  const { answers: looks, failures } = await answersOf(segments.map(look), inTime);
  const [first] = looks;
  if (!first) throw failures[0] ?? saleUnavailable('no segment of the sale answers; try again shortly');
  const levels = looks.flatMap(({ level }) => level ?? []);
  const underWay = levels.flatMap((level) => level.moves);
  const checked = underWay.map(async (move) => ({ ...move, arrived: await moves.hasArrived(sale, move) }));
  const { answers: known } = await answersOf(checked, inTime);
  const onTheWay = known.filter(({ arrived }) => !arrived);
  const units = [...levels.map((level) => level.stock), ...onTheWay.map((move) => move.units)];
  const sum = units.reduce((a, b) => a + b, 0n);
  return {
    now: first.now,
    units: sum > 0n ? sum : 0n,
    complete: levels.length === segments.length && known.length === underWay.length,
  };
}

/** What comes within the time. @throws any failure other than SALE_UNAVAILABLE */
async function answersOf<T>(
  asked: readonly Promise<T>[],
  inTime: (answers: Promise<unknown>) => Promise<void>,
): Promise<{ readonly answers: readonly T[]; readonly failures: readonly unknown[] }> {
  const answers: T[] = [];
  const failures: unknown[] = [];
  const all = asked.map((answer) =>
    answer.then(
      (value) => answers.push(value),
      (err: unknown) => failures.push(err),
    ),
  );
  await inTime(Promise.all(all));
  const fault = failures.find((err) => !isSaleUnavailable(err));
  if (fault !== undefined) throw fault;
  // Later answers must not change what is looked at.
  return { answers: [...answers], failures: [...failures] };
}
