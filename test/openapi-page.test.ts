import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createContext, runInContext } from 'node:vm';
import { fromBinary, type JsonObject } from '@bufbuild/protobuf';
import { createValidator } from '@bufbuild/protovalidate';
import { parse } from 'yaml';
import { loadDescriptors } from '../internal/conf/descriptors.js';
import { createTranscoderServer, type TranscoderServer } from '../internal/kratos/transport/transcoder/transcoder.js';
import { projectRoot } from '../internal/local/project.js';

interface Parameter {
  readonly name: string;
  readonly in: string;
  readonly required?: boolean;
  readonly schema: object;
}

interface Operation {
  readonly operationId: string;
  readonly parameters?: readonly (Parameter | { readonly $ref: string })[];
  readonly requestBody?: { readonly content: Record<string, { readonly schema: object }> };
}

describe('The API page', () => {
  const page = readFileSync(join(projectRoot, 'internal/kratos/transport/openapi/docs/page.html'), 'utf8');
  const script = /<script>([\s\S]*?)<\/script>/.exec(page)?.[1] ?? '';
  const document = parse(readFileSync(join(projectRoot, 'openapi.yaml'), 'utf8')) as JsonObject;
  const browser = createContext({
    document: { getElementById: () => ({}) },
    location: { href: 'http://shop.example/docs' },
    // The page waits for its document, which is set here instead.
    fetch: () => new Promise(() => undefined),
    URL,
  });
  let server: TranscoderServer;
  let base: string;

  before(async () => {
    runInContext(script, browser);
    Object.assign(browser, { openapi: JSON.stringify(document) });
    runInContext('doc = JSON.parse(openapi)', browser);
    const { registry } = loadDescriptors();
    const validator = createValidator({ registry });
    server = createTranscoderServer({
      registry,
      services: (document.tags as { name: string }[]).map((tag) => tag.name),
      handler: async (call) => {
        const result = validator.validate(call.method.input, fromBinary(call.method.input, call.bind()));
        const violations = result.violations?.map((v) => v.toString()) ?? [];
        if (violations.length > 0) throw new Error(violations.join('; '));
        return { kind: 'unary', message: new Uint8Array() };
      },
      errorOf: (err) => ({ code: 3, reason: 'INVALID_ARGUMENT', message: (err as Error).message }),
      limits: { drainIdleMs: 0 },
    });
    const { port } = await server.start({ host: '127.0.0.1', port: 0 });
    base = `http://127.0.0.1:${port}`;
  });
  after(() => server.stop(Date.now() + 2_000));

  /** Calls a function of the page. */
  function call(name: string, ...args: unknown[]): unknown {
    Object.assign(browser, { args: JSON.stringify(args) });
    return JSON.parse(runInContext(`JSON.stringify(${name}(...JSON.parse(args))) ?? 'null'`, browser) as string);
  }

  for (const [path, item] of Object.entries(document.paths as unknown as Record<string, Record<string, Operation>>)) {
    for (const [method, operation] of Object.entries(item)) {
      it(`begins with a valid request of ${operation.operationId}`, async () => {
        let url = path;
        for (const parameter of operation.parameters ?? []) {
          if (!('in' in parameter) || !parameter.required) continue;
          const value = String(call('sample', parameter.schema));
          assert.notEqual(value, '', `no example for ${parameter.name}`);
          url =
            parameter.in === 'path' ? url.replace(`{${parameter.name}}`, value) : `${url}?${parameter.name}=${value}`;
        }
        const schema = operation.requestBody?.content['application/json']?.schema;
        const reply = await fetch(base + url, {
          method: method.toUpperCase(),
          ...(schema && {
            headers: { 'content-type': 'application/json' },
            body: JSON.stringify(call('sample', schema)),
          }),
        });
        assert.equal(reply.status, 200, await reply.text());
      });
    }
  }

  it('copies a request as a shell command, with quotes in the body', () => {
    const request = { url: '/v1/orders', headers: [['x-user-id', '1']], body: `{"remark":"it's"}` };
    assert.equal(
      call('curlOf', 'post', request),
      `curl -sS -X POST -H 'x-user-id: 1' -d '{"remark":"it'\\''s"}' 'http://shop.example/v1/orders'`,
    );
  });
});
