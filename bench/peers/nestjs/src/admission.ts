import { readFileSync } from 'node:fs';
import { Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { Redis, type Result } from 'ioredis';
import { settings } from './settings.js';

declare module 'ioredis' {
  interface RedisCommander<Context> {
    admit(...keysAndArgs: string[]): Result<[string, number?, number?, string?], Context>;
  }
}

export interface Wish {
  itemId: string;
  userId: string;
  quantity: number;
  requestId: string;
}

/** One call of the admission script for each wish. */
@Injectable()
export class Admission implements OnApplicationShutdown {
  private readonly redis = new Redis(settings.redis);
  private readonly epochs = new Map<string, string>();

  constructor() {
    this.redis.defineCommand('admit', { numberOfKeys: 8, lua: readFileSync(settings.script, 'utf8') });
  }

  /** Of the item's sale, from memory or, with `refresh`, as it is now. */
  async epoch(itemId: string, refresh: boolean): Promise<string | null> {
    const known = this.epochs.get(itemId);
    if (known !== undefined && !refresh) return known;
    const epoch = await this.redis.hget(`seckill:${itemId}:meta`, 'epoch');
    if (epoch !== null) this.epochs.set(itemId, epoch);
    return epoch;
  }

  /** The script's outcome; undefined where the epoch is another. */
  async admit(epoch: string, wish: Wish): Promise<string | undefined> {
    const sale = `seckill:${wish.itemId}:`;
    const [answer, , , outcome] = await this.redis.admit(
      `${sale}meta`,
      `${sale}stock`,
      `${sale}req`,
      `${sale}buyers`,
      `${sale}vip`,
      `stream:seckill:${wish.itemId}`,
      `${sale}seen:0`,
      `${sale}seen:1`,
      epoch,
      wish.userId,
      String(wish.quantity),
      wish.requestId,
      '',
    );
    return answer === 'OK' ? outcome : undefined;
  }

  onApplicationShutdown(): void {
    this.redis.disconnect();
  }
}
