import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { projectRoot } from '../../internal/local/project.js';
import { eventually } from './wait.js';

export interface ScriptPurchase {
  readonly uid: string;
  readonly requestId: string;
}

/** The script of a sale and its keys, as docs/seckill-scripts.md names them. */
export function publishedScript(itemId: string): { readonly script: string; readonly keys: readonly string[] } {
  const guide = readFileSync(join(projectRoot, 'docs/seckill-scripts.md'), 'utf8');
  const file = /SCRIPT LOAD "\$\(cat (\S+)\)"/.exec(guide)?.[1];
  const names = /The keys, in this order[.:][\s\S]*?\n```\n([^`]+)```/.exec(guide)?.[1];
  assert.ok(file && names, 'the guide names the script and its keys');
  return {
    script: readFileSync(join(projectRoot, file), 'utf8').trimEnd(),
    keys: names
      .trim()
      .split(/\s+/)
      .map((key) => key.replace('<item_id>', itemId)),
  };
}

/** A BFF as written from docs/seckill-scripts.md alone; nothing in it comes from Kaimai's code. */
export class Bff {
  private readonly redis: Redis;
  private readonly script: string;
  private readonly sha: string;
  private readonly keys: readonly string[];
  private epoch = '';
  unavailable = 0;
  unknownScript = 0;

  constructor(redisUrl: string, itemId: string, timeoutMs = 5_000) {
    const { script, keys } = publishedScript(itemId);
    this.script = script;
    this.sha = createHash('sha1').update(this.script).digest('hex');
    this.keys = keys;
    // "Send each call once."
    this.redis = new Redis(redisUrl, {
      maxRetriesPerRequest: 0,
      autoResendUnfulfilledCommands: false,
      commandTimeout: timeoutMs,
    });
    this.redis.on('error', () => {});
  }

  close(): void {
    this.redis.disconnect();
  }

  /** Loses the reply: the connection breaks while the script runs. */
  cut(): void {
    this.redis.disconnect(true);
  }

  async learnEpoch(): Promise<void> {
    this.epoch = (await this.redis.hget(this.keys[0]!, 'epoch')) ?? '0';
  }

  /** @returns one outcome for each purchase, as the script words it */
  buy(purchases: readonly ScriptPurchase[]): Promise<readonly string[]> {
    return eventually('the script answers', () => this.attempt(purchases));
  }

  /** One call. undefined: the epoch was another; it has been read again. */
  async attempt(purchases: readonly ScriptPurchase[]): Promise<readonly string[] | undefined> {
    const args = [this.epoch, ...purchases.flatMap((p) => [p.uid, '1', p.requestId, ''])];
    const [status, , , ...outcomes] = await this.run(args);
    if (status === 'OK') return outcomes as string[];
    assert.equal(status, 'UNAVAILABLE');
    this.unavailable += 1;
    await this.learnEpoch();
    return undefined;
  }

  private async run(args: readonly string[]): Promise<[string, ...unknown[]]> {
    const call = [this.keys.length, ...this.keys, ...args] as const;
    try {
      return (await this.redis.evalsha(this.sha, ...call)) as [string, ...unknown[]];
    } catch (err) {
      if (!(err as Error).message.startsWith('NOSCRIPT')) throw err;
      this.unknownScript += 1;
      return (await this.redis.eval(this.script, ...call)) as [string, ...unknown[]];
    }
  }
}

/** As the guide writes an int64: its last 48 bits are the UUID's last group. */
export const uuidOf = (n: number) => `00000000-0000-8000-8000-${n.toString(16).padStart(12, '0')}`;
