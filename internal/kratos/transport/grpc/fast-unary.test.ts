import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type OutgoingHttpHeaders,
} from 'node:http2';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { productNotFound } from '../../../../gen/product/v1/errors.js';
import { Product, ProductServiceService } from '../../../../gen/product/v1/product.js';
import { loadDescriptors } from '../../../conf/descriptors.js';
import { rateLimited } from '../../errors/reasons.js';
import type { Call } from '../call.js';
import type { CallContext } from '../call-context.js';
import { Dispatcher, ServiceBinding } from '../dispatcher.js';
import { GRPC_JS_VERSION } from './fast-unary.js';
import { GrpcListener } from './listener.js';

const GET = ProductServiceService.getProduct;
const MAX_BYTES = 40_000;
/** Names that handlers ask for, and headers that belong to the protocol. */
const NAMES = ['x-user-id', 'x-twice', 'x-empty', 'x-latin', 'x-list', 'x-data-bin', 'cookie', 'te', 'content-type'];
const HIDDEN_NAMES = [
  'grpc-timeout',
  'grpc-encoding',
  'grpc-accept-encoding',
  'accept-encoding',
  ':path',
  'user-agent',
];

/** One listener whose handler waits, fails or tells what it was given, depending on the product id. */
class Side {
  readonly listener: GrpcListener;
  session!: ClientHttp2Session;
  lastContext: CallContext | undefined;
  lastPeer = '';
  private entered: (ctx: CallContext) => void = () => {};
  release: () => void = () => {};

  constructor(fastUnary: boolean) {
    const getProduct = async ({ id }: { id: bigint }, ctx: CallContext) => {
      this.lastContext = ctx;
      this.lastPeer = (ctx as Call).peer;
      if (id === 404n) throw productNotFound('没有 100 % of it', { metadata: { id: '404' } });
      if (id === 429n) throw rateLimited('too many', { retryAfterMs: 1_500 });
      if (id === 500n) throw new Error('the password is hunter2');
      if (id === 504n) {
        await new Promise<void>((resolve) => {
          this.release = resolve;
          this.entered(ctx);
        });
      }
      if (id === 8n) ctx.replyHeaders.set('x-served-by', 'shelf').set('content-type', 'application/grpc+mine');
      const seen = [...NAMES, ...HIDDEN_NAMES].map((name) => [name, ctx.metadata(name)]);
      return Product.create({ id, name: id === 9n ? 'x'.repeat(100_000) : JSON.stringify(seen) });
    };
    const binding = new ServiceBinding({ getProduct: GET }, { getProduct });
    const dispatcher = new Dispatcher(loadDescriptors().registry, [binding], []);
    this.listener = new GrpcListener({ addr: '127.0.0.1:0', maxMessageBytes: MAX_BYTES, fastUnary }, dispatcher);
  }

  async start(): Promise<void> {
    await this.listener.start();
    this.session = connect(`http://127.0.0.1:${this.listener.port}`);
    this.session.on('error', () => {});
    await once(this.session, 'connect');
  }

  async stop(): Promise<void> {
    this.release();
    this.session.destroy();
    await this.listener.stop(AbortSignal.timeout(2_000));
  }

  /** The context of the next call that waits. */
  waiting(): Promise<CallContext> {
    return new Promise((resolve) => {
      this.entered = resolve;
    });
  }

  request(headers: OutgoingHttpHeaders = {}): ClientHttp2Stream {
    const stream = this.session.request({
      ':method': 'POST',
      ':path': GET.path,
      'content-type': 'application/grpc',
      te: 'trailers',
      'user-agent': 'a-test',
      ...headers,
    });
    stream.on('error', () => {});
    return stream;
  }

  /** Sends each chunk in a frame of its own. */
  async ask(headers: OutgoingHttpHeaders, chunks: readonly Buffer[], ends = true): Promise<unknown> {
    const stream = this.request(headers);
    const answered = answerOf(stream);
    for (const chunk of chunks) {
      await new Promise((resolve) => stream.write(chunk, resolve));
      await roundTrip(this.session);
    }
    if (ends) stream.end();
    const answer = await answered;
    stream.close();
    return answer;
  }
}

async function answerOf(stream: ClientHttp2Stream): Promise<unknown> {
  let headers: OutgoingHttpHeaders | undefined;
  let trailers: OutgoingHttpHeaders | undefined;
  const chunks: Buffer[] = [];
  stream.on('response', (got) => {
    headers = { ...got };
    delete headers.date;
  });
  stream.on('trailers', (got) => {
    trailers = { ...got };
  });
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await Promise.race([once(stream, 'end'), once(stream, 'close')]);
  return { headers, body: Buffer.concat(chunks).toString('hex'), trailers };
}

