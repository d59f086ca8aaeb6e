import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { credentials, Metadata } from '@grpc/grpc-js';
import { PurchaseStreamClient } from '../../api/seckill/v1/client/purchase-stream-client.js';
import type { PurchaseStreamError } from '../../api/seckill/v1/client/stream-purchase.js';
import { permissionDenied } from '../../gen/common/v1/errors.js';
import {
  PurchaseReply_Code as Code,
  type PurchaseStreamReply,
  type PurchaseStreamRequest,
  PurchaseStreamRequest_Purchase,
  SeckillServiceClient,
  SeckillServiceService,
} from '../../gen/seckill/v1/seckill.js';
import { loadDescriptors } from '../../internal/conf/descriptors.js';
import type { CallContext } from '../../internal/kratos/transport/call-context.js';
import { Dispatcher, ServiceBinding } from '../../internal/kratos/transport/dispatcher.js';
import { GrpcListener } from '../../internal/kratos/transport/grpc/listener.js';
import { freePort } from '../../internal/local/servers/ports.js';
import { eventually } from '../support/wait.js';

type Handler = (requests: AsyncIterable<PurchaseStreamRequest>, ctx: CallContext) => AsyncIterable<PurchaseStreamReply>;

const first = (maxInFlight: number): PurchaseStreamReply => ({ results: [], maxInFlight, reconnect: false });
const answer = (...purchases: PurchaseStreamRequest_Purchase[]): PurchaseStreamReply => ({
  results: purchases.map(({ number, requestId }) => ({
    ...{ number, code: Code.QUEUED, seckillId: `1-${requestId}`, mayReturn: false, reason: '', message: '' },
  })),
  maxInFlight: 0,
  reconnect: false,
});

/** Answers every purchase at once. */
const obliging: Handler = async function* (requests) {
  yield first(8);
  for await (const { purchases } of requests) yield answer(...purchases);
};

