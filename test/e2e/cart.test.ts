import assert from 'node:assert/strict';
import pg from 'pg';
import { GuestTokens } from '../../internal/biz/cart/guest-token.js';
import { formatUserId } from '../../internal/biz/identity.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const RECEIVER = { name: '张三', phone: '13800000000', region: '310115', address: 'Century Avenue 1' };
const SECRET = 'a secret of guest carts, for the test';

interface Reply {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: JSON of many shapes, whose fields the assertions name
  readonly body: any;
}

describe('Carts, on two replicas of the product process', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let one: TestProcess;
  let two: TestProcess;
  let pool: pg.Pool;
  let redis: RedisServer;
  let users = 500;

  before(async () => {
    const data = { rabbitmq: { queue: servers.queue('resource.instance.created') } };
    const cart = { save_after: '0.2s', guest_token_secret: SECRET };
    [one, two] = await Promise.all([
      processes.start('product', { env: servers.env(), config: { data, cart } }),
      processes.start('product', { env: servers.env(), config: { data, cart } }),
    ]);
    pool = new pg.Pool({ connectionString: servers.postgresUrl, max: 1 });
    redis = new RedisServer({ addr: servers.redisUrl, readTimeoutMs: 5_000, connectTimeoutMs: 5_000, keyPrefix: '' });
    await redis.ready(5_000);
  });
  after(async () => {
    redis?.close();
    await pool?.end();
  });

  async function call(on: TestProcess, headers: Record<string, string>, method: string, path: string, body?: unknown) {
    const response = await fetch(`http://${on.http}${path}`, {
      ...{ method, headers: { 'content-type': 'application/json', ...headers } },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const reply: Reply = { status: response.status, body: await response.json() };
    return reply;
  }
  const as = (user: number, method: string, path: string, body?: unknown, on = one) =>
    call(on, { 'x-user-id': String(user) }, method, path, body);
  const admin = (method: string, path: string, body?: unknown) =>
    call(one, { 'x-user-role': 'ADMIN' }, method, path, body);
  const asGuest = (token: string, method: string, path: string, body?: unknown, on = one) =>
    call(on, { 'x-cart-token': token }, method, path, body);
  const succeeds = async (reply: Promise<Reply>) => {
    const { status, body } = await reply;
    assert.equal(status, 200, JSON.stringify(body));
    return body;
  };
  const refusal = async (reply: Promise<Reply>) => {
    const { status, body } = await reply;
    const violations = JSON.parse(body.metadata?.violations ?? '[]') as { field: string }[];
    return [status, body.reason, ...violations.map((v) => v.field)];
  };
  const guestToken = async () => (await succeeds(call(one, {}, 'POST', '/v1/carts', {}))).token as string;
  const quantitiesOf = (cart: { lines: { item: { skuId: string; quantity: number } }[] }) =>
    Object.fromEntries(cart.lines.map(({ item }) => [item.skuId, item.quantity]));

  let numbers = 0;
  const goods = async (priceFen: string): Promise<string> => {
    const no = `cart-${++numbers}`;
    const spu = await succeeds(
      admin('POST', '/v1/spus', {
        spuNo: no,
        title: '手机 📱',
        publishStatus: 'PUBLISHED',
        mainImages: ['https://i/1'],
      }),
    );
    const sku = { spuId: spu.id, skuNo: no, skuName: '黑色', priceFen, stock: '100', specs: { color: '黑色' } };
    return (await succeeds(admin('POST', '/v1/skus', sku))).id;
  };

  it('brings goods from the cart of a guest to a paid order, with the same amounts in every reply and row', async () => {
    const user = ++users;
    const [a, b] = [await goods('10000'), await goods('2500')];
    await succeeds(
      admin('PUT', '/v1/freight-rules', { regionPrefix: '3101', fee: { firstFeeFen: '800' }, version: '0' }),
    );
    const coupon = await succeeds(
      admin('POST', '/v1/coupons', {
        ...{ name: '满减券', total: '10', value: { thresholdFen: '20000', offFen: '1500' } },
      }),
    );
    const token = await guestToken();
    await succeeds(asGuest(token, 'PUT', `/v1/cart/items/${a}`, { quantity: 2 }));
    await succeeds(asGuest(token, 'PUT', `/v1/cart/items/${b}`, {}, two));
    await succeeds(as(user, 'PUT', `/v1/cart/items/${b}`, { quantity: 3 }));
    const asked = await succeeds(asGuest(token, 'GET', '/v1/cart?region=310115', undefined, two));
    assert.deepEqual(
      [quantitiesOf(asked), asked.quote.amountFen, asked.lines[0].spuName, asked.lines[0].specs],
      [{ [a]: 2, [b]: 1 }, '23300', '手机 📱', { color: '黑色' }],
    );

    const merge = () => call(one, { 'x-user-id': String(user), 'x-cart-token': token }, 'POST', '/v1/cart/merge', {});
    const merges = await Promise.all([merge(), merge()]);
    assert.deepEqual(merges.map((m) => m.body.mergedLines).sort(), [0, 2]);
    const mine = await succeeds(as(user, 'POST', `/v1/coupons/${coupon.id}/claim`, {}));

    const cart = await succeeds(as(user, 'GET', `/v1/cart?region=310115&coupon_id=${mine.id}`, undefined, two));
    assert.deepEqual(quantitiesOf(cart), { [a]: 2, [b]: 4 });
    const lines = Object.entries(quantitiesOf(cart)).map(([skuId, quantity]) => ({ skuId, quantity }));
    const quote = await succeeds(as(user, 'POST', '/v1/quotes', { lines, region: '310115', couponId: mine.id }));
    assert.deepEqual(cart.quote, quote);
    const ofCart = { cart: true, region: '310115' };
    assert.deepEqual(await succeeds(as(user, 'POST', '/v1/quotes', { ...ofCart, couponId: mine.id }, two)), quote);
    const tried = await succeeds(as(user, 'POST', '/v1/users/me/coupons:check', ofCart));
    assert.deepEqual(tried.coupons[0].use, quote.coupon);
    const invalid = (field: string) => [400, 'INVALID_ARGUMENT', field];
    assert.deepEqual(await refusal(as(user, 'POST', '/v1/quotes', { ...ofCart, lines })), invalid('cart'));
    assert.deepEqual(await refusal(as(user, 'POST', '/v1/quotes', {})), invalid('lines'));
    assert.deepEqual(await refusal(as(user + 1, 'POST', '/v1/quotes', ofCart)), invalid('cart'));
    const amounts = { total: '30000', freight: '800', promotion: '1500', amount: '29300' };
    const amountsOf = (of: Record<string, unknown>) => ({
      ...{ total: of.totalAmountFen, freight: of.freightAmountFen, promotion: of.promotionAmountFen },
      amount: of.amountFen,
    });
    assert.deepEqual(amountsOf(quote), amounts);

    const checkout = { requestId: 'buy', receiver: RECEIVER, expectedAmountFen: quote.amountFen, couponId: mine.id };
    const orders = await Promise.all(
      [one, two].map((on) => succeeds(as(user, 'POST', '/v1/cart/checkout', checkout, on))),
    );
    const [order] = orders;
    assert.equal(orders[1].id, order.id);
    assert.deepEqual(amountsOf(order), amounts);
    assert.deepEqual((await succeeds(as(user, 'GET', '/v1/cart'))).lines, []);
    const paid = { provider: 'p', eventId: 'cart', paidAmountFen: '29300' };
    assert.equal((await succeeds(call(two, {}, 'POST', `/v1/orders/${order.id}/paid`, paid))).status, 'PAID');
    const stored = await succeeds(as(user, 'GET', `/v1/orders/${order.id}`));
    assert.deepEqual(amountsOf(stored), amounts);
    const { rows } = await pool.query(
      `SELECT o.total_amount::text AS total, o.freight_amount::text AS freight, o.promotion_amount::text AS promotion,
         o.amount::text AS amount, (SELECT sum(amount)::text FROM payments WHERE order_id = o.id) AS paid,
         (SELECT sum(total_price)::text FROM order_items WHERE order_id = o.id) AS items,
         (SELECT sum(promotion_amount)::text FROM order_items WHERE order_id = o.id) AS shares,
         (SELECT sum(amount)::text FROM order_discounts WHERE order_id = o.id) AS discounts
       FROM orders o WHERE id = $1`,
      [order.id],
    );
    const { amount: paidFen, total: items, promotion } = amounts;
    assert.deepEqual(rows, [{ ...amounts, paid: paidFen, items, shares: promotion, discounts: promotion }]);
    assert.deepEqual(await refusal(as(user, 'POST', '/v1/cart/checkout', { receiver: RECEIVER })), [
      ...[409, 'CART_NOTHING_SELECTED'],
    ]);
  });

  it('saves a cart in the background, and brings it back after a flush of Redis', async () => {
    const user = ++users;
    const sku = await goods('100');
    await succeeds(as(user, 'PUT', `/v1/cart/items/${sku}`, { quantity: 7, selected: false }));
    const key = `cart:${formatUserId(String(user))}`;
    assert.deepEqual(await redis.commands.hkeys(key), [sku]);
    await eventually('the cart is saved', async () => {
      const { rows } = await pool.query('SELECT quantity FROM cart_items WHERE sku_id = $1', [sku]);
      return rows[0]?.quantity === 7 || undefined;
    });
    await redis.commands.flushdb();
    const { lines } = await succeeds(as(user, 'GET', '/v1/cart', undefined, two));
    assert.deepEqual(
      lines.map((l: { item: object }) => l.item),
      [{ ...lines[0].item, skuId: sku, quantity: 7, selected: false, addedPriceFen: '100' }],
    );
    await succeeds(as(user, 'DELETE', `/v1/cart/items/${sku}`));
    await succeeds(as(user, 'DELETE', '/v1/cart'));
    assert.deepEqual(await succeeds(as(user, 'GET', '/v1/cart')), { lines: [], quote: null });
  });

  it('takes ordered lines out of a cart whose process was killed in between', async () => {
    const user = ++users;
    const sku = await goods('100');
    await succeeds(as(user, 'PUT', `/v1/cart/items/${sku}`, { quantity: 2 }));
    const order = await succeeds(as(user, 'POST', '/v1/cart/checkout', { receiver: RECEIVER }));
    // As after a kill between the order's transaction and the script: the lines are there, and an open checkout.
    const { rows } = await pool.query<{ user_id: string }>('SELECT user_id FROM orders WHERE id = $1', [order.id]);
    await succeeds(as(user, 'PUT', `/v1/cart/items/${sku}`, { quantity: 3 }));
    await pool.query(
      `INSERT INTO cart_checkouts (user_id, order_id, lines, at)
       VALUES ($1, $2, $3, now() - interval '1 minute')`,
      [rows[0]?.user_id, order.id, JSON.stringify([{ sku_id: sku, quantity: 2 }])],
    );
    await eventually('the lines have left', async () => {
      const cart = await succeeds(as(user, 'GET', '/v1/cart', undefined, two));
      return quantitiesOf(cart)[sku] === 1 || undefined;
    });
    await eventually('the checkout is forgotten', async () => {
      const { rows: left } = await pool.query('SELECT id FROM cart_checkouts');
      return left.length === 0 || undefined;
    });
  });

  it('knows the tokens that it has issued from all others', async () => {
    const get = (token: string) => refusal(asGuest(token, 'GET', '/v1/cart'));
    const token = await guestToken();
    assert.equal((await asGuest(token, 'GET', '/v1/cart')).status, 200);
    const expired = new GuestTokens({ secrets: [SECRET], ttlMs: -1 }).issue().token;
    const foreign = new GuestTokens({ secrets: ['another secret, of another shop'], ttlMs: 60_000 }).issue().token;
    assert.deepEqual(await get(expired), [401, 'CART_TOKEN_EXPIRED']);
    const longer = token.replace(/^1\.(\d)/, (_, first: string) => `1.${Number(first) + 1}`);
    for (const bad of [foreign, longer, `${token}x`, token.slice(0, -1), 'x', '1...', 'a'.repeat(5_000)]) {
      assert.deepEqual(await get(bad), [401, 'CART_TOKEN_INVALID'], bad.slice(0, 100));
    }
    assert.deepEqual(await refusal(call(one, {}, 'GET', '/v1/cart')), [401, 'UNAUTHENTICATED']);
    const user = { 'x-user-id': String(++users) };
    assert.deepEqual(await refusal(call(one, user, 'POST', '/v1/cart/merge', {})), [401, 'CART_TOKEN_INVALID']);
    const merge = call(one, { ...user, 'x-cart-token': expired }, 'POST', '/v1/cart/merge', {});
    assert.deepEqual(await refusal(merge), [401, 'CART_TOKEN_EXPIRED']);
    assert.deepEqual(await refusal(call(one, { 'x-cart-token': token }, 'POST', '/v1/cart/merge', {})), [
      ...[401, 'UNAUTHENTICATED'],
    ]);
  });

  it('names the field of what makes no sense', async () => {
    const user = ++users;
    const sku = await goods('100');
    const put = (id: string, body: unknown) => refusal(as(user, 'PUT', `/v1/cart/items/${id}`, body));
    for (const quantity of [0, -1, 10_001, 2 ** 31]) {
      assert.deepEqual((await put(sku, { quantity })).slice(0, 2), [400, 'INVALID_ARGUMENT'], String(quantity));
    }
    for (const body of [{ quantity: '二' }, { selected: 'yes' }, { quantity: {} }, { quantity: 1.5 }, []]) {
      assert.equal((await put(sku, body))[0], 400, JSON.stringify(body));
    }
    assert.deepEqual((await put('0', {})).slice(0, 2), [400, 'INVALID_ARGUMENT']);
    assert.equal((await put('手机', {}))[0], 400);
    assert.equal((await put(String(2n ** 64n), {}))[0], 400);
    assert.deepEqual(await put('999999999', {}), [404, 'SKU_NOT_FOUND', 'skuId']);
    assert.equal((await put(sku, { quantity: 1, padding: 'x'.repeat(300_000) }))[0], 413);
    const checkout = (body: unknown) => refusal(as(user, 'POST', '/v1/cart/checkout', body));
    assert.deepEqual((await checkout({})).slice(0, 2), [400, 'INVALID_ARGUMENT']);
    assert.deepEqual((await checkout({ receiver: RECEIVER, requestId: 'x'.repeat(65) })).slice(0, 2), [
      ...[400, 'INVALID_ARGUMENT'],
    ]);
    await succeeds(as(user, 'PUT', `/v1/cart/items/${sku}`, {}));
    assert.deepEqual(await checkout({ receiver: RECEIVER, couponId: '9' }), [404, 'COUPON_NOT_FOUND', 'couponId']);
    assert.deepEqual(await refusal(as(user, 'GET', '/v1/cart?coupon_id=9')), [404, 'COUPON_NOT_FOUND', 'couponId']);
    assert.deepEqual(await refusal(as(user, 'GET', `/v1/cart?region=${'3'.repeat(33)}`)), [
      ...[400, 'INVALID_ARGUMENT', 'region'],
    ]);
    const other = await succeeds(as(++users, 'GET', '/v1/cart'));
    assert.deepEqual(other.lines, [], 'the cart of another user');
  });
});
