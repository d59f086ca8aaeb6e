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

/** The key of the consumers' reports; of no one item. */
export function consumersKey(prefix: string): string {
  return `${prefix}seckill:consumers`;
}

export function saleKeys(prefix: string, itemId: bigint): SaleKeys {
  const sale = `${prefix}seckill:${itemId}:`;
  return {
    meta: `${sale}meta`,
    stock: `${sale}stock`,
    req: `${sale}req`,
    buyers: `${sale}buyers`,
    vip: `${sale}vip`,
    stream: `${prefix}${STREAM}${itemId}`,
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

/** A glob that matches the streams of all items. */
export function streamPattern(prefix: string): string {
  return `${prefix.replace(/[\\*?[\]^-]/g, '\\$&')}${STREAM}*`;
}

const ITEM = /^[1-9][0-9]{0,18}$/;

/** The item of a stream's key; undefined for a key that names none. */
export function itemOfStream(prefix: string, key: string): bigint | undefined {
  if (!key.startsWith(`${prefix}${STREAM}`)) return undefined;
  const item = key.slice(prefix.length + STREAM.length);
  if (!ITEM.test(item)) return undefined;
  const id = BigInt(item);
  return id <= INT64_MAX ? id : undefined;
}
