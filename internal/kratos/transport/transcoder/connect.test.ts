import assert from 'node:assert/strict';
import { type DescService, type Message, toJson } from '@bufbuild/protobuf';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-web';
import {
  HostError,
  LIBRARY,
  libraryRegistry,
  messageType,
  type Running,
  recordingHandler,
  type Seen,
  send,
  serve,
  wire,
} from './testdata/library.js';
import type { TranscoderCall, TranscoderReply } from './transcoder.js';

type Methods = Record<string, (request: object, options?: object) => Promise<Message>>;

describe('Procedures: POST /package.Service/Method', () => {
  const seen: Seen[] = [];
  let running: Running;
  let handler: (call: TranscoderCall) => Promise<TranscoderReply>;

  before(async () => {
    running = await serve({ handler: (call) => handler(call), procedures: true, forwardHeaders: ['x-user-id'] });
  });
  beforeEach(() => {
    seen.length = 0;
    handler = recordingHandler(seen);
  });
  after(() => running.stop());

  const client = (useBinaryFormat = false) => {
    const service = libraryRegistry().getService(LIBRARY) as DescService;
    const transport = createConnectTransport({ baseUrl: running.url, useBinaryFormat });
    return createClient(service, transport) as unknown as Methods;
  };
  const procedure = (name: string, headers: Record<string, string>, body: string | Uint8Array) =>
    send(running.port, { method: 'POST', path: `/${LIBRARY}/${name}`, headers, body });

  for (const format of ['JSON', 'binary'] as const) {
    it(`answers a Connect client in ${format} format, for an RPC without an HTTP rule`, async () => {
      const record = recordingHandler(seen);
      handler = async (call) => {
        await record(call);
        return { kind: 'unary', message: wire(messageType('Book'), { title: '道' }) };
      };
      const reply = await client(format === 'binary').internal?.({ id: 7n }, { headers: { 'x-user-id': '5' } });
      assert.deepEqual(toJson(messageType('Book'), reply as Message), { title: '道' });
      assert.equal(seen[0]?.operation, `/${LIBRARY}/Internal`);
      assert.deepEqual(seen[0]?.request, { id: '7' });
      assert.deepEqual(seen[0]?.metadata['x-user-id'], ['5']);
    });
  }

  it('also serves RPCs with an HTTP rule', async () => {
    await client().getBook?.({ id: 7n });
    assert.deepEqual(seen[0]?.request, { id: '7' });
  });

  it('gives a Connect client the code, message and details of an error', async () => {
    handler = async () => {
      const metadata = { id: '7' };
      throw new HostError({ code: 5, httpStatus: 404, reason: 'BOOK_NOT_FOUND', message: 'no book 7', metadata });
    };
    const error = await failure(client().getBook?.({ id: 7n }));
    assert.equal(error.code, Code.NotFound);
    assert.equal(error.rawMessage, 'no book 7');
    const [info] = error.findDetails(libraryRegistry());
    assert.deepEqual(info === undefined ? undefined : toJson(messageType('google.rpc.ErrorInfo'), info), {
      reason: 'BOOK_NOT_FOUND',
      metadata: { id: '7' },
    });
  });

  it('gives a Connect client the violated field of a request that cannot be read', async () => {
    const reply = await procedure(
      'GetBook',
      { 'connect-protocol-version': '1', 'content-type': 'application/json' },
      '{"id":"x"}',
    );
    assert.equal(reply.status, 400);
    const { code, details } = JSON.parse(reply.body.toString());
    assert.equal(code, 'invalid_argument');
    assert.deepEqual(
      details.map((d: { type: string }) => d.type),
      ['google.rpc.ErrorInfo', 'google.rpc.BadRequest'],
    );
    assert.ok(Buffer.from(details[1].value, 'base64').toString().includes('id'));
  });

  it('sends metadata of the reply under its own name, and trailers with the prefix trailer-', async () => {
    handler = async () => ({
      kind: 'unary',
      message: wire(messageType('Book'), { title: 'Tao' }),
      headers: [['x-cost', '9']],
      trailers: [['x-rows', '3']],
    });
    const reply = await procedure('GetBook', { 'connect-protocol-version': '1' }, '{}');
    assert.equal(reply.headers['x-cost'], '9');
    assert.equal(reply.headers['trailer-x-rows'], '3');
  });

  it('aborts the call when Connect-Timeout-Ms has passed', async () => {
    handler = (call) =>
      new Promise((_, reject) => call.signal.addEventListener('abort', () => reject(call.signal.reason)));
    const headers = { 'connect-protocol-version': '1', 'connect-timeout-ms': '30' };
    const reply = await procedure('GetBook', headers, '{}');
    assert.equal(reply.status, 504);
    assert.equal(JSON.parse(reply.body.toString()).code, 'deadline_exceeded');
  });

  for (const [name, value] of [
    ['connect-protocol-version', '2'],
    ['connect-timeout-ms', '1s'],
  ] as const) {
    it(`rejects the header ${name}: ${value}`, async () => {
      const reply = await procedure('GetBook', { 'connect-protocol-version': '1', [name]: value }, '{}');
      assert.equal(reply.status, 400);
      assert.equal(JSON.parse(reply.body.toString()).code, 'invalid_argument');
      assert.equal(seen.length, 0);
    });
  }

  it('answers a plain JSON client as any other route does', async () => {
    const reply = await procedure('Internal', { 'x-envelope': '1' }, '{"id":"7"}');
    assert.equal(JSON.parse(reply.body.toString()).message, 'ok');
    const refused = await procedure('GetBook', {}, '{"id":"x"}');
    assert.equal(JSON.parse(refused.body.toString()).reason, 'INVALID_ARGUMENT');
  });

  it('are not served unless the host asks for them', async () => {
    const plain = await serve({ handler: recordingHandler(seen) });
    try {
      assert.equal((await send(plain.port, { method: 'POST', path: `/${LIBRARY}/GetBook`, body: '{}' })).status, 404);
    } finally {
      await plain.stop();
    }
  });

  it('leave streams to their HTTP rules', async () => {
    assert.equal((await procedure('WatchBooks', {}, '{}')).status, 404);
  });
});

async function failure(call: Promise<unknown> | undefined): Promise<ConnectError> {
  try {
    await call;
  } catch (err) {
    return ConnectError.from(err);
  }
  throw new Error('the call did not fail');
}
