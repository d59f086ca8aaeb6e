import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Cluster, Redis } from 'ioredis';

/** The server says that it did not run the script. */
const NOT_RUN = /^(NOSCRIPT|MOVED|ASK)\b/;
/** One that is redirected to a server that does not know the script, and another one. */
const MAX_ATTEMPTS = 4;
const INCLUDE = /^-- include: (\w+)\n/gm;

/** A script of `lua/`, whose header is its contract. `Key` names its keys in their order. */
export class LuaScript<Key extends string> {
  /** What runs: the file with every `-- include: name` replaced by `lua/include/name.lua`. */
  readonly source: string;
  private readonly sha: string;

  constructor(
    readonly name: string,
    readonly keys: readonly Key[],
  ) {
    this.source = read(name).replace(INCLUDE, (_, part: string) => read(`include/${part}`));
    this.sha = createHash('sha1').update(this.source).digest('hex');
  }

  /** Runs it once; a server that does not know it yet, which it says before running anything, is sent the source. */
  async run(redis: Redis | Cluster, keys: Readonly<Record<Key, string>>, args: readonly string[]): Promise<unknown> {
    const list = this.keys.map((key) => keys[key]);
    try {
      return await redis.evalsha(this.sha, list.length, ...list, ...args);
    } catch (err) {
      if (!(err instanceof Error) || !err.message.startsWith('NOSCRIPT')) throw err;
      return redis.eval(this.source, list.length, ...list, ...args);
    }
  }

  /**
   * Runs it once, and says how many replicas have what this connection wrote, waiting for `replicas` of them. Both
   * commands go in one pipeline, because WAIT knows only of writes of its own connection.
   */
  async runAndWait(
    redis: Redis | Cluster,
    keys: Readonly<Record<Key, string>>,
    args: readonly string[],
    { replicas, timeoutMs }: { readonly replicas: number; readonly timeoutMs: number },
  ): Promise<{ readonly reply: unknown; readonly replicas: number }> {
    const list = this.keys.map((key) => keys[key]);
    for (let attempt = 1, known = true; ; attempt++) {
      const pipeline = redis.pipeline();
      if (known) pipeline.evalsha(this.sha, list.length, ...list, ...args);
      else pipeline.eval(this.source, list.length, ...list, ...args);
      const [[err, reply] = [], [waitErr, there] = []] = (await pipeline.wait(replicas, timeoutMs).exec()) ?? [];
      if (!err && !waitErr) return { reply, replicas: Number(there) };
      // Where the script wrote, the caller must not take its failure to wait for a failure to run.
      if (!err) return { reply, replicas: 0 };
      if (attempt === MAX_ATTEMPTS || !NOT_RUN.test(err.message)) throw err;
      if (err.message.startsWith('NOSCRIPT')) known = false;
      // A command by itself is redirected, and the pipeline finds the way with it.
      else await redis.exists(list[0]!);
    }
  }
}

function read(name: string): string {
  return readFileSync(new URL(`./lua/${name}.lua`, import.meta.url), 'utf8');
}

export const ADMIT = new LuaScript('admit', ['meta', 'stock', 'req', 'buyers', 'vip', 'stream', 'seen0', 'seen1']);
export const CART_CLAIM = new LuaScript('cart_claim', ['unsaved', 'due']);
export const CART_LOAD = new LuaScript('cart_load', ['cart', 'meta', 'unsaved', 'due']);
export const CART_MERGE = new LuaScript('cart_merge', ['guestCart', 'guestMeta', 'cart', 'meta', 'unsaved', 'due']);
export const CART_PUT = new LuaScript('cart_put', ['cart', 'meta', 'unsaved', 'due']);
export const CART_READ = new LuaScript('cart_read', ['cart', 'meta']);
export const CART_REMOVE = new LuaScript('cart_remove', ['cart', 'meta', 'unsaved', 'due']);
export const CART_SAVED = new LuaScript('cart_saved', ['cart', 'meta', 'unsaved', 'due']);
export const CART_TAKE = new LuaScript('cart_take', ['cart', 'meta', 'unsaved', 'due']);
export const CLOSE = new LuaScript('close', [
  'meta',
  'stock',
  'req',
  'buyers',
  'vip',
  'returned',
  'waitingRoom',
  'tickets',
  'stream',
  'broken',
]);
export const CONFIGURE = new LuaScript('configure', ['meta', 'stock', 'vip']);
export const CONSUMERS = new LuaScript('consumers', ['consumers']);
export const FIND_ADMITTED = new LuaScript('find_admitted', ['seen0', 'seen1']);
export const FINISH = new LuaScript('finish', ['meta', 'stock', 'buyers', 'stream', 'returned']);
export const INSPECT = new LuaScript('inspect', [
  'meta',
  'stock',
  'req',
  'buyers',
  'vip',
  'stream',
  'returned',
  'seen0',
  'seen1',
  'waitingRoom',
  'tickets',
]);
export const LEVEL = new LuaScript('level', ['meta', 'stock']);
export const LEASE = new LuaScript('lease', ['loading']);
export const LOAD = new LuaScript('load', [
  'meta',
  'stock',
  'req',
  'buyers',
  'vip',
  'returned',
  'nextBuyers',
  'nextVip',
  'seen0',
  'seen1',
  'waitingRoom',
  'tickets',
]);
export const MOVE_IN = new LuaScript('move_in', ['meta', 'stock', 'returned']);
export const MOVE_OUT = new LuaScript('move_out', ['meta', 'stock']);
export const RETURN_UNITS = new LuaScript('return_units', ['meta', 'stock', 'buyers', 'returned']);
export const STOCK_GATE = new LuaScript('stock_gate', ['gate']);
export const SUSPEND = new LuaScript('suspend', ['meta', 'loading', 'stream', 'broken']);
export const WAITING_ROOM = new LuaScript('waiting_room', ['meta', 'stock', 'waitingRoom', 'tickets']);
export const WITHDRAW = new LuaScript('withdraw', ['meta', 'stock']);

/** Every script, by name. */
export const SCRIPTS: readonly LuaScript<string>[] = [
  ADMIT,
  CART_CLAIM,
  CART_LOAD,
  CART_MERGE,
  CART_PUT,
  CART_READ,
  CART_REMOVE,
  CART_SAVED,
  CART_TAKE,
  CLOSE,
  CONFIGURE,
  CONSUMERS,
  FIND_ADMITTED,
  FINISH,
  INSPECT,
  LEASE,
  LEVEL,
  LOAD,
  MOVE_IN,
  MOVE_OUT,
  RETURN_UNITS,
  STOCK_GATE,
  SUSPEND,
  WAITING_ROOM,
  WITHDRAW,
];
