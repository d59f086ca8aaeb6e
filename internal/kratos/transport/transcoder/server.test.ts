import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, request as httpRequest, type IncomingMessage } from 'node:http';
import { connect, type Socket } from 'node:net';
import { gunzipSync } from 'node:zlib';
import {
  HostError,
  messageType,
  type Running,
  recordingHandler,
  type Seen,
  send,
  serve,
  streamOf,
  wire,
} from './testdata/library.js';
import { createTranscoderServer, type ErrorInfo, type TranscoderCall, type TranscoderReply } from './transcoder.js';

const book = (title: string): Uint8Array => wire(messageType('Book'), { title });

/** A promise and its resolve function. */
function signalled<T = void>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve!: (value: T) => void;
  const promise = new Promise<T>((fulfil) => {
    resolve = fulfil;
  });
  return { promise, resolve };
}

/** A raw connection. */
async function open(port: number): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port });
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

/** Everything that is received until the other side closes. */
async function drain(socket: Socket): Promise<string> {
  let text = '';
  socket.setEncoding('utf8');
  socket.on('data', (chunk: string) => {
    text += chunk;
  });
  socket.resume();
  // Not by once(), which rejects if the connection is reset.
  if (!socket.closed) await new Promise<void>((resolve) => socket.once('close', () => resolve()));
  return text;
}

function reasonOf(raw: string): string {
  return (JSON.parse(raw.slice(raw.indexOf('\r\n\r\n') + 4)) as { reason: string }).reason;
}