function roundTrip(session: ClientHttp2Session): Promise<void> {
  return new Promise((resolve, reject) => session.ping((err) => (err ? reject(err) : resolve())));
}

function framed(bytes: Uint8Array, isCompressed = false): Buffer {
  const prefix = Buffer.alloc(5);
  prefix[0] = isCompressed ? 1 : 0;
  prefix.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([prefix, bytes]);
}

const get = (id: bigint) => framed(GET.requestSerialize({ id }));
/** A request with an unknown field of this many bytes. */
const padded = (bytes: number) => {
  const size = Buffer.from([0x7a, (bytes & 0x7f) | 0x80, ((bytes >> 7) & 0x7f) | 0x80, bytes >> 14]);
  return framed(Buffer.concat([GET.requestSerialize({ id: 7n }), size, Buffer.alloc(bytes, 1)]));
};
const halves = (whole: Buffer, at: number) => [whole.subarray(0, at), whole.subarray(at)];

/** Requests that both sides must answer alike: headers, chunks, and whether the caller ends its stream. */
const CASES: Readonly<Record<string, [OutgoingHttpHeaders, readonly Buffer[], boolean?]>> = {
  'a plain call': [{}, [get(7n)]],
  'reply headers': [{}, [get(8n)]],
  'a large reply': [{}, [get(9n)]],
  'a call with identity encoding': [{ 'grpc-encoding': 'identity', 'grpc-accept-encoding': 'gzip' }, [get(7n)]],
  'metadata of every kind': [
    {
      'x-user-id': '5',
      'x-twice': ['a', 'b'],
      'x-empty': '',
      'x-latin': 'caf\u00e9',
      'x-list': 'a,b , c',
      'x-data-bin': [Buffer.from('one').toString('base64'), Buffer.from('two').toString('base64')],
      cookie: ['a=1', 'b=2'],
      'accept-encoding': 'gzip',
      'grpc-timeout': '10S',
    },
    [get(7n)],
  ],
  'an error with a reason': [{}, [get(404n)]],
  'an error with a delay': [{}, [get(429n)]],
  'an unexpected error': [{}, [get(500n)]],
  'a message that is not valid': [{}, [framed(Buffer.from([0x0f, 0xff, 0xff]))]],
  'an empty message': [{}, [Buffer.alloc(5)]],
  'a message in two frames': [{}, halves(get(7n), 6)],
  'a prefix in two frames': [{}, halves(get(7n), 3)],
  'a message that Node splits': [{}, [padded(30_000)]],
  'a message that is too large': [{}, [padded(MAX_BYTES)]],
  'a message that is too large and not complete': [{}, [padded(MAX_BYTES).subarray(0, 100)], false],
  'two messages': [{}, [get(7n), get(7n)]],
  'two messages in one frame': [{}, [Buffer.concat([get(7n), get(7n)])]],
  'half a message after a whole one': [{}, [get(7n), get(7n).subarray(0, 4)]],
  'no message': [{}, []],
  'half a message': [{}, [get(7n).subarray(0, 6)]],
  'a compressed message': [{ 'grpc-encoding': 'gzip' }, [framed(gzipSync(GET.requestSerialize({ id: 7n })), true)]],
  'an unknown compression': [{ 'grpc-encoding': 'snappy' }, [framed(Buffer.alloc(3), true)]],
  'a compressed message without an encoding': [{}, [framed(GET.requestSerialize({ id: 7n }), true)]],
  'another content type': [{ 'content-type': 'application/json' }, [get(7n)]],
  'a content type with a suffix': [{ 'content-type': 'application/grpc+proto' }, [get(7n)]],
  'an unknown method': [{ ':path': '/product.v1.ProductService/Nothing' }, [get(7n)]],
  'a timeout that is not valid': [{ 'grpc-timeout': 'soon' }, [get(7n)]],
  'a timeout of weeks': [{ 'grpc-timeout': '500H' }, [get(7n)]],
  'a deadline that passes while the handler runs': [{ 'grpc-timeout': '50m' }, [get(504n)]],
  'a deadline that passes before the message': [{ 'grpc-timeout': '50m' }, [], false],
  'a deadline that passes within the message': [{ 'grpc-timeout': '50m' }, [get(7n).subarray(0, 4)], false],
  'a deadline that passes before the end': [{ 'grpc-timeout': '50m' }, [get(7n)], false],
};

