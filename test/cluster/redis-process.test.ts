import assert from 'node:assert/strict';
import { CartServiceService } from '../../gen/cart/v1/cart.js';
import { ALL_REASONS } from '../../gen/reasons.js';
import {
  PurchaseReply_Code as PurchaseCode,
  SeckillServiceService,
  IssuePurchaseTokenReply_Code as TokenCode,
} from '../../gen/seckill/v1/seckill.js';
import { isInvalidCredentials, isTooManyAttempts } from '../../gen/user/v1/errors.js';
import { UserServiceService } from '../../gen/user/v1/user.js';
import { formatUserId } from '../../internal/biz/identity.js';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import { GrpcClient, type UnaryMethod } from '../../internal/kratos/transport/grpc/client.js';
import { openPostgres } from '../support/instances.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';
import { useRedisCluster } from './redis.js';
import { Shop } from './shop.js';

const PASSWORD = 'correct horse';
const MAX_ATTEMPTS = 3;

describe('two replicas of product on a Redis cluster, over gRPC,', () => {
  const servers = useServers('postgres', 'rabbitmq');
  const cluster = useRedisCluster();
  const processes = useProcesses();
  let products: readonly TestProcess[];
  let clients: readonly GrpcClient[];
  let shop: Shop;
  let db: Postgres;

  before(async () => {
    const env = { ...servers.env(), KAIMAI_DATA_REDIS_NODES: cluster().addresses.join(',') };
    const config = { auth: { login: { max_attempts: MAX_ATTEMPTS } }, cart: { save_after: '0.2s' } };
    products = await Promise.all([1, 2].map(() => processes.start('product', { env, config })));
    clients = products.map(({ grpc }) => new GrpcClient({ addr: grpc, reasons: ALL_REASONS, timeoutMs: 20_000 }));
    shop = new Shop(() => products);
    db = openPostgres(servers.postgresUrl, 'kaimai_product');
  });
  after(async () => {
    for (const client of clients ?? []) client.close();
    await db?.close();
  });

  /** The replicas take turns. */
  let calls = 0;
  const call = <Q, R>(method: UnaryMethod<Q, R>, request: Q, user?: number): Promise<R> =>
    clients[calls++ % clients.length]!.call(
      method,
      request,
      user === undefined ? {} : { metadata: { 'x-user-id': String(user) } },
    );

  it('count wrong passwords together, and refuse the username once there were too many', async () => {
    const register = (username: string) =>
      call(UserServiceService.register, { username, password: PASSWORD, firstName: '', lastName: '' });
    const login = (username: string, password: string) => call(UserServiceService.login, { username, password });
    const [ann, ben] = await Promise.all([register('ann'), register('ben')]);
    assert.equal((await login('ann', PASSWORD)).userId, ann.id);
    for (let i = 0; i < MAX_ATTEMPTS; i++) await assert.rejects(login('ann', 'a wrong one'), isInvalidCredentials);
    for (const _ of clients) await assert.rejects(login('ann', PASSWORD), isTooManyAttempts);
    assert.equal((await login('ben', PASSWORD)).userId, ben.id);
  });

  it('show a cart that the other one was told of, and save it', async () => {
    const user = 71;
    const spu = await shop.admin('/v1/spus', {
      spuNo: 'c',
      title: 'c',
      publishStatus: 'PUBLISHED',
      mainImages: ['https://i/1'],
    });
    const { id } = await shop.admin('/v1/skus', {
      spuId: spu.id,
      skuNo: 'c',
      skuName: 'c',
      priceFen: '100',
      stock: '9',
    });
    const skuId = BigInt(id!);
    const quantities = async () => {
      const { lines } = await call(CartServiceService.getCart, { region: '', couponId: 0n }, user);
      return lines.map(({ item }) => [item?.skuId, item?.quantity]);
    };
    await call(CartServiceService.putCartItem, { skuId, quantity: 2 }, user);
    assert.deepEqual(await quantities(), [[skuId, 2]]);
    await call(CartServiceService.putCartItem, { skuId, quantity: 5 }, user);
    for (const _ of clients) assert.deepEqual(await quantities(), [[skuId, 5]]);
    await eventually('the cart is saved', async () => {
      const { rows } = await db.pool.query<{ quantity: number }>(
        'SELECT quantity FROM cart_items WHERE owner_id = $1 AND NOT guest AND sku_id = $2',
        [formatUserId(String(user)), skuId],
      );
      return rows[0]?.quantity === 5;
    });
  });

  it('let users through one waiting room, one after the other', async () => {
    await shop.openSale(10, { admitRate: 1 });
    const itemId = BigInt(shop.itemId);
    const ask = (user: number) => call(SeckillServiceService.issuePurchaseToken, { itemId }, user);
    const buy = (user: number, token: string) =>
      call(SeckillServiceService.purchase, { itemId, requestId: '', token }, user);
    const users = [81, 82, 83, 84, 85, 86, 87, 88];
    const asked = await Promise.all(users.map(ask));
    const waiting = users.filter((_, i) => asked[i]!.code === TokenCode.WAITING);
    assert.ok(waiting.length > 0, 'all were let through at once');
    assert.equal((await buy(waiting[0]!, '')).code, PurchaseCode.TOKEN_REQUIRED);
    for (const user of users) {
      const token = await eventually(`user ${user} is let through`, async () => {
        const { code, token } = await ask(user);
        return code === TokenCode.READY && token;
      });
      assert.equal((await buy(user, token)).code, PurchaseCode.QUEUED);
    }
  });
});
