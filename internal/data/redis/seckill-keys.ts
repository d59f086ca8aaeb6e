import { INT64_MAX } from '../../biz/int64.js';

/** The keys of one item's sale, as the contract names them. */
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
const ITEM = /^[1-9][0-9]{0,18}$/;

/** How the keys of an installation are written: all of them begin with its prefix. */
export class KeySpace {
  /** @param isCluster whether the item in a key is a hash tag, so that all keys of a sale lie on one server of a cluster */
  constructor(
    readonly prefix: string,
    private readonly isCluster = false,
  ) {}

  sale(itemId: bigint): SaleKeys {
    return keysOf(this.prefix, this.isCluster ? `{${itemId}}` : String(itemId));
  }

  /**
   * The consumers' reports. They tell what a server may have lost, so in a cluster each item has its own beside its stream;
   * a single server has one for all items.
   */
  consumers(itemId: bigint): string {
    return this.isCluster ? `${this.prefix}seckill:{${itemId}}:consumers` : consumersKey(this.prefix);
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

  /** The item of a stream's key; undefined for a key that names none. */
  itemOfStream(key: string): bigint | undefined {
    if (!key.startsWith(`${this.prefix}${STREAM}`)) return undefined;
    const written = key.slice(this.prefix.length + STREAM.length);
    const item = this.isCluster ? /^\{(.*)\}$/.exec(written)?.[1] : written;
    if (item === undefined || !ITEM.test(item)) return undefined;
    const id = BigInt(item);
    return id <= INT64_MAX ? id : undefined;
  }
}

/** The key of the consumers' reports on a single server; of no one item. */
export function consumersKey(prefix: string): string {
  return `${prefix}seckill:consumers`;
}

/** The keys of an item's sale on a single server. */
export function saleKeys(prefix: string, itemId: bigint): SaleKeys {
  return new KeySpace(prefix).sale(itemId);
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