describe('The transcoder server', () => {
  let running: Running;
  /** Gives up soon on clients that are slow. */
  let hasty: Running;
  const edgeErrors: ErrorInfo[] = [];
  const seen: Seen[] = [];
  let handler: (call: TranscoderCall) => Promise<TranscoderReply>;

  before(async () => {
    const onEdgeError = (error: ErrorInfo) => edgeErrors.push(error);
    running = await serve({
      handler: (call) => handler(call),
      onEdgeError,
      plainRoutes: (req, res) => {
        if (req.url !== '/healthz') return false;
        res.end('ok');
        return true;
      },
      limits: { maxHeaderBytes: 2048 },
      sseHeartbeatMs: 20,
    });
    const limits = { headersTimeoutMs: 300, requestTimeoutMs: 400, writeTimeoutMs: 300 };
    hasty = await serve({ handler: (call) => handler(call), onEdgeError, limits });
  });
  beforeEach(() => {
    edgeErrors.length = 0;
    handler = recordingHandler(seen);
  });
  after(() => Promise.all([running.stop(), hasty.stop()]));

  it('leaves other routes to the host', async () => {
    assert.equal((await send(running.port, { path: '/healthz' })).body.toString(), 'ok');
  });

  it('keeps connections alive between requests', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const ports = new Set<number | undefined>();
    for (let i = 0; i < 3; i++) {
      const req = httpRequest({ port: running.port, host: '127.0.0.1', path: '/v1/books/7', agent }).end();
      const [res] = (await once(req, 'response')) as [IncomingMessage];
      ports.add(res.socket.localPort);
      res.resume();
      await once(res, 'end');
    }
    agent.destroy();
    assert.equal(ports.size, 1);
  });

  it('answers pipelined requests in order', async () => {
    const socket = await open(running.port);
    const request = 'GET /v1/titles/count HTTP/1.1\r\nHost: x\r\n\r\n';
    socket.write(`${request}${request}GET /v1/none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    const statuses = [...(await drain(socket)).matchAll(/HTTP\/1.1 (\d+)/g)].map((match) => match[1]);
    assert.deepEqual(statuses, ['200', '200', '404']);
  });

  it('rejects large headers with 431', async () => {
    const socket = await open(running.port);
    socket.write(`GET /v1/books/7 HTTP/1.1\r\nHost: x\r\nX-Large: ${'a'.repeat(4000)}\r\n\r\n`);
    const raw = await drain(socket);
    assert.match(raw, /^HTTP\/1.1 431 /);
    assert.equal(reasonOf(raw), 'HEADERS_TOO_LARGE');
    assert.equal(edgeErrors[0]?.reason, 'HEADERS_TOO_LARGE');
  });

  it('rejects data that is not HTTP with 400', async () => {
    const socket = await open(running.port);
    socket.write('hello\r\n\r\n');
    const raw = await drain(socket);
    assert.match(raw, /^HTTP\/1.1 400 /);
    assert.equal(reasonOf(raw), 'BAD_REQUEST');
  });

  it('rejects a request with two lengths', async () => {
    const socket = await open(running.port);
    socket.write(
      'POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    );
    assert.match(await drain(socket), /^HTTP\/1.1 400 /);
  });

  it('replies 408 when the headers do not arrive in time', async () => {
    const socket = await open(hasty.port);
    socket.write('GET /v1/books/7 HTTP/1.1\r\nHost:');
    const raw = await drain(socket);
    assert.match(raw, /^HTTP\/1.1 408 /);
    assert.equal(reasonOf(raw), 'REQUEST_TIMEOUT');
  });

  it('closes a connection on which nothing is sent', async () => {
    const socket = await open(hasty.port);
    await drain(socket);
  });

  it('replies 408 when the body does not arrive in time', async () => {
    const socket = await open(hasty.port);
    socket.write('POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{');
    const raw = await drain(socket);
    assert.match(raw, /^HTTP\/1.1 408 /);
    assert.equal(reasonOf(raw), 'REQUEST_TIMEOUT');
  });

  it('answers a request that is followed by garbage', async () => {
    const socket = await open(running.port);
    socket.write('GET /v1/titles/count HTTP/1.1\r\nHost: x\r\n\r\nnonsense\r\n\r\n');
    const raw = await drain(socket);
    assert.match(raw, /^HTTP\/1.1 200 /);
    assert.match(raw, /connection: close/i);
  });

  it('replies 413 instead of 100 Continue to a body that is too large', async () => {
    const socket = await open(running.port);
    socket.write(
      'POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n',
    );
    const raw = await drain(socket);
    assert.match(raw, /^HTTP\/1.1 413 /);
    assert.doesNotMatch(raw, /100 Continue/);
  });

  it('sends no 100 Continue before a 404, and closes the connection', async () => {
    const socket = await open(running.port);
    socket.write('POST /v1/none HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n');
    const raw = await drain(socket);
    assert.match(raw, /^HTTP\/1.1 404 /);
    assert.doesNotMatch(raw, /100 Continue/);
  });

  it('sends 100 Continue once the route is known, and then reads the body', async () => {
    const socket = await open(running.port);
    const received: string[] = [];
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      received.push(chunk);
      if (received.length === 1) socket.write('{"int32Value":5}');
    });
    socket.write(
      'POST /v1/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 16\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n',
    );
    await once(socket, 'close');
    assert.match(received[0] ?? '', /^HTTP\/1.1 100 Continue/);
    assert.match(received.slice(1).join(''), /^HTTP\/1.1 200 /);
  });

  it('answers a client that waits for 100 Continue', async () => {
    const headers = { expect: '100-continue', 'content-type': 'application/json' };
    const reply = await send(running.port, { method: 'POST', path: '/v1/echo', headers, body: '{"int32Value":5}' });
    assert.equal(reply.status, 200);
  });

  it('rejects other expectations with 417', async () => {
    const reply = await send(running.port, { path: '/v1/books/7', headers: { expect: 'tea' } });
    assert.equal(reply.status, 417);
    assert.equal(JSON.parse(reply.body.toString()).reason, 'EXPECTATION_FAILED');
  });

  it('lets a client that sends a large body nevertheless read its 413', async () => {
    const reply = await send(running.port, { method: 'POST', path: '/v1/echo', body: 'a'.repeat(1_000_000) });
    assert.equal(reply.status, 413);
  });

  it('disconnects a client that sends without end', async () => {
    const socket = await open(hasty.port);
    socket.write('POST /v1/echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n');
    const chunk = `10000\r\n${'a'.repeat(0x10000)}\r\n`;
    const pump = (): void => {
      while (!socket.destroyed && socket.write(chunk));
    };
    socket.on('drain', pump);
    pump();
    assert.match(await drain(socket), /^HTTP\/1.1 413 /);
  });

  it('disconnects a client that does not read its reply', async () => {
    handler = async () => ({
      kind: 'unary',
      message: wire(messageType('Book'), { title: 'a'.repeat(30_000_000) }),
    });
    const socket = await open(hasty.port);
    socket.pause();
    socket.write('GET /v1/books/7 HTTP/1.1\r\nHost: x\r\n\r\n');
    while (edgeErrors.length === 0) await new Promise((resolve) => setImmediate(resolve));
    assert.match(edgeErrors[0]!.message, /does not read/);
    assert.ok((await drain(socket)).length < 30_000_000);
  });

  it('disconnects a client that does not read its stream, and stops the source', async () => {
    const returned = signalled();
    handler = async () => ({
      kind: 'stream',
      messages: (async function* () {
        try {
          for (;;) yield book('a'.repeat(100_000));
        } finally {
          returned.resolve();
        }
      })(),
    });
    const socket = await open(hasty.port);
    socket.pause();
    socket.write('GET /v1/books/7/watch HTTP/1.1\r\nHost: x\r\n\r\n');
    await returned.promise;
    socket.destroy();
  });

  it('aborts the call of a client that has disconnected', async () => {
    const started = signalled();
    const aborted = signalled<unknown>();
    handler = (call) => {
      started.resolve();
      return new Promise((_, reject) => {
        call.signal.addEventListener('abort', () => {
          aborted.resolve(call.signal.reason);
          reject(call.signal.reason);
        });
      });
    };
    const socket = await open(running.port);
    socket.write('GET /v1/books/7 HTTP/1.1\r\nHost: x\r\n\r\n');
    await started.promise;
    socket.destroy();
    assert.equal(((await aborted.promise) as ErrorInfo).httpStatus, 499);
    assert.deepEqual(
      edgeErrors.map((error) => error.reason),
      ['CLIENT_CLOSED_REQUEST'],
    );
  });

  it('replies 504 when Grpc-Timeout has passed, and aborts the call', async () => {
    const aborted = signalled<unknown>();
    let deadline: number | undefined;
    handler = (call) => {
      deadline = call.deadline;
      call.signal.addEventListener('abort', () => aborted.resolve(call.signal.reason));
      return new Promise(() => undefined);
    };
    const reply = await send(running.port, { path: '/v1/books/7', headers: { 'grpc-timeout': '30m' } });
    assert.equal(reply.status, 504);
    assert.equal(JSON.parse(reply.body.toString()).reason, 'DEADLINE_EXCEEDED');
    assert.equal(((await aborted.promise) as ErrorInfo).httpStatus, 504);
    assert.ok(deadline !== undefined && deadline <= Date.now());
  });

  it('returns an aborted signal if it is first used after the abort', async () => {
    const gone = signalled();
    const late = signalled<boolean>();
    handler = async (call) => {
      socket.destroy();
      await gone.promise;
      late.resolve(call.signal.aborted);
      return { kind: 'unary', message: new Uint8Array() };
    };
    const socket = await open(running.port);
    socket.write('GET /v1/books/7 HTTP/1.1\r\nHost: x\r\n\r\n');
    await once(socket, 'close');
    // The server reports it as soon as it notices the close.
    while (edgeErrors.length === 0) await new Promise((resolve) => setImmediate(resolve));
    gone.resolve();
    assert.equal(await late.promise, true);
  });

  it('maps each gRPC code to its HTTP status', async () => {
    const statuses: number[] = [];
    for (let code = 1; code <= 16; code++) {
      handler = () => Promise.reject(new HostError({ code, reason: 'X', message: 'x' }));
      statuses.push((await send(running.port, { path: '/v1/books/7' })).status);
    }
    assert.deepEqual(statuses, [499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401]);
  });

  it('survives a handler that throws synchronously', async () => {
    handler = () => {
      throw new Error('boom');
    };
    const reply = await send(running.port, { path: '/v1/books/7' });
    assert.equal(reply.status, 500);
    assert.deepEqual(JSON.parse(reply.body.toString()), {
      code: 500,
      reason: 'INTERNAL',
      message: 'internal error',
      metadata: {},
    });
  });

  it('replies 500 if the handler returns an invalid message, and reports the cause', async () => {
    handler = async () => ({ kind: 'unary', message: new Uint8Array([0x12, 0x7f]) });
    const reply = await send(running.port, { path: '/v1/books/7' });
    assert.equal(reply.status, 500);
    assert.equal(edgeErrors[0]?.reason, 'INTERNAL');
  });

  it('replies 500 if the handler returns an invalid status', async () => {
    handler = async () => ({ kind: 'unary', message: book('Tao'), status: 9999 });
    assert.equal((await send(running.port, { path: '/v1/books/7' })).status, 500);
    assert.equal(edgeErrors[0]?.reason, 'INTERNAL');
  });

  it('derives the HTTP status from the gRPC code if an error has an invalid one', async () => {
    handler = () => Promise.reject(new HostError({ code: 5, httpStatus: 7, reason: 'X', message: 'x' }));
    assert.equal((await send(running.port, { path: '/v1/books/7' })).status, 404);
  });

  it('omits headers that HTTP cannot represent', async () => {
    const split = 'a\r\nx-injected: 1';
    handler = () =>
      Promise.reject(new HostError({ code: 5, reason: 'X', message: 'x', httpHeaders: { 'x-a': split } }));
    const failed = await send(running.port, { path: '/v1/books/7' });
    assert.equal(failed.status, 404);
    assert.equal(failed.headers['x-injected'], undefined);
    const message = wire(messageType('google.api.HttpBody'), { contentType: split, data: '' });
    handler = async () => ({ kind: 'unary', message });
    const bytes = await send(running.port, { method: 'POST', path: '/v1/upload' });
    assert.equal(bytes.headers['content-type'], 'application/octet-stream');
    handler = async () => ({ kind: 'stream', messages: streamOf([message]) });
    const stream = await send(running.port, { path: '/v1/books/7/download' });
    assert.equal(stream.headers['content-type'], 'application/octet-stream');
  });

  it('uses the HTTP status of the handler', async () => {
    handler = async () => ({ kind: 'unary', message: book('Tao'), status: 201 });
    assert.equal((await send(running.port, { path: '/v1/books/7' })).status, 201);
  });

  it('compresses large replies for clients that accept it', async () => {
    const title = 'a'.repeat(5000);
    handler = async () => ({ kind: 'unary', message: book(title) });
    const headers = { 'accept-encoding': 'br, gzip;q=0.5' };
    const zipped = await send(running.port, { path: '/v1/books/7', headers });
    assert.equal(zipped.headers['content-encoding'], 'gzip');
    assert.equal(zipped.headers.vary, 'Accept-Encoding');
    assert.equal(JSON.parse(gunzipSync(zipped.body).toString()).title, title);
    const plain = await send(running.port, { path: '/v1/books/7', headers: { 'accept-encoding': 'gzip;q=0' } });
    assert.equal(plain.headers['content-encoding'], undefined);
    assert.equal(plain.headers.vary, 'Accept-Encoding');
    assert.equal(JSON.parse(plain.body.toString()).title, title);
  });

  it('sends trailers to HTTP/1.1 clients that accept them', async () => {
    handler = async () => ({ kind: 'unary', message: book('Tao'), trailers: [['x-cost', '9']] });
    const asked = await send(running.port, { path: '/v1/books/7', headers: { te: 'trailers' } });
    assert.deepEqual({ ...asked.trailers }, { 'grpc-trailer-x-cost': '9' });
    const other = await send(running.port, { path: '/v1/books/7' });
    assert.deepEqual({ ...other.trailers }, {});
    const socket = await open(running.port);
    socket.write('GET /v1/books/7 HTTP/1.0\r\nHost: x\r\nTE: trailers\r\n\r\n');
    assert.match(await drain(socket), /^HTTP\/1.1 200 /);
  });

  describe('with a stream', () => {
    it('writes each message as a line', async () => {
      handler = async () => ({ kind: 'stream', messages: streamOf([book('a'), book('b')]), headers: [['x-a', '1']] });
      const reply = await send(running.port, { path: '/v1/books/7/watch' });
      const lines = reply.body.toString().trimEnd().split('\n');
      assert.deepEqual(
        lines.map((line) => JSON.parse(line).result.title),
        ['a', 'b'],
      );
      assert.equal(reply.headers['grpc-metadata-x-a'], '1');
    });

    it('sends an error before the first message as an error reply', async () => {
      handler = async () => ({
        kind: 'stream',
        // biome-ignore lint/correctness/useYield: it fails before its first message
        messages: (async function* (): AsyncGenerator<Uint8Array> {
          throw new HostError({ code: 5, reason: 'BOOK_NOT_FOUND', message: 'gone' });
        })(),
      });
      const reply = await send(running.port, { path: '/v1/books/7/watch' });
      assert.equal(reply.status, 404);
      assert.equal(JSON.parse(reply.body.toString()).reason, 'BOOK_NOT_FOUND');
    });

    for (const [accept, expected] of [
      ['application/json', '{"error":{"code":404,"reason":"BOOK_NOT_FOUND","message":"gone","metadata":{}}}\n'],
      [
        'text/event-stream',
        'event: error\ndata: {"error":{"code":404,"reason":"BOOK_NOT_FOUND","message":"gone","metadata":{}}}\n\n',
      ],
    ] as const) {
      it(`sends an error after the start as the last item of ${accept}`, async () => {
        handler = async () => ({
          kind: 'stream',
          messages: (async function* () {
            yield book('a');
            throw new HostError({ code: 5, reason: 'BOOK_NOT_FOUND', message: 'gone' });
          })(),
        });
        const reply = await send(running.port, { path: '/v1/books/7/watch', headers: { accept } });
        assert.equal(reply.status, 200);
        assert.ok(reply.body.toString().endsWith(expected), reply.body.toString());
      });
    }

    it('ends with INTERNAL at an invalid message, and reports the cause', async () => {
      handler = async () => ({ kind: 'stream', messages: streamOf([book('a'), new Uint8Array([0x12, 0x7f])]) });
      const reply = await send(running.port, { path: '/v1/books/7/watch' });
      const lines = reply.body.toString().trimEnd().split('\n');
      assert.equal(JSON.parse(lines[1]!).error.reason, 'INTERNAL');
      assert.equal(edgeErrors[0]?.reason, 'INTERNAL');
    });

    it('resets the connection of a byte stream that fails, so that the client notices', async () => {
      handler = async () => ({
        kind: 'stream',
        messages: (async function* () {
          yield wire(messageType('google.api.HttpBody'), { contentType: 'text/csv', data: 'YSxi' });
          throw new Error('disk');
        })(),
      });
      await assert.rejects(send(running.port, { path: '/v1/books/7/download' }), /aborted|hang up|reset/);
    });

    it('streams bytes unchanged', async () => {
      const part = { contentType: 'text/csv', data: 'YSxi' };
      const type = messageType('google.api.HttpBody');
      handler = async () => ({ kind: 'stream', messages: streamOf([wire(type, part), wire(type, part)]) });
      const reply = await send(running.port, { path: '/v1/books/7/download' });
      assert.equal(reply.headers['content-type'], 'text/csv');
      assert.equal(reply.body.toString(), 'a,ba,b');
    });

    it('sends headers and heartbeats while there are no messages', async () => {
      const go = signalled();
      handler = async () => ({
        kind: 'stream',
        messages: (async function* () {
          await go.promise;
          yield book('late');
        })(),
      });
      const req = httpRequest({
        port: running.port,
        host: '127.0.0.1',
        path: '/v1/books/7/watch',
        agent: false,
        headers: { accept: 'text/event-stream' },
      }).end();
      const [res] = (await once(req, 'response')) as [IncomingMessage];
      assert.equal(res.headers['content-type'], 'text/event-stream');
      res.setEncoding('utf8');
      let text = '';
      for await (const chunk of res) {
        text += chunk as string;
        if (text.includes(':\n\n:\n\n')) go.resolve();
      }
      assert.match(text, /data: \{"result":\{.*"title":"late".*\}\}\n\n.*event: end\ndata: \{\}\n\n$/s);
    });

    it('stops the source when the client disconnects', async () => {
      const returned = signalled();
      handler = async (call) => ({
        kind: 'stream',
        messages: (async function* () {
          try {
            yield book('a');
            await once(call.signal, 'abort');
            yield book('b');
          } finally {
            returned.resolve();
          }
        })(),
      });
      const req = httpRequest({ port: running.port, host: '127.0.0.1', path: '/v1/books/7/watch', agent: false }).end();
      const [res] = (await once(req, 'response')) as [IncomingMessage];
      await once(res, 'data');
      req.destroy();
      await returned.promise;
    });

    it('answers HEAD without reading the source', async () => {
      let asked = false;
      handler = async () => ({
        kind: 'stream',
        messages: {
          [Symbol.asyncIterator]: () => ({
            next: async () => {
              asked = true;
              return { done: true, value: undefined };
            },
          }),
        },
      });
      assert.equal((await send(running.port, { method: 'HEAD', path: '/v1/books/7/watch' })).status, 200);
      assert.equal(asked, false);
    });
  });
});

describe('A stopping transcoder server', () => {
  it('answers requests in flight with Connection: close, and refuses new connections', async () => {
    const started = signalled();
    const go = signalled();
    const running = await serve({
      handler: async () => {
        started.resolve();
        await go.promise;
        return { kind: 'unary', message: book('Tao') };
      },
    });
    const pending = send(running.port, { path: '/v1/books/7' });
    await started.promise;
    const stopped = running.stop();
    await assert.rejects(send(running.port, { path: '/v1/books/7' }), /ECONNREFUSED/);
    go.resolve();
    const reply = await pending;
    assert.equal(reply.status, 200);
    assert.equal(reply.headers.connection, 'close');
    await stopped;
  });

  it('answers a request that arrives on an idle connection during the drain', async () => {
    const running = await serve({ handler: recordingHandler([]), limits: { drainIdleMs: 5000 } });
    const socket = await open(running.port);
    socket.write('GET /v1/books/7 HTTP/1.1\r\nHost: x\r\n\r\n');
    await once(socket, 'data');
    const stopped = running.server.stop(Date.now() + 10_000);
    socket.write('GET /v1/books/8 HTTP/1.1\r\nHost: x\r\n\r\n');
    const raw = await drain(socket);
    assert.match(raw, /^HTTP\/1.1 200 OK\r\n/);
    assert.match(raw, /connection: close/i);
    await stopped;
  });

  it('closes the connection with each reply once it drains, and still accepts new ones', async () => {
    const running = await serve({
      handler: recordingHandler([]),
      plainRoutes: (req, res) => {
        if (req.url !== '/plain') return false;
        res.end('plain');
        return true;
      },
    });
    const kept = await open(running.port);
    kept.write('GET /v1/books/7 HTTP/1.1\r\nHost: x\r\n\r\n');
    const [before] = (await once(kept, 'data')) as [Buffer];
    assert.doesNotMatch(before.toString(), /connection: close/i);
    running.server.drain();
    kept.write('GET /v1/books/8 HTTP/1.1\r\nHost: x\r\n\r\n');
    assert.match(await drain(kept), /^HTTP\/1.1 200 OK\r\n.*connection: close/is);
    for (const path of ['/v1/books/9', '/plain']) {
      const reply = await send(running.port, { path });
      assert.equal(reply.status, 200);
      assert.equal(reply.headers.connection, 'close', path);
    }
    await running.stop();
  });

  it('ends streams immediately, with the reason', async () => {
    const began = signalled();
    const running = await serve({
      handler: async (call) => ({
        kind: 'stream',
        messages: (async function* () {
          yield book('a');
          began.resolve();
          await once(call.signal, 'abort');
        })(),
      }),
    });
    const pending = send(running.port, { path: '/v1/books/7/watch' });
    await began.promise;
    await running.server.stop(Date.now() + 10_000);
    const lines = (await pending).body.toString().trimEnd().split('\n');
    assert.equal(JSON.parse(lines[1]!).error.reason, 'SERVER_STOPPING');
  });

  it('starts no new stream', async () => {
    const started = signalled();
    const go = signalled();
    const running = await serve({
      handler: async (call) => {
        started.resolve();
        await go.promise;
        return {
          kind: 'stream',
          messages: (async function* () {
            await once(call.signal, 'abort');
            yield book('never');
          })(),
        };
      },
    });
    const pending = send(running.port, { path: '/v1/books/7/watch' });
    await started.promise;
    const stopped = running.server.stop(Date.now() + 10_000);
    go.resolve();
    const reply = await pending;
    assert.equal(reply.status, 503);
    assert.equal(JSON.parse(reply.body.toString()).reason, 'SERVER_STOPPING');
    await stopped;
  });

  it('disconnects at the deadline what has not ended', async () => {
    const started = signalled();
    const aborted = signalled();
    const running = await serve({
      handler: (call) => {
        started.resolve();
        call.signal.addEventListener('abort', () => aborted.resolve());
        return new Promise(() => undefined);
      },
    });
    const pending = send(running.port, { path: '/v1/books/7' }).then(
      (reply) => reply.status,
      () => 'cut',
    );
    await started.promise;
    await running.server.stop(Date.now() + 100);
    await aborted.promise;
    assert.ok([503, 'cut'].includes(await pending));
  });

  it('loses no request of clients that keep sending', async () => {
    const running = await serve({ handler: recordingHandler([]), limits: { drainIdleMs: 300 } });
    const agent = new Agent({ keepAlive: true, maxSockets: 8 });
    let stopping: Promise<void> | undefined;
    let answered = 0;
    const client = async (): Promise<void> => {
      for (;;) {
        const outcome = await new Promise<'ok' | 'refused'>((resolve, reject) => {
          const req = httpRequest({ port: running.port, host: '127.0.0.1', path: '/v1/books/7', agent }, (res) => {
            res.resume();
            res.on('end', () => resolve('ok'));
            res.on('error', reject);
          });
          // The connection was refused, so a load balancer would retry elsewhere. Any other error is a lost request.
          req.on('error', (err: NodeJS.ErrnoException) =>
            err.code === 'ECONNREFUSED' ? resolve('refused') : reject(err),
          );
          req.end();
        });
        if (outcome === 'refused') return;
        if (++answered === 200) stopping = running.server.stop(Date.now() + 10_000);
      }
    };
    await Promise.all(Array.from({ length: 8 }, client));
    await stopping;
    agent.destroy();
    assert.ok(answered >= 200);
  });

  it('stops immediately if it was never started, and can be stopped twice', async () => {
    const running = await serve({ handler: recordingHandler([]) });
    await running.stop();
    await running.stop();
  });
});

describe('A transcoder server at boot', () => {
  it('names the missing service', () => {
    assert.throws(
      () =>
        createTranscoderServer({
          registry: { getService: () => undefined } as never,
          services: ['a.B'],
          handler: recordingHandler([]),
          errorOf: () => ({ code: 13, reason: 'X', message: '' }),
        }),
      /no service a\.B/,
    );
  });

  it('rejects credentials together with any origin', async () => {
    await assert.rejects(
      serve({ handler: recordingHandler([]), cors: { origins: ['*'], credentials: true } }),
      /cannot be combined with credentials/,
    );
  });
});
