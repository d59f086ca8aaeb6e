import slotOf from 'cluster-key-slot';
import { INT64_MAX } from '../../biz/int64.js';
import { MAX_SEGMENTS } from '../../biz/seckill/segment.js';

/** The keys of one segment of an item's sale, as the contract names them. */
export interface SaleKeys {
  readonly meta: string;
  readonly stock: string;
  readonly req: string;
  readonly buyers: string;
  readonly vip: string;
  readonly stream: string;
  /** Request ids seen, in windows that alternate. */
  readonly seen0: string;
  readonly seen1: string;
  /** Orders whose units were returned, and entries whose units were corrected. */
  readonly returned: string;
  /** The lease of the process that loads the sale. */
  readonly loading: string;
  /** What a load found in place of the stream, for an operator to look at. */
  readonly broken: string;
  /** Its waiting room: which tickets are called when, and user → ticket. */
  readonly waitingRoom: string;
  readonly tickets: string;
}

const STREAM = 'stream:seckill:';
const SLOTS = 16_384;
/** How far from its place on the ring of slots a segment may lie, so that a tag is found in some hundred tries. */
const NEAR = 64;
const MAX_TAGS = 10_000;
/** An item, and a segment of it other than the first; in a cluster also the number that leads to its slot. */
const ITEM = /^([1-9][0-9]{0,18})(?:#([1-9][0-9]?)(?:\.[0-9]+)?)?$/;

/** One of the streams of an item. */
export interface SegmentStream {
  readonly itemId: bigint;
  readonly segment: number;
}

/** How the keys of an installation are written: all of them begin with its prefix. */
export class KeySpace {
  /** Hash tags of segments, by what they are on a single server. */
  private readonly tags = new Map<string, string>();

  /** @param isCluster whether the item in a key is a hash tag, so that all keys of a sale lie on one server of a cluster */
  constructor(
    readonly prefix: string,
    private readonly isCluster = false,
  ) {}

  sale(itemId: bigint, segment = 0): SaleKeys {
    return keysOf(this.prefix, this.written(itemId, segment));
  }

  /** Segment 0 has the keys of a sale without segments. */
  private written(itemId: bigint, segment: number): string {
    const name = segment === 0 ? String(itemId) : `${itemId}#${segment}`;
    if (!this.isCluster) return name;
    return segment === 0 ? `{${name}}` : `{${this.tagOf(name, itemId, segment)}}`;
  }

  private tagOf(name: string, itemId: bigint, segment: number): string {
    let tag = this.tags.get(name);
    if (tag === undefined) {
      tag = segmentTag(itemId, segment);
      if (this.tags.size >= MAX_TAGS) this.tags.clear();
      this.tags.set(name, tag);
    }
    return tag;
  }

  /**
   * The consumers' reports. They tell what a server may have lost, so in a cluster each item has its own beside its stream;
   * a single server has one for all items.
   */
  consumers(itemId: bigint, segment = 0): string {
    return this.isCluster
      ? `${this.prefix}seckill:${this.written(itemId, segment)}:consumers`
      : consumersKey(this.prefix);
  }

  /**
   * What every key of carts begins with. A merge changes two carts and the set of unsaved ones in one script, so in a
   * cluster all carts lie on one server.
   */
  get carts(): string {
    return this.isCluster ? `${this.prefix}{cart}:` : `${this.prefix}cart:`;
  }

  /** A glob that matches the streams of all items. */
  streamPattern(): string {
    return `${this.prefix.replace(/[\\*?[\]^-]/g, '\\$&')}${STREAM}*`;
  }

  /** The item and the segment of a stream's key; undefined for a key that names none. */
  streamOf(key: string): SegmentStream | undefined {
    if (!key.startsWith(`${this.prefix}${STREAM}`)) return undefined;
    const written = key.slice(this.prefix.length + STREAM.length);
    const item = this.isCluster ? /^\{(.*)\}$/.exec(written)?.[1] : written;
    const [, id, segment = '0'] = ITEM.exec(item ?? '') ?? [];
    if (id === undefined || BigInt(id) > INT64_MAX || Number(segment) >= MAX_SEGMENTS) return undefined;
    const stream = { itemId: BigInt(id), segment: Number(segment) };
    return this.sale(stream.itemId, stream.segment).stream === key ? stream : undefined;
  }
}

/**
 * The hash tag of a segment k > 0 in a cluster, `<item_id>#<k>.<n>`: the smallest n whose slot is near the place of segment
 * k on the ring of slots. Places are counted from the slot of the item, in the order 0, 1/2, 1/4, 3/4, 1/8 … of the ring, so
 * that however many segments a sale has, they lie far apart, and with them on as many servers as there are.
 */
export function segmentTag(itemId: bigint, segment: number): string {
  const reversed = [32, 16, 8, 4, 2, 1].reduce((sum, bit, i) => sum + (segment & (1 << i) ? bit : 0), 0);
  const place = slotOf(String(itemId)) + (reversed * SLOTS) / MAX_SEGMENTS;
  for (let n = 0; ; n++) {
    const tag = `${itemId}#${segment}.${n}`;
    if ((slotOf(tag) - place + NEAR + 2 * SLOTS) % SLOTS < 2 * NEAR) return tag;
  }
}

/** The key of the consumers' reports on a single server; of no one item. */
export function consumersKey(prefix: string): string {
  return `${prefix}seckill:consumers`;
}

/** The keys of an item's sale on a single server. */
export function saleKeys(prefix: string, itemId: bigint, segment = 0): SaleKeys {
  return new KeySpace(prefix).sale(itemId, segment);
}

function keysOf(prefix: string, item: string): SaleKeys {
  const sale = `${prefix}seckill:${item}:`;
  return {
    meta: `${sale}meta`,
    stock: `${sale}stock`,
    req: `${sale}req`,
    buyers: `${sale}buyers`,
    vip: `${sale}vip`,
    stream: `${prefix}${STREAM}${item}`,
    seen0: `${sale}seen:0`,
    seen1: `${sale}seen:1`,
    returned: `${sale}returned`,
    loading: `${sale}loading`,
    broken: `${sale}broken`,
    waitingRoom: `${sale}line`,
    tickets: `${sale}places`,
  };
}

/** Where a load of this epoch gathers what `buyers` and `vip` become. */
export function nextKeys(keys: SaleKeys, epoch: bigint): { nextBuyers: string; nextVip: string } {
  return { nextBuyers: `${keys.buyers}:${epoch}`, nextVip: `${keys.vip}:${epoch}` };
}
