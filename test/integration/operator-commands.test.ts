import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { projectRoot } from '../../internal/local/project.js';
import { useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

describe('The commands of an operator', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let env: Record<string, string>;

  before(async () => {
    const config = { data: { rabbitmq: { queue: servers.queue('resource.instance.created') } } };
    const product = await processes.start('product', { env: servers.env(), config });
    const resource = await processes.start('resource', { env: { ...servers.env(), ...product.env() }, config });
    env = { ...servers.env(), ...product.env(), ...resource.env() };
  });

  function kaimai(...args: string[]): Promise<{ code: number; out: string }> {
    const command = [join(projectRoot, 'dist/cmd/kaimai/main.js'), ...args];
    return new Promise((resolve) => {
      execFile(process.execPath, command, { env: { ...process.env, ...env } }, (error, out, err) =>
        resolve({ code: error ? Number(error.code) : 0, out: `${out}${err}`.trimEnd() }),
      );
    });
  }

  async function call<T>(method: string, path: string, headers: Record<string, string>, body?: unknown): Promise<T> {
    const reply = await fetch(`http://${env.KAIMAI_PRODUCT_HTTP}${path}`, {
      method,
      headers: { 'content-type': 'application/json', ...headers },
      body: body === undefined ? null : JSON.stringify(body),
    });
    const text = await reply.text();
    assert.ok(reply.ok, text);
    return JSON.parse(text) as T;
  }

  it('run a sale, show what waits, and show the life of an order', async () => {
    const admin = { 'x-user-role': 'ADMIN' };
    const spec = await call<{ id: string }>('POST', '/v1/product-specs', admin, {
      cpu: 1,
      memory: 1,
      image: 'debian-12',
    });
    const plan = { name: 'Plan', priceFen: '100', specId: spec.id, status: 'ENABLED' };
    const { id } = await call<{ id: string }>('POST', '/v1/products', admin, plan);

    const options = ['--total', '5', '--price', '50', '--name', 'Autumn', '--segments', '2'];
    const created = await kaimai('sale', 'create', id, ...options);
    assert.match(created.out, new RegExp(`^${id} +Autumn +SCHEDULED .* 5 +0 +\\d+ +50 `, 'm'));
    assert.equal((await call<{ segments: number }>('GET', `/v1/sales/${id}`, {})).segments, 2);
    assert.match((await kaimai('sale', 'open', id)).out, new RegExp(`^${id} +Autumn +OPEN `, 'm'));
    assert.equal((await kaimai('sale', 'limit', id, '123', '2')).out, `user 123 may buy 2 of item ${id}`);
    assert.equal((await kaimai('sale', 'limit', id, '123', '3')).out, `user 123 may buy 3 of item ${id}`);
    const limits = (await kaimai('sale', 'limits', id)).out;
    assert.match(limits, /^USER +LIMIT +LEFT +VERSION\n00000000-0000-8000-8000-00000000007b +3 +3 +2$/);
    const later = await kaimai('sale', 'update', id, '--total', '7', '--ends', '2099-01-01T00:00:00+08:00');
    assert.match(later.out, new RegExp(`^${id} +Autumn +OPEN .* 2098-12-31T16:00:00Z +7 +0 +7 +50 `, 'm'));
    const endless = await kaimai('sale', 'update', id, '--total', '5', '--ends', 'never');
    assert.match(endless.out, new RegExp(`^${id} +Autumn +OPEN +\\S+ +5 +0 +5 +50 `, 'm'));
    const refused = await kaimai('sale', 'update', id, '--price', '60');
    assert.deepEqual([refused.code, /SALE_STATUS_CONFLICT/.test(refused.out)], [1, true]);
    assert.equal((await kaimai('sale', 'update', id)).out, 'kaimai: nothing to change: give at least one option');
    assert.match((await kaimai('sale', 'list')).out, new RegExp(`^${id} +Autumn +OPEN `, 'm'));

    const bought = await eventually('a purchase', async () => {
      const reply = await call<{ data?: { seckillId: string } | null }>(
        'POST',
        '/v1/seckill',
        { 'x-user-id': '123' },
        { itemId: id },
      );
      return reply.data?.seckillId;
    });
    const order = await eventually('the order', async () => {
      const found = await call<{ orderId: string }>('GET', `/v1/seckill/${bought}`, { 'x-user-id': '123' });
      return found.orderId !== '0' && found.orderId;
    });
    const life = await eventually('the end of the order', async () => {
      const { out } = await kaimai('order', 'show', `ORD${order}`);
      return / COMPLETED, /.test(out) && out;
    });
    for (const part of [
      `stream +purchase ${bought} of 1 units`,
      'inbox +ORDER',
      'order +PAID',
      'outbox +instance.created written',
    ]) {
      assert.match(life, new RegExp(part));
    }
    assert.match(life, /queue +instance\.created published(.|\n)*instance +instance \d+ reported as SUCCESS/);
    assert.deepEqual(await kaimai('order', 'show', '1'), { code: 1, out: 'kaimai: there is no order 1' });

    const status = await kaimai('status');
    assert.equal(status.code, 0, status.out);
    assert.match(status.out, /^product +ready\nresource +ready$/m);
    assert.match(status.out, /^orders past their payment deadline +0$/m);
    assert.match(status.out, /^orders past their confirm deadline +0$/m);
    assert.match(status.out, new RegExp(`^${id} +Autumn +5 +1 +4$`, 'm'));

    assert.match((await kaimai('sale', 'close', id)).out, new RegExp(`^${id} +Autumn +CLOSED `, 'm'));
    assert.match((await kaimai('sale', 'watch', id)).out, /CLOSED: 1 of 5 sold/);
  });
});