describe('Unary calls that are served beside grpc-js', () => {
  const fast = new Side(true);
  const standard = new Side(false);
  before(() => Promise.all([fast.start(), standard.start()]));
  after(() => Promise.all([fast.stop(), standard.stop()]));

  it('are served by the version of grpc-js whose inside they rely on', () => {
    const file = createRequire(import.meta.url).resolve('@grpc/grpc-js/package.json');
    const { version } = JSON.parse(readFileSync(file, 'utf8')) as { version: string };
    assert.equal(
      version,
      GRPC_JS_VERSION,
      'compare _streamHandler in server.js, server-interceptors.js and handleUnary of both versions, repeat in ' +
        'fast-unary.ts what changed, and set GRPC_JS_VERSION there',
    );
  });

  it('do not pass through grpc-js', async () => {
    await fast.ask({}, [get(7n)]);
    await standard.ask({}, [get(7n)]);
    assert.equal(fast.lastContext?.constructor.name, 'FastCall');
    assert.equal(standard.lastContext?.constructor.name, 'GrpcCall');
  });

  for (const [name, [headers, chunks, ends]] of Object.entries(CASES)) {
    it(`are answered as by grpc-js: ${name}`, async () => {
      const expected = await standard.ask(headers, chunks, ends);
      assert.deepEqual(await fast.ask(headers, chunks, ends), expected);
    });
  }

  for (const side of [fast, standard]) {
    const kind = side === fast ? '' : ', as in grpc-js';

    it(`see the address of their caller${kind}`, async () => {
      await side.ask({}, [get(7n)]);
      assert.equal(side.lastPeer, `127.0.0.1:${side.session.socket.localPort}`);
    });

    it(`are aborted when the caller resets its stream${kind}`, async () => {
      const entered = side.waiting();
      const stream = side.request();
      stream.end(get(504n));
      const { signal } = await entered;
      stream.close(constants.NGHTTP2_CANCEL);
      await aborted(signal);
      assert.match(String(signal.reason), /the caller cancelled the call/);
      side.release();
      await roundTrip(side.session);
    });

    it(`are aborted when the caller resets its stream before its end${kind}`, async () => {
      const entered = side.waiting();
      const stream = side.request();
      await new Promise((resolve) => stream.write(get(504n), resolve));
      await roundTrip(side.session);
      stream.close(constants.NGHTTP2_CANCEL);
      // Node reports the end of such a stream before its reset.
      const { signal } = await entered;
      await aborted(signal);
      assert.match(String(signal.reason), /the caller cancelled the call/);
      side.release();
    });

    it(`are aborted at their deadline${kind}`, async () => {
      const entered = side.waiting();
      const stream = side.request({ 'grpc-timeout': '50m' });
      stream.end(get(504n));
      stream.resume();
      const { signal } = await entered;
      await aborted(signal);
      assert.match(String(signal.reason), /the deadline has passed/);
      side.release();
    });

    it(`are answered while the listener drains and stops${kind}`, async () => {
      const other = new Side(side === fast);
      await other.start();
      const entered = other.waiting();
      const stream = other.request();
      const answer = answerOf(stream) as Promise<{ trailers?: OutgoingHttpHeaders }>;
      stream.end(get(504n));
      await entered;
      const closing = once(other.session, 'goaway');
      const stopped = other.listener.stop(AbortSignal.timeout(5_000));
      await closing;
      other.release();
      assert.equal((await answer).trailers?.['grpc-status'], '0');
      await stopped;
    });

    it(`are aborted when the connection is lost${kind}`, async () => {
      const lost = side.waiting();
      const session = connect(`http://127.0.0.1:${side.listener.port}`);
      session.on('error', () => {});
      const request = session.request({ ':method': 'POST', ':path': GET.path, 'content-type': 'application/grpc' });
      request.on('error', () => {});
      request.end(get(504n));
      const { signal } = await lost;
      session.destroy();
      await aborted(signal);
      assert.match(String(signal.reason), /the caller cancelled the call/);
      side.release();
    });
  }

  it('leave no timer and no abort behind an answer', async () => {
    await fast.ask({ 'grpc-timeout': '500m' }, [get(7n)]);
    const { lastContext } = fast;
    await sleep(520);
    assert.equal(lastContext?.signal.aborted, false);
  });
});

function aborted(signal: AbortSignal): Promise<unknown> {
  return signal.aborted ? Promise.resolve() : once(signal, 'abort');
}
