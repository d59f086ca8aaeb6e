import { RedisServer } from '../../internal/data/redis/redis.js';
import type { RedisPlace } from '../../internal/data/redis/redis-connection.js';
import { SENTINEL_MASTER } from '../../internal/local/clusters/redis-sentinels.js';
import { admissionContract, redisAdmissionBackend } from '../contract/admission.js';
import { cartStoreContract, redisCartStoreBackend } from '../contract/cart-store.js';
import { loginAttemptsContract } from '../contract/login-attempts.js';
import { purchaseTokenContract } from '../contract/purchase-token.js';
import { redisStockGateBackend, stockGateContract } from '../contract/stock-gate.js';
import { waitingRoomContract } from '../contract/waiting-room.js';
import { useServers } from '../support/servers.js';
import { useRedisCluster, useRedisSentinels } from './redis.js';

/** The contract of everything that Kaimai keeps in Redis. */
function storeContracts(name: string, place: () => RedisPlace): void {
  const servers = useServers('postgres');
  admissionContract(name, () => redisAdmissionBackend(place()));
  admissionContract(`of sales in segments ${name}`, () => redisAdmissionBackend(place()), 4);
  waitingRoomContract(name, servers, place);
  purchaseTokenContract(name, servers, place);
  loginAttemptsContract(name, place);
  stockGateContract(name, () => redisStockGateBackend(place()));

  describe('Carts', () => {
    let server: RedisServer;
    before(async () => {
      server = new RedisServer({ ...place(), readTimeoutMs: 5_000, connectTimeoutMs: 5_000, keyPrefix: '' });
      await server.ready(5_000);
    });
    after(() => server?.close());

    it('lie on servers that are known to serve', () => server.ping());
    cartStoreContract(name, async () => redisCartStoreBackend(server));
  });
}

describe('The stores of a Redis cluster', () => {
  const cluster = useRedisCluster();
  storeContracts('on a Redis cluster', () => ({ addr: '', nodes: cluster().addresses }));
});

describe('The stores of a Redis with Sentinels', () => {
  const sentinels = useRedisSentinels();
  storeContracts('on a Redis with Sentinels', () => {
    return { addr: '', sentinels: sentinels().addresses, masterName: SENTINEL_MASTER };
  });
});
