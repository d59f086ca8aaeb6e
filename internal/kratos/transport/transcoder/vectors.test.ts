import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { JsonValue } from '@bufbuild/protobuf';
import {
  HostError,
  messageType,
  plainJson,
  type Running,
  recordingHandler,
  root,
  type Seen,
  send,
  serve,
  wire,
} from './testdata/library.js';
import type { TranscoderCall, TranscoderOptions, TranscoderReply } from './transcoder.js';

interface JsonVector {
  readonly name: string;
  readonly json: string;
  /** The parsed message, in the JSON of the reference codec. */
  readonly message?: JsonValue;
  /** Fragments that the reply must contain. */
  readonly reply?: readonly string[];
  readonly refused?: boolean;
  /** The field that the error names. */
  readonly field?: string;
}

interface HttpVector {
  readonly name: string;
  readonly source?: string;
  readonly request: {
    readonly method?: string;
    readonly path: string;
    readonly headers?: Record<string, string | string[]>;
    readonly body?: string;
    readonly bodyBase64?: string;
  };
  readonly want: {
    readonly status: number;
    readonly operation?: string;
    readonly path?: string;
    /** The request message, in the JSON of the reference codec. */
    readonly message?: JsonValue;
    readonly metadata?: Record<string, string[] | null>;
    /** null if the header must be absent. */
    readonly headers?: Record<string, string | null>;
    readonly body?: string;
    readonly bodyBase64?: string;
    readonly json?: JsonValue;
    readonly reason?: string;
    readonly field?: string;
  };
}

interface VectorFile<Vector> {
  readonly source: string;
  readonly options?: Partial<TranscoderOptions>;
  readonly vectors: readonly Vector[];
}

const directory = join(root, 'test/vectors/transcoder');

function load<Vector>(name: string): VectorFile<Vector> {
  const file = JSON.parse(readFileSync(join(directory, name), 'utf8')) as VectorFile<Vector>;
  assert.ok(file.source.length > 0, `${name} names its source`);
  assert.ok(file.vectors.length > 0, `${name} holds vectors`);
  return file;
}

function refusedField(body: Buffer): string | undefined {
  const error = JSON.parse(body.toString()) as { violations?: { field: string }[] };
  return error.violations?.[0]?.field;
}

describe('The transcoder converts proto3 JSON as in the vectors', () => {
  const seen: Seen[] = [];
  let running: Running;
  const everything = messageType('Everything');
  before(async () => {
    running = await serve({ handler: recordingHandler(seen) });
  });
  after(() => running.stop());

  for (const file of ['json-conformance.json', 'json-strict.json']) {
    for (const vector of load<JsonVector>(file).vectors) {
      it(`${file} ${vector.name}`, async () => {
        const headers = { 'content-type': 'application/json' };
        const reply = await send(running.port, { method: 'POST', path: '/v1/echo', headers, body: vector.json });
        const text = reply.body.toString();
        if (vector.refused === true) {
          assert.equal(reply.status, 400, text);
          assert.equal(JSON.parse(text).reason, 'INVALID_ARGUMENT');
          if (vector.field !== undefined) assert.equal(refusedField(reply.body), vector.field, text);
          return;
        }
        assert.equal(reply.status, 200, text);
        const request = seen.at(-1)!.request;
        if (vector.message !== undefined) assert.deepEqual(request, vector.message);
        // The output is parsed as the same message.
        assert.deepEqual(plainJson(everything, wire(everything, JSON.parse(text) as JsonValue)), request);
        for (const piece of vector.reply ?? []) assert.ok(text.includes(piece), `${piece} in ${text}`);
      });
    }
  }
});

/** The calls whose replies the vectors define; all others return the request. */
function scripted(seen: Seen[]): (call: TranscoderCall) => Promise<TranscoderReply> {
  const record = recordingHandler(seen);
  return async (call) => {
    const reply = await record(call);
    if (reply.kind === 'stream') return reply;
    switch (call.operation.slice(call.operation.lastIndexOf('/') + 1)) {
      case 'ListTitles':
        return { kind: 'unary', message: wire(messageType('ListTitlesReply'), LIST_TITLES) };
      case 'DeleteBook':
        throw new HostError({
          code: 5,
          reason: 'BOOK_NOT_FOUND',
          message: 'no such book',
          metadata: { id: '7' },
          httpHeaders: { 'retry-after': '3' },
        });
      case 'Featured':
        return {
          ...reply,
          headers: [
            ['x-count', '1'],
            ['x-count', '2'],
            ['trace-bin', Buffer.from([1, 2, 255])],
            ['set-cookie', 'a=b'],
            ['x-evil', 'a\r\nx-injected: 1'],
          ],
          trailers: [['x-cost', '9']],
        };
      default:
        return reply;
    }
  };
}

const LIST_TITLES = { titles: ['Tao', '易经'], first: { id: '1', title: 'Tao' }, count: '2' };

const httpFiles = readdirSync(directory).filter((name) => name.startsWith('http-'));

describe('The transcoder handles HTTP as in the vectors', () => {
  it('has vectors for every part', () => assert.ok(httpFiles.length >= 8));

  for (const name of httpFiles) {
    const file = load<HttpVector>(name);
    describe(name, () => {
      const seen: Seen[] = [];
      let running: Running;
      before(async () => {
        running = await serve({ handler: scripted(seen), ...file.options });
      });
      after(() => running.stop());

      for (const vector of file.vectors) {
        it(vector.name, () => check(vector, running, seen));
      }
    });
  }
});

async function check(vector: HttpVector, running: Running, seen: Seen[]): Promise<void> {
  const { request, want } = vector;
  const { body, bodyBase64, ...rest } = request;
  seen.length = 0;
  const sent = bodyBase64 === undefined ? body : Buffer.from(bodyBase64, 'base64');
  const reply = await send(running.port, { ...rest, ...(sent === undefined ? {} : { body: sent }) });
  const text = reply.body.toString();
  assert.equal(reply.status, want.status, text);
  const got = seen.at(-1);
  if (want.operation !== undefined) assert.equal(got?.operation.split('/').at(-1), want.operation);
  if (want.path !== undefined) assert.equal(got?.path, want.path);
  if (want.message !== undefined) assert.deepEqual(got?.request, want.message);
  for (const [key, values] of Object.entries(want.metadata ?? {})) {
    assert.deepEqual(got?.metadata[key], values ?? undefined, key);
  }
  for (const [key, value] of Object.entries(want.headers ?? {})) {
    assert.equal(reply.headers[key]?.toString(), value ?? undefined, key);
  }
  if (want.body !== undefined) assert.equal(text, want.body);
  if (want.bodyBase64 !== undefined) assert.equal(reply.body.toString('base64'), want.bodyBase64);
  if (want.json !== undefined) assert.deepEqual(JSON.parse(text), want.json);
  if (want.reason !== undefined) assert.equal(JSON.parse(text).reason, want.reason);
  if (want.field !== undefined) assert.equal(refusedField(reply.body), want.field, text);
}