describe('The client of PurchaseStream', () => {
  let listener: GrpcListener;
  let client: PurchaseStreamClient | undefined;

  /** The handlers of the streams, in the order in which they are opened; the last one serves all further streams. */
  async function serve(...handlers: Handler[]): Promise<string> {
    let streams = 0;
    const purchaseStream: Handler = (requests, ctx) =>
      handlers[Math.min(streams++, handlers.length - 1)]!(requests, ctx);
    const binding = new ServiceBinding({ purchaseStream: SeckillServiceService.purchaseStream }, { purchaseStream });
    const dispatcher = new Dispatcher(loadDescriptors().registry, [binding], []);
    listener = new GrpcListener({ addr: '127.0.0.1:0', maxMessageBytes: 262_144 }, dispatcher);
    await listener.start();
    return `127.0.0.1:${listener.port}`;
  }
  const connect = (addr: string, options = {}) => {
    client = new PurchaseStreamClient({ addr, token: 'secret', streams: 1, ...options });
    return client;
  };
  const buy = (requestId: string, timeoutMs = 10_000) =>
    client!.purchase({ itemId: 1n, userId: '7', requestId, timeoutMs });
  const names = (count: number) => Array.from({ length: count }, (_, i) => `r${i}`);

  afterEach(async () => {
    await client?.close();
    client = undefined;
    await listener.stop(AbortSignal.timeout(500));
  });

  it('sends what is bought together in one message, on all streams, and no more than their windows hold', async () => {
    const seen: number[] = [];
    let most = 0;
    const slow: Handler = async function* (requests) {
      yield first(4);
      const open: PurchaseStreamRequest_Purchase[] = [];
      for await (const { purchases } of requests) {
        seen.push(purchases.length);
        open.push(...purchases);
        most = Math.max(most, open.length);
        await new Promise((resolve) => setImmediate(resolve));
        yield answer(...open.splice(0));
      }
    };
    connect(await serve(slow), { streams: 2 });
    const results = await Promise.all(names(40).map((name) => buy(name)));
    assert.deepEqual(
      results.map((r) => r.seckillId),
      names(40).map((name) => `1-${name}`),
    );
    assert.ok(seen.includes(4), String(seen));
    assert.ok(most <= 4, String(most));
  });

  it('sends the purchases of a broken stream again, with the same request ids and what is left of their time', async () => {
    const lost: PurchaseStreamRequest_Purchase[] = [];
    const breaking: Handler = async function* (requests) {
      yield first(8);
      for await (const { purchases } of requests) {
        const [one, ...rest] = purchases;
        lost.push(...rest);
        yield answer(one!);
        throw new Error('the stream breaks');
      }
    };
    const again: PurchaseStreamRequest_Purchase[] = [];
    const recording: Handler = async function* (requests) {
      yield first(8);
      for await (const { purchases } of requests) {
        again.push(...purchases);
        yield answer(...purchases);
      }
    };
    const { resent } = connect(await serve(breaking, recording));
    assert.equal(resent, 0);
    const results = await Promise.all(names(5).map((name) => buy(name)));
    assert.ok(results.every((r) => r.code === Code.QUEUED));
    assert.equal(client?.resent, 4);
    assert.deepEqual(
      again.map((p) => p.requestId),
      lost.map((p) => p.requestId),
    );
    assert.ok(again.every((p) => p.timeoutMs > 0 && p.timeoutMs < 10_000));
  });

  it('waits for a server that is not there yet', async () => {
    // One that no other program is given in the meantime.
    const addr = `127.0.0.1:${await freePort()}`;
    connect(addr);
    const bought = buy('early');
    const dispatcher = new Dispatcher(
      loadDescriptors().registry,
      [new ServiceBinding({ purchaseStream: SeckillServiceService.purchaseStream }, { purchaseStream: obliging })],
      [],
    );
    listener = new GrpcListener({ addr, maxMessageBytes: 262_144 }, dispatcher);
    await listener.start();
    assert.equal((await bought).seckillId, '1-early');
  });

  it('opens another stream when it is asked to, and still gets the results of the first', async () => {
    let opened = 0;
    let release: () => void = () => {};
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    const retiring: Handler = async function* (requests) {
      yield first(8);
      const open: PurchaseStreamRequest_Purchase[] = [];
      for await (const { purchases } of requests) {
        open.push(...purchases);
        if (opened++ === 0) yield { results: [], maxInFlight: 0, reconnect: true };
      }
      // The caller has closed its side.
      await released;
      yield answer(...open);
    };
    connect(await serve(retiring, obliging));
    const before = buy('before');
    await eventually('the first stream is retired', () => opened === 1);
    assert.equal((await buy('after')).seckillId, '1-after');
    release();
    assert.equal((await before).seckillId, '1-before');
    assert.equal(client?.resent, 0);
  });

  it('ends the wait for a result after its time, and says when too many wait', async () => {
    const silent: Handler = async function* (requests, ctx) {
      yield first(1);
      for await (const _ of requests) await new Promise((resolve) => ctx.signal.addEventListener('abort', resolve));
    };
    connect(await serve(silent), { maxWaiting: 2 });
    const both = [buy('a', 60), buy('b', 60)];
    const full = buy('c');
    await assert.rejects(full, (err: PurchaseStreamError) => err.reason === 'QUEUE_FULL');
    for (const late of both) {
      await assert.rejects(late, (err: PurchaseStreamError) => err.reason === 'DEADLINE_EXCEEDED');
    }
  });

  it('fails what waits when product refuses its streams', async () => {
    const refusing: Handler = () => {
      throw permissionDenied('the caller may not make this call');
    };
    connect(await serve(refusing));
    await assert.rejects(buy('a'), /REFUSED|the caller may not make this call/);
  });

  it('makes no purchases once it is closed, and answers those before', async () => {
    connect(await serve(obliging));
    const bought = buy('a');
    await client!.close();
    assert.equal((await bought).seckillId, '1-a');
    await assert.rejects(buy('b'), (err: PurchaseStreamError) => err.reason === 'CLOSED');
  });

  it('ends the requests of its handler by ending its side, and by cancelling, which aborts the signal', async () => {
    const ends: AbortSignal[] = [];
    let read = 0;
    const watching: Handler = async function* (requests, { signal }) {
      yield first(1);
      for await (const _ of requests) read++;
      ends.push(signal);
    };
    const rpc = new SeckillServiceClient(await serve(watching), credentials.createInsecure());
    try {
      for (const leave of ['end', 'cancel'] as const) {
        const call = rpc.purchaseStream(new Metadata());
        call.on('error', () => {});
        call.on('data', () => {});
        call.write({ purchases: [] });
        const before = { read, ends: ends.length };
        await eventually('the message arrives', () => read > before.read);
        call[leave]();
        await eventually('the end arrives', () => ends.length > before.ends);
      }
      // grpc-js ends the requests just before it says that the call was cancelled.
      await eventually('the signal', () => ends[1]?.aborted);
    } finally {
      rpc.close();
    }
  });

  it('is slowed down, not dropped, by a server that does not read', async () => {
    let release: () => void = () => {};
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    const COUNT = 400;
    let read = 0;
    const stuck: Handler = async function* (requests) {
      yield first(1);
      for await (const { purchases } of requests) {
        read++;
        await released;
        yield answer(...purchases);
      }
    };
    // A caller that ignores the window. Its messages of 4 kB are more than the buffers on the way take.
    const rpc = new SeckillServiceClient(await serve(stuck), credentials.createInsecure());
    try {
      const call = rpc.purchaseStream(new Metadata());
      const numbers: number[] = [];
      call.on('data', (reply: PurchaseStreamReply) => numbers.push(...reply.results.map((r) => r.number)));
      call.on('error', () => {});
      let written = 0;
      const writing = (async () => {
        for (let number = 1; number <= COUNT; number++) {
          const purchase = PurchaseStreamRequest_Purchase.fromPartial({ number, requestId: 'x'.repeat(4_000) });
          written = number;
          if (call.write({ purchases: [purchase] })) continue;
          await new Promise((resolve) => call.once('drain', resolve));
        }
        call.end();
      })();
      await eventually('the caller is stopped', async () => {
        const before = written;
        await sleep(100);
        return read === 1 && written > 1 && written === before;
      });
      assert.ok(written < COUNT, `${written} messages were taken`);
      release();
      await writing;
      await eventually('every result', () => numbers.length === COUNT);
      assert.deepEqual(
        numbers,
        Array.from({ length: COUNT }, (_, i) => i + 1),
      );
    } finally {
      rpc.close();
    }
  });
});
