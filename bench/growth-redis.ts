/** Redis masters in virtual time, with the units of the segments that lie on them. */
import slotOf from 'cluster-key-slot';
import { shareOf } from '../internal/biz/seckill/segment.js';
import { KeySpace } from '../internal/data/redis/seckill-keys.js';
import type { Costs } from './growth-costs.js';
import { type Cores, EventLoop, type Simulation } from './growth-kernel.js';

const SLOTS = 16_384;
const keys = new KeySpace('', true);

/** The master of a segment, where each has an equal range of slots, as `redis-cli --cluster create` gives them out. */
export function masterOf(itemId: bigint, segment: number, masters: number): number {
  return Math.floor((slotOf(keys.sale(itemId, segment).stream) * masters) / SLOTS);
}

/** Units on their way to another segment. */
export interface Move {
  readonly from: Segment;
  readonly to: Segment;
  readonly units: number;
  hasArrived: boolean;
}

/** What a master holds of one segment. */
export interface Segment {
  readonly itemId: bigint;
  readonly index: number;
  readonly master: EventLoop;
  stock: number;
  movedIn: number;
  /** That began here. */
  readonly moves: Set<Move>;
}

export class Redis {
  readonly masters: readonly EventLoop[];
  private readonly segments = new Map<string, Segment>();
  /** Script calls that bought, and the others. */
  calls = 0;
  otherCalls = 0;
  purchases = 0;

  constructor(
    private readonly simulation: Simulation,
    private readonly costs: Costs,
    masters: number,
    coresOf: () => Cores,
  ) {
    const { connection, disk } = costs.redis;
    this.masters = Array.from(
      { length: masters },
      () => new EventLoop(simulation, coresOf(), connection, () => simulation.logNormal(disk)),
    );
  }

  /** @param units of the sale, shared out as a load does */
  open(itemId: bigint, segments: number, units: number): void {
    for (let index = 0; index < segments; index++) {
      this.segments.set(`${itemId} ${index}`, {
        ...{ itemId, index, movedIn: 0, moves: new Set<Move>() },
        master: this.masters[masterOf(itemId, index, this.masters.length)]!,
        stock: Number(shareOf(BigInt(units), index, segments)),
      });
    }
  }

  segment(itemId: bigint, index: number): Segment {
    const segment = this.segments.get(`${itemId} ${index}`);
    if (!segment) throw new Error(`item ${itemId} has no segment ${index}`);
    return segment;
  }

  /** Runs a script at a segment's master. @param work what it does to the segment, in the order of the scripts */
  script<Result>(
    connection: object,
    { master }: Segment,
    purchases: number,
    work: () => Result,
    reply: (result: Result) => void,
  ): void {
    const { simulation, costs } = this;
    const { network, redis } = costs;
    if (purchases > 0) {
      this.calls += 1;
      this.purchases += purchases;
    } else this.otherCalls += 1;
    simulation.after(network, () => {
      const costMs = redis.call + purchases * redis.purchase;
      const done = () => {
        const result = work();
        simulation.after(network, () => reply(result));
      };
      master.add(costMs, done, connection);
    });
  }

  /** Takes a unit for each purchase as long as there is one. @returns how many got one */
  take(segment: Segment, purchases: number): number {
    const taken = Math.min(segment.stock, purchases);
    segment.stock -= taken;
    return taken;
  }
}
