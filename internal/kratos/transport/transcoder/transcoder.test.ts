import assert from 'node:assert/strict';
import { HostError, messageType, type Running, recordingHandler, type Seen, serve, wire } from './testdata/library.js';

describe('A transcoder server', () => {
  const seen: Seen[] = [];
  let running: Running;

  before(async () => {
    running = await serve({
      handler: async (call) => {
        if (call.operation.endsWith('GetBook')) {
          call.bind();
          const book = { id: '9007199254740993', title: 'Tao', genre: 'POEM' };
          return { kind: 'unary', message: wire(messageType('Book'), book) };
        }
        if (call.operation.endsWith('DeleteBook')) {
          throw new HostError({ code: 5, reason: 'BOOK_NOT_FOUND', message: 'no such book', metadata: { id: '7' } });
        }
        return recordingHandler(seen)(call);
      },
    });
  });
  after(() => running.stop());

  it('answers a unary call in proto3 JSON with all fields', async () => {
    const reply = await fetch(`${running.url}/v1/books/7`);
    assert.equal(reply.status, 200);
    assert.equal(reply.headers.get('content-type'), 'application/json');
    assert.equal(
      await reply.text(),
      '{"id":"9007199254740993","title":"Tao","authors":[],"publishedAt":null,"genre":"POEM"}',
    );
  });

  it('builds the request from the body', async () => {
    const reply = await fetch(`${running.url}/v1/books`, {
      method: 'POST',
      body: '{"id":"5","title":"好"}',
      headers: { 'content-type': 'application/json' },
    });
    assert.equal(
      await reply.text(),
      '{"id":"5","title":"好","authors":[],"publishedAt":null,"genre":"GENRE_UNSPECIFIED"}',
    );
    assert.deepEqual(seen.at(-1)?.request, { id: '5', title: '好' });
  });

  it('streams newline-delimited JSON', async () => {
    const reply = await fetch(`${running.url}/v1/books/7/watch`);
    assert.equal(
      await reply.text(),
      '{"result":{"id":"0","title":"","authors":[],"publishedAt":null,"genre":"GENRE_UNSPECIFIED"}}\n',
    );
  });

  it('returns errors of the host and its own errors', async () => {
    const gone = await fetch(`${running.url}/v1/books/7`, { method: 'DELETE' });
    assert.equal(gone.status, 404);
    assert.deepEqual(await gone.json(), {
      code: 404,
      reason: 'BOOK_NOT_FOUND',
      message: 'no such book',
      metadata: { id: '7' },
    });
    const lost = await fetch(`${running.url}/v1/nothing`);
    assert.equal(lost.status, 404);
    assert.equal(((await lost.json()) as { reason: string }).reason, 'ROUTE_NOT_FOUND');
    const wrong = await fetch(`${running.url}/v1/books/7`, { method: 'POST' });
    assert.equal(wrong.status, 405);
    assert.equal(wrong.headers.get('allow'), 'DELETE, GET, HEAD, OPTIONS, PATCH, PUT');
    const bad = await fetch(`${running.url}/v1/books/abc?page=1`, { method: 'GET' });
    assert.equal(bad.status, 400);
    assert.deepEqual(await bad.json(), {
      code: 400,
      reason: 'INVALID_ARGUMENT',
      message: 'id: not an integer in range',
      metadata: {},
      violations: [{ field: 'id', description: 'not an integer in range' }],
    });
  });
});
