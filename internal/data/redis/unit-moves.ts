import { randomUUID } from 'node:crypto';
import type { EpochOfItem } from '../../biz/seckill/admission.js';
import { segmentsOf } from '../../biz/seckill/segment.js';
import { LEVEL, MOVE_IN, MOVE_OUT } from './lua-script.js';
import type { RedisServer } from './redis.js';
import { orSaleUnavailable } from './segment-admission.js';

/** Units on their way from one segment to another. */
export interface UnitMove {
  readonly id: string;
  readonly from: number;
  readonly to: number;
  readonly units: bigint;
}

/** The units of one segment. */
export interface Level {
  readonly segment: number;
  readonly stock: bigint;
  /** Moves that have arrived here in this epoch. */
  readonly movedIn: number;
  /** Moves that began here. Some may have arrived: the note goes last. */
  readonly moves: readonly UnitMove[];
}

/**
 * Moves units of a running sale between its segments, which may lie on different servers. First they are taken out and the
 * move is noted, in one script; then they are put in, once for each move; then the note goes. A process that dies in
 * between leaves the note, and the next one that reads it puts the units in. All of it belongs to one epoch: a load counts anew.
 */
export abstract class UnitMoves {
  /** @returns the move; undefined where there is nothing to take */
  abstract takeOut(sale: EpochOfItem, move: Omit<UnitMove, 'id'>): Promise<UnitMove | undefined>;
  /** On the connection of purchases, so that a purchase which is sent right after it finds the units. */
  abstract putIn(sale: EpochOfItem, move: UnitMove): Promise<void>;
  /** Call it when the units are put in. */
  abstract forget(sale: EpochOfItem, move: UnitMove): Promise<void>;
  abstract hasArrived(sale: EpochOfItem, move: UnitMove): Promise<boolean>;
  /** @returns undefined where the segment is not loaded under the epoch */
  abstract level(sale: EpochOfItem, segment: number): Promise<Level | undefined>;

  /** @returns undefined where not all segments are loaded under the epoch */
  async levels(sale: EpochOfItem): Promise<readonly Level[] | undefined> {
    const levels = await Promise.all(segmentsOf(sale.segments ?? 1).map((segment) => this.level(sale, segment)));
    return levels.every((level) => level !== undefined) ? levels : undefined;
  }

  async finish(sale: EpochOfItem, move: UnitMove): Promise<void> {
    await this.putIn(sale, move);
    await this.forget(sale, move);
  }
}

export class RedisUnitMoves extends UnitMoves {
  constructor(private readonly server: RedisServer) {
    super();
  }

  override async takeOut(
    { itemId, epoch }: EpochOfItem,
    { from, to, units }: Omit<UnitMove, 'id'>,
  ): Promise<UnitMove | undefined> {
    const id = randomUUID();
    const args = [String(epoch), id, String(to), String(units)];
    const keys = this.server.keys.sale(itemId, from);
    const taken = Number(await orSaleUnavailable(MOVE_OUT.run(this.server.admission, keys, args)));
    return taken > 0 ? { id, from, to, units: BigInt(taken) } : undefined;
  }

  override async putIn({ itemId, epoch }: EpochOfItem, { id, to, units }: UnitMove): Promise<void> {
    const args = [String(epoch), id, String(units)];
    await orSaleUnavailable(MOVE_IN.run(this.server.admission, this.server.keys.sale(itemId, to), args));
  }

  override async forget({ itemId }: EpochOfItem, { id, from }: UnitMove): Promise<void> {
    const { meta } = this.server.keys.sale(itemId, from);
    await orSaleUnavailable(this.server.admission.hdel(meta, `move:${id}`));
  }

  override async hasArrived({ itemId }: EpochOfItem, { id, to }: UnitMove): Promise<boolean> {
    const { returned } = this.server.keys.sale(itemId, to);
    return (await orSaleUnavailable(this.server.commands.sismember(returned, `move:${id}`))) === 1;
  }

  override async level({ itemId, epoch }: EpochOfItem, segment: number): Promise<Level | undefined> {
    const keys = this.server.keys.sale(itemId, segment);
    const reply = (await orSaleUnavailable(LEVEL.run(this.server.admission, keys, []))) as string[];
    const [there, stock, movedIn, ...noted] = reply;
    if (there !== String(epoch) || stock === undefined) return undefined;
    const moves: UnitMove[] = [];
    for (let i = 0; i + 1 < noted.length; i += 2) {
      const [to = '', units = ''] = noted[i + 1]!.split(' ');
      moves.push({ id: noted[i]!, from: segment, to: Number(to), units: BigInt(units) });
    }
    return { segment, stock: BigInt(stock), movedIn: Number(movedIn), moves };
  }
}

/** All that a sale has, by segment, with nothing on its way. */
export function stockOf(levels: readonly Level[]): bigint {
  return levels.reduce((sum, { stock }) => sum + stock, 0n);
}
