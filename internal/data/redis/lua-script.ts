import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Redis } from 'ioredis';

/** A script of `lua/`, whose header is its contract. `Key` names its keys in their order. */
export class LuaScript<Key extends string> {
  readonly source: string;
  private readonly sha: string;

  constructor(
    readonly name: string,
    readonly keys: readonly Key[],
  ) {
    this.source = readFileSync(new URL(`./lua/${name}.lua`, import.meta.url), 'utf8');
    this.sha = createHash('sha1').update(this.source).digest('hex');
  }

  /** Runs it once; a server that does not know it yet, which it says before running anything, is sent the source. */
  async run(redis: Redis, keys: Readonly<Record<Key, string>>, args: readonly string[]): Promise<unknown> {
    const list = this.keys.map((key) => keys[key]);
    try {
      return await redis.evalsha(this.sha, list.length, ...list, ...args);
    } catch (err) {
      if (!(err instanceof Error) || !err.message.startsWith('NOSCRIPT')) throw err;
      return redis.eval(this.source, list.length, ...list, ...args);
    }
  }
}

export const ADMIT = new LuaScript('admit', ['meta', 'stock', 'req', 'buyers', 'vip', 'stream', 'seen0', 'seen1']);
export const CONSUMERS = new LuaScript('consumers', ['consumers']);
export const LIMIT = new LuaScript('limit', ['meta', 'vip']);
export const WAITING_ROOM = new LuaScript('waiting_room', ['meta', 'stock', 'waitingRoom', 'tickets']);
export const LOAD = new LuaScript('load', [
  'meta',
  'stock',
  'req',
  'buyers',
  'vip',
  'returned',
  'nextBuyers',
  'nextVip',
]);
export const RATE = new LuaScript('rate', ['meta']);
export const STOCK_GATE = new LuaScript('stock_gate', ['gate']);
export const CLOSE = new LuaScript('close', ['meta', 'stock', 'req', 'buyers', 'vip', 'returned']);
export const RETURN_UNITS = new LuaScript('return_units', ['meta', 'stock', 'buyers', 'returned']);
export const FINISH = new LuaScript('finish', ['meta', 'stock', 'buyers', 'stream', 'returned']);
