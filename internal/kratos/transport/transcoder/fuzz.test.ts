import assert from 'node:assert/strict';
import { Agent, request as httpRequest } from 'node:http';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { type Running, recordingHandler, type Seen, serve } from './testdata/library.js';

/** Requests per round; KAIMAI_FUZZ_RUNS=100000 makes it long. */
const RUNS = Number(process.env.KAIMAI_FUZZ_RUNS ?? '1500');
/** Concurrent requests in one property run. */
const BATCH = 10;

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PURGE', 'TRACE', 'PROPFIND'];

const FIELDS = [
  ...['int32Value', 'int64_value', 'uint64Value', 'floatValue', 'doubleValue', 'boolValue', 'stringValue'],
  ...[
    'bytesValue',
    'enumValue',
    'nested',
    'nestedOther',
    'int32List',
    'nestedList',
    'int32Map',
    'stringMap',
    'boolMap',
  ],
  ...['oneofString', 'oneofInt32', 'oneofNull', 'timestamp', 'duration', 'fieldMask', 'struct', 'value', 'listValue'],
  ...[
    'any',
    'empty',
    'int64Wrapper',
    'bytesWrapper',
    'valueList',
    '@custom',
    '@type',
    '__proto__',
    'constructor',
    'nope',
  ],
];

/** URL pieces: valid segments, and those that faulty or malicious clients send. */
const segment = fc.oneof(
  fc.constantFrom('v1', 'books', 'featured', 'shelves', 'files', 'projects', 'tags', 'search', 'echo', 'titles', 'any'),
  fc.constantFrom(
    'upload',
    'watch',
    'download',
    'raw',
    'mounts',
    'info',
    'title',
    'scores',
    'oneof',
    '7',
    '-1',
    '',
    '..',
  ),
  fc.constantFrom(
    '%2F',
    '%2f',
    '%',
    '%zz',
    '%ff',
    '%00',
    '%E8%B0%B7',
    'a:b',
    ':cancel',
    '7:cancel',
    '7:cancel:all',
    '*',
  ),
  fc.string({ maxLength: 8 }).map(encodeURIComponentSafely),
  fc.bigInt().map(String),
);

const path = fc.oneof(
  fc.array(segment, { maxLength: 6 }).map((parts) => `/${parts.join('/')}`),
  fc.array(segment, { maxLength: 4 }).map((parts) => `/v1/${parts.join('/')}`),
  fc.constantFrom('/v1/echo', '/v1/search', '/v1/books/7', '/v1/books', '/v1/tags/a', '/v1/upload/x', '/v1/echo/9'),
);

const value = fc.oneof(
  fc.constantFrom('', '0', '-1', '1e5', '9223372036854775808', 'NaN', 'true', 'POEM', '1s', '1m30s', '%', '%ff', '%00'),
  fc.constantFrom('1970-01-01T00:00:00Z', 'a,b', '{}', '[1', 'AQ=='),
  fc.string({ maxLength: 12 }).map(encodeURIComponentSafely),
);
const parameter = fc
  .tuple(
    fc.array(fc.constantFrom(...FIELDS), { minLength: 1, maxLength: 4 }).map((parts) => parts.join('.')),
    fc.constantFrom('', '[a]', '[1]', '[', ']', '[]'),
    value,
  )
  .map(([name, key, text]) => `${name}${key}=${text}`);
const query = fc.array(fc.oneof(parameter, value), { maxLength: 4 }).map((parts) => parts.join('&'));

const { json } = fc.letrec<{ json: string }>((tie) => ({
  json: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.constantFrom(
      'null',
      'true',
      '0',
      '-1',
      '1e400',
      '9007199254740993',
      '1.5',
      '""',
      '"POEM"',
      '"1s"',
      '"NaN"',
      '{}',
    ),
    fc.constantFrom(
      '[]',
      '"1970-01-01T00:00:00Z"',
      '"AQ=="',
      '"\\ud800"',
      '"a,b"',
      '"type.googleapis.com/google.protobuf.Any"',
    ),
    fc.jsonValue().map((any) => JSON.stringify(any)),
    fc.array(tie('json'), { maxLength: 3 }).map((items) => `[${items.join(',')}]`),
    fc
      .array(fc.tuple(fc.constantFrom(...FIELDS), tie('json')), { maxLength: 5 })
      .map((members) => `{${members.map(([name, text]) => `${JSON.stringify(name)}:${text}`).join(',')}}`),
  ),
}));

const body = fc.oneof(
  fc.constant(Buffer.alloc(0)),
  json.map((text) => Buffer.from(text)),
  fc.tuple(json, fc.nat()).map(([text, at]) => Buffer.from(text.slice(0, at % (text.length + 1)))),
  fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
  json.map((text) => gzipSync(text)),
  fc.constant(Buffer.from('['.repeat(70))),
  fc.constant(Buffer.alloc(70_000, '{"int32Value":1}')),
);

