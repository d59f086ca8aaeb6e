import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { isUnavailable } from '../../gen/common/v1/errors.js';
import { type ReadPositions, UNKNOWN_POSITION } from '../../internal/biz/read-positions.js';
import { RedisReadPositions } from '../../internal/data/redis/read-positions.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { MemoryReadPositions } from '../support/memory/read-positions.js';
import { useServers } from '../support/servers.js';
import { freshUser } from './backend.js';

function contract(name: string, open: (keepMs: number) => ReadPositions): void {
  describe(`ReadPositions ${name}`, () => {
    it('keeps the greatest position of each user, of any size', async () => {
      const positions = open(60_000);
      const [one, other] = [freshUser(), freshUser()];
      assert.equal(await positions.find(one), undefined);
      await positions.raise([one, other], 0x1_0000_0000n);
      await Promise.all([30n, 0x9_8765_4321n, 7n].map((position) => positions.raise([one], position)));
      assert.equal(await positions.find(one), 0x9_8765_4321n);
      assert.equal(await positions.find(other), 0x1_0000_0000n);
      await positions.raise([one], UNKNOWN_POSITION);
      assert.equal(await positions.find(one), UNKNOWN_POSITION);
      await positions.raise([], 1n);
    });

    it('forgets a position after a while', async () => {
      const positions = open(20);
      const user = freshUser();
      await positions.raise([user], 1n);
      await sleep(60);
      assert.equal(await positions.find(user), undefined);
    });
  });
}

contract('in memory', (keepMs) => new MemoryReadPositions(keepMs));

describe('in Redis', () => {
  const servers = useServers('redis');
  let redis: RedisServer;
  const open = (addr: string) =>
    new RedisServer({ addr, readTimeoutMs: 5_000, connectTimeoutMs: 5_000, keyPrefix: '' });
  before(async () => {
    redis = open(servers.redisUrl);
    await redis.ready(5_000);
  });
  after(() => redis?.close());

  contract('in Redis', (keepMs) => new RedisReadPositions(redis, keepMs));

  it('ReadPositions say that Redis is away', async () => {
    const away = open('redis://127.0.0.1:1');
    try {
      await assert.rejects(new RedisReadPositions(away, 1_000).find('1'), isUnavailable);
      await assert.rejects(new RedisReadPositions(away, 1_000).raise(['1'], 1n), isUnavailable);
    } finally {
      away.close();
    }
  });
});
