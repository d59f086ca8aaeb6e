import assert from 'node:assert/strict';
import { on, once } from 'node:events';
import { Agent, request as httpRequest } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { connect as connectTcp, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { credentials, Metadata, status } from '@grpc/grpc-js';
import { Redis } from 'ioredis';
import { ListProductsRequest, ProductServiceClient } from '../../gen/product/v1/product.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const CALLERS = 8;
/** Between two calls of a caller: often idle, so that the end meets connections in every state. */
const PAUSE_MS = 5;

describe('two replicas of product on one host', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let products: TestProcess[];
  let redis: Redis;
  let itemId: string;

  before(async () => {
    redis = new Redis(servers.redisUrl);
    const env = servers.env();
    products = await Promise.all([processes.start('product', { env }), processes.start('product', { env })]);
    const spec = await admin('/v1/product-specs', { cpu: 1, memory: 1, image: 'debian-12' });
    const plan = await admin('/v1/products', { name: 'plan', priceFen: '1', specId: spec.id, status: 'ENABLED' });
    itemId = plan.id;
    await admin('/v1/sales', { itemId, total: '1000', payMode: 'PAY_LATER' });
  });
  after(() => redis.disconnect());

  async function admin(path: string, body: unknown): Promise<{ id: string }> {
    const reply = await fetch(`http://${products[0]!.http}${path}`, {
      method: 'POST',
      headers: { 'x-user-role': 'ADMIN', 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    assert.equal(reply.status, 200);
    return (await reply.json()) as { id: string };
  }

  async function consumers(): Promise<string[]> {
    const stream = `stream:seckill:${itemId}`;
    const list = (await redis.xinfo('CONSUMERS', stream, 'product').catch(() => [])) as unknown[][];
    return list.map((fields) => String(fields[fields.indexOf('name') + 1])).sort();
  }

  it('have consumer names of their own, and the same two after both were killed', async () => {
    const buy = async (user: number, product: TestProcess) => {
      const reply = await fetch(`http://${product.http}/v1/seckill`, {
        method: 'POST',
        headers: { 'x-user-id': String(user), 'content-type': 'application/json' },
        body: JSON.stringify({ itemId }),
      });
      return ((await reply.json()) as { code: string }).code;
    };
    let user = 1;
    await eventually('both consume', async () => {
      await buy(user++, products[user % 2]!);
      return (await consumers()).length >= 2;
    });
    const before = await consumers();
    await Promise.all(products.map((p) => p.kill()));
    products = await Promise.all(products.map((p) => p.again()));
    for (let i = 0; i < 20; i++) {
      await eventually('purchases', async () => (await buy(user++, products[i % 2]!)) === 'QUEUED');
    }
    await eventually('the stream is empty', async () => (await redis.xlen(`stream:seckill:${itemId}`)) === 0);
    assert.deepEqual(await consumers(), before);
    assert.equal(before.length, 2);
  });

  it('lose no call on an open connection when one of them stops', async () => {
    const [stopping] = products;
    const agent = new Agent({ keepAlive: true, maxSockets: CALLERS });
    const grpc = Array.from(
      { length: CALLERS },
      // Each has a connection of its own.
      () =>
        new ProductServiceClient(stopping!.grpc, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 }),
    );
    const lost: string[] = [];
    let answered = 0;
    let gone = 0;
    const caller = async (call: () => Promise<'answered' | 'gone' | string>) => {
      for (;;) {
        const outcome = await call();
        if (outcome === 'gone') {
          gone += 1;
          return;
        }
        if (outcome === 'answered') answered += 1;
        else lost.push(outcome);
        await sleep(PAUSE_MS * Math.random());
      }
    };
    const calls = [
      ...Array.from({ length: CALLERS }, () => caller(() => overHttp(stopping!.http, agent))),
      ...grpc.map((client) => caller(() => overGrpc(client))),
    ];
    try {
      await eventually('all call', () => answered > 40 * CALLERS);
      assert.equal(await stopping!.stop(), 'exited with code 0');
      await Promise.all(calls);
      assert.deepEqual(lost, []);
      assert.equal(gone, 2 * CALLERS);
    } finally {
      agent.destroy();
      for (const client of grpc) client.close();
    }
  });
  // On loopback a call that meets a closing connection is too rare to be seen, so this looks at what the connections say.
  it('tell their callers to leave while they still serve: GOAWAY, and Connection: close', async () => {
    const stopping = await processes.start('product', {
      env: servers.env(),
      config: { server: { drainDelay: '4s' } },
    });
    const served = async () =>
      (await fetch(`http://${stopping.http}/v1/products`).catch(() => undefined))?.status === 200;
    const session = connectHttp2(`http://${stopping.grpc}`);
    const socket = connectTcp(Number(stopping.http.split(':')[1]), stopping.http.split(':')[0]);
    try {
      await Promise.all([once(session, 'connect'), once(socket, 'connect')]);
      const closed = once(socket, 'end');
      const replies = new RawReplies(socket, stopping.http);
      assert.doesNotMatch(await replies.next(), /^connection: close/im);
      const asked = Promise.race([
        once(session, 'goaway').then(
          async ([code]) => `GOAWAY ${code}, and it ${(await served()) ? 'serves' : 'is gone'}`,
        ),
        once(session, 'close').then(() => 'closed without GOAWAY'),
      ]);
      const stopped = stopping.stop();
      assert.equal(await asked, 'GOAWAY 0, and it serves');
      assert.match(await replies.next(), /^connection: close/im);
      assert.ok(await served(), 'a new connection is served');
      await closed;
      assert.equal(await stopped, 'exited with code 0');
    } finally {
      session.destroy();
      socket.destroy();
    }
  });
});

/** Requests one after the other on one connection. */
class RawReplies {
  private readonly chunks: AsyncIterator<Buffer>;

  constructor(
    private readonly socket: Socket,
    private readonly host: string,
  ) {
    this.chunks = on(socket, 'data')[Symbol.asyncIterator]() as unknown as AsyncIterator<Buffer>;
  }

  /** The head of the reply to one more request, whose body is smaller than a packet. */
  async next(): Promise<string> {
    this.socket.write(`GET /v1/products?limit=1 HTTP/1.1\r\nHost: ${this.host}\r\n\r\n`);
    const { value } = await this.chunks.next();
    return String(value).split('\r\n\r\n', 1)[0]!;
  }
}

/** `gone` when no connection could be made, which a caller notices before it has sent anything. */
function overHttp(address: string, agent: Agent): Promise<string> {
  return new Promise((resolve) => {
    const call = httpRequest(`http://${address}/v1/products`, { agent }, (reply) => {
      reply.resume();
      reply.on('end', () => resolve(reply.statusCode === 200 ? 'answered' : `HTTP ${reply.statusCode}`));
    });
    call.on('error', (err: NodeJS.ErrnoException) =>
      resolve(err.code === 'ECONNREFUSED' ? 'gone' : `HTTP ${err.code ?? err.message}`),
    );
    call.end();
  });
}

function overGrpc(client: ProductServiceClient): Promise<string> {
  return new Promise((resolve) => {
    const options = { deadline: Date.now() + 10_000 };
    client.listProducts(ListProductsRequest.create({ limit: 1 }), new Metadata(), options, (err) => {
      if (!err) resolve('answered');
      else if (err.code === status.UNAVAILABLE && /No connection established|ECONNREFUSED/.test(err.details))
        resolve('gone');
      else resolve(`gRPC ${err.code}: ${err.details}`);
    });
  });
}