const headers = fc.record(
  {
    'content-type': fc.constantFrom(
      'application/json',
      'application/json; charset=utf-8',
      'text/plain',
      'application/x-protobuf',
      ';',
    ),
    'content-encoding': fc.constantFrom('gzip', 'identity', 'br'),
    accept: fc.constantFrom(
      '*/*',
      'application/json',
      'text/event-stream',
      'application/x-protobuf',
      'a/b',
      ';q=x,,',
      '',
    ),
    'accept-encoding': fc.constantFrom('gzip', 'gzip;q=0', '*', 'br'),
    'grpc-timeout': fc.constantFrom('10S', '1n', '99999999H', 'x', ''),
    'grpc-metadata-a-bin': fc.constantFrom('AQ==', '!', ''),
    'x-envelope': fc.constantFrom('1', '0', 'x'),
    origin: fc.constantFrom('https://a.example', 'null'),
    'access-control-request-method': fc.constantFrom('PUT', ''),
    te: fc.constantFrom('trailers', 'x'),
  },
  { requiredKeys: [] },
);

const oneRequest = fc.record({ method: fc.constantFrom(...METHODS), path, query, headers, body });
type FuzzRequest = typeof oneRequest extends fc.Arbitrary<infer T> ? T : never;

/** encodeURIComponent throws on lone surrogates, and a request line must be ASCII. */
function encodeURIComponentSafely(text: string): string {
  return encodeURIComponent(Buffer.from(text).toString());
}

describe('The transcoder server under random requests', () => {
  let running: Running;
  const seen: Seen[] = [];
  const agent = new Agent({ keepAlive: true, maxSockets: BATCH });
  const rejections: unknown[] = [];
  const onRejection = (reason: unknown): void => {
    rejections.push(reason);
  };

  before(async () => {
    process.on('unhandledRejection', onRejection);
    running = await serve({
      handler: recordingHandler(seen),
      cors: { origins: ['https://a.example'] },
      limits: { maxHeaderBytes: 65_536 },
    });
  });
  after(async () => {
    agent.destroy();
    await running.stop();
    process.off('unhandledRejection', onRejection);
  });

  function statusOf({ method, path: target, query: search, headers: sent, body: bytes }: FuzzRequest): Promise<number> {
    return new Promise((resolve, reject) => {
      const req = httpRequest(
        {
          host: '127.0.0.1',
          port: running.port,
          method,
          path: search === '' ? target : `${target}?${search}`,
          agent,
          timeout: 10_000,
          headers: { ...sent, 'content-length': bytes.length },
        },
        (res) => {
          const chunks: Buffer[] = [];
          res.on('data', (chunk: Buffer) => chunks.push(chunk));
          res.on('error', reject);
          res.on('end', () => {
            try {
              const type = res.headers['content-type'];
              // An upload is returned unchanged, whatever its content type.
              const isText =
                type === 'application/json' &&
                res.headers['content-encoding'] === undefined &&
                !(res.statusCode === 200 && target.includes('upload'));
              const text = Buffer.concat(chunks).toString();
              // A stream has one line per value; every line must be JSON.
              if (isText && text !== '') for (const line of text.trimEnd().split('\n')) JSON.parse(line);
              resolve(res.statusCode!);
            } catch (err) {
              reject(err);
            }
          });
        },
      );
      req.on('timeout', () => req.destroy(new Error('no reply')));
      req.on('error', reject);
      req.end(bytes);
    });
  }

  it(`returns no 5xx except for passed deadlines, and does not crash, in ${RUNS} requests`, async function () {
    this.timeout(60_000 + RUNS * 20);
    const statuses = new Map<number, number>();
    await fc.assert(
      fc.asyncProperty(fc.array(oneRequest, { minLength: BATCH, maxLength: BATCH }), async (requests) => {
        const got = await Promise.all(requests.map(statusOf));
        seen.length = 0;
        for (const [i, status] of got.entries()) {
          statuses.set(status, (statuses.get(status) ?? 0) + 1);
          const timedOut = status === 504 && requests[i]!.headers['grpc-timeout'] === '1n';
          assert.ok(status < 500 || timedOut, `${status} for ${JSON.stringify(requests[i])}`);
        }
      }),
      { numRuns: Math.ceil(RUNS / BATCH), endOnFailure: true },
    );
    assert.deepEqual(rejections, []);
    // The generator is only useful if many requests get through. Each of these statuses is a large share of the
    // replies, so
    // its absence means a weak generator and not chance.
    for (const status of [200, 400, 404, 405]) assert.ok(statuses.has(status), `no ${status} among the replies`);
  });
});
