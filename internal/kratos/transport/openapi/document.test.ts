import assert from 'node:assert/strict';
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';
import { Validator } from '@seriousme/openapi-schema-validator';
import { Ajv2020 } from 'ajv/dist/2020.js';
import formats from 'ajv-formats';
import { ALL_REASONS } from '../../../../gen/reasons.js';
import { loadDescriptors } from '../../../conf/descriptors.js';
import { accessRules } from '../../../server/access-rules.js';
import { LIBRARY, libraryRegistry, recordingHandler, send, serve } from '../transcoder/testdata/library.js';
import { openApiDocument, toYaml } from './document.js';

type Node = { [key: string]: Node } & { name?: string; type?: JsonValue };

describe('The OpenAPI document', () => {
  let library: JsonObject;
  let kaimai: JsonObject;

  before(() => {
    library = openApiDocument({
      registry: libraryRegistry(),
      services: [LIBRARY],
      reasons: ALL_REASONS,
      title: 'Library',
      version: '1',
    });
    kaimai = openApiDocument({
      registry: loadDescriptors().registry,
      services: ['order.v1.OrderService', 'product.v1.ProductService', 'instance.v1.InstanceService'],
      title: 'Kaimai',
      version: '1',
      reasons: ALL_REASONS,
      envelopeHeader: 'X-Kaimai-Envelope',
      access: accessRules(loadDescriptors().registry, 'header'),
    });
  });

  const at = (doc: JsonObject, ...keys: (string | number)[]): Node =>
    keys.reduce<Node>((node, key) => {
      assert.ok(node[key] !== undefined, `${keys.join(' ')}: no ${key}`);
      return node[key] as Node;
    }, doc as Node);

  const parameters = (doc: JsonObject, path: string, method: string): Map<string, Node> =>
    new Map((Object.values(at(doc, 'paths', path, method, 'parameters')) as Node[]).map((p) => [String(p.name), p]));

  it('is valid OpenAPI 3.1 for every kind of binding', async () => {
    for (const doc of [library, kaimai]) {
      const result = await new Validator().validate(JSON.parse(JSON.stringify(doc)));
      assert.deepEqual(result.errors ?? [], []);
    }
  });

  it('is the same in every run', () => {
    const again = openApiDocument({
      registry: libraryRegistry(),
      services: [LIBRARY],
      reasons: ALL_REASONS,
      title: 'Library',
      version: '1',
    });
    assert.equal(toYaml(again), toYaml(library));
  });

  it('lists every binding, wildcards as parameters, and one path per shape', () => {
    const paths = Object.keys(at(library, 'paths'));
    for (const path of [
      '/v1/books/{id}',
      '/v1/shelves/{shelf}/books/{id}',
      '/v1/books:lookup',
      '/v1/books/{id}:cancel:all',
    ]) {
      assert.ok(paths.includes(path), path);
    }
    assert.ok(paths.includes('/v1/files/{name}'));
    assert.ok(paths.includes('/v1/projects/{name.1}/files/{name.2}'));
    // PATCH /v1/books/{book.id} and GET /v1/books/{id} are one path.
    assert.ok(!paths.includes('/v1/books/{book.id}'));
    assert.ok(at(library, 'paths', '/v1/books/{id}', 'patch'));
    assert.ok(at(library, 'paths', '/v1/cache/{id}', 'x-additionalOperations', 'PURGE'));
  });

  it('lists as query parameters the fields that neither path nor body binds', () => {
    const search = parameters(library, '/v1/search', 'get');
    assert.equal(at(library, 'paths', '/v1/search', 'get').operationId, 'LibraryService_Search');
    for (const name of ['int32Value', 'stringList', 'stringMap', 'timestamp', 'int64Wrapper']) {
      assert.ok(search.has(name), name);
    }
    // A message that contains itself has no end.
    for (const name of ['nested', 'nested.stringValue', 'any', 'nestedList', 'nestedMap']) {
      assert.ok(!search.has(name), name);
    }
    assert.equal(search.get('stringMap')?.style, 'deepObject');
    const tags = parameters(library, '/v1/tags/{id}', 'put');
    assert.ok(tags.has('chosenBook.title') && tags.has('scores') && !tags.has('tags'));
    assert.match(String(tags.get('chosenName')?.description), /Not together with `chosenBook`/);
    const update = parameters(library, '/v1/books/{id}', 'patch');
    assert.deepEqual([...update.keys()].slice(0, 3), ['id', 'updateMask', 'dryRun']);
  });

  it('describes values in proto3 JSON', () => {
    const everything = at(library, 'components', 'schemas', 'transcoder.test.v1.Everything', 'properties');
    assert.equal(everything.int64Value?.type, 'string');
    assert.equal(everything.uint32Value?.type, 'integer');
    assert.deepEqual(everything.int64Wrapper?.type, ['string', 'null']);
    assert.deepEqual(everything.int32Wrapper?.type, ['integer', 'null']);
    assert.equal(at(everything as JsonObject, 'timestamp').format as unknown, 'date-time');
    assert.ok(everything['@custom']);
  });

  it('describes the replies of the transcoder', async () => {
    const seen: Parameters<typeof recordingHandler>[0] = [];
    const running = await serve({ handler: recordingHandler(seen) });
    try {
      const ajv = new Ajv2020({ strict: false, allErrors: true });
      formats.default(ajv);
      for (const format of ['int64', 'uint64', 'int32', 'double', 'float']) ajv.addFormat(format, true);
      const { components } = library;
      const validate = ajv.compile({ $ref: '#/components/schemas/transcoder.test.v1.Everything', components });
      const bodies = [
        {},
        {
          int64Value: '-5',
          doubleValue: 'NaN',
          nested: { enumValue: 'POEM' },
          oneofString: 'a',
          timestamp: '2026-01-01T00:00:00Z',
        },
        {
          int32Map: { '-1': 'a' },
          boolMap: { true: 'x' },
          nestedList: [{}],
          value: null,
          struct: { a: [1] },
          int64Wrapper: '7',
        },
        {
          any: { '@type': 'type.googleapis.com/google.protobuf.Duration', value: '1.5s' },
          duration: '-0.5s',
          bytesValue: 'AAE=',
        },
      ];
      for (const body of bodies) {
        const reply = await send(running.port, {
          method: 'POST',
          path: '/v1/echo',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(body),
        });
        const text = reply.body.toString();
        assert.equal(reply.status, 200, text);
        assert.ok(validate(JSON.parse(text)), JSON.stringify(validate.errors));
      }
      assert.ok(!validate({ int64Value: 5 }));
      assert.ok(!validate({ oneofString: 'a', oneofInt32: 1 }));
    } finally {
      await running.stop();
    }
  });

  it('requires the fields that the rules require, and omits path fields from bodies', () => {
    const schemas = at(kaimai, 'components', 'schemas');
    const create = at(schemas as JsonObject, 'order.v1.CreateOrderRequest');
    const spec = at(schemas as JsonObject, 'product.v1.CreateProductSpecRequest');
    assert.deepEqual(spec.required as unknown, ['cpu', 'memory', 'image']);
    assert.equal(at(create as JsonObject, 'properties', 'quantity').maximum as unknown, 10_000);
    assert.equal(at(create as JsonObject, 'properties', 'requestId').maxLength as unknown, 64);
    const paid = at(schemas as JsonObject, 'order.v1.MarkOrderPaidRequest.Body', 'properties');
    assert.ok(!('id' in paid) && 'eventId' in paid);
    assert.match(String(paid.paidAmountFen?.description), /amount due.*\n\n.*at most 1000000000000000/s);
  });

  it('lists roles and credentials', () => {
    const create = at(kaimai, 'paths', '/v1/orders', 'post');
    assert.equal(create['x-role'] as unknown, 'USER');
    assert.ok((create.security as unknown as JsonObject[]).some((s) => 'userId' in s));
    assert.ok(!JSON.stringify(create.security).includes('bearer'));
    assert.deepEqual(at(kaimai, 'paths', '/v1/products', 'get').security as unknown, []);
    // RPCs without a route are not listed.
    assert.ok(!JSON.stringify(kaimai).includes('ReportInstance'));
  });

  it('lists by status the reasons that a method declares, also those of other packages', () => {
    const reasons = (status: string) =>
      at(
        kaimai,
        'paths',
        '/v1/orders',
        'post',
        'responses',
        status,
        'content',
        'application/json',
        'schema',
        'properties',
      ).reason?.enum as unknown;
    for (const [status, reason] of [
      ['404', 'PRODUCT_NOT_FOUND'],
      ['404', 'SKU_NOT_FOUND'],
      ['409', 'PRODUCT_DISABLED'],
    ] as const)
      assert.ok((reasons(status) as string[]).includes(reason), reason);
    assert.ok(!(reasons('404') as string[]).includes('PRODUCT_DISABLED'), 'it has another status');
    assert.ok(!(reasons('409') as string[]).includes('ORDER_ALREADY_PAID'), 'it cannot end with that');
    const text = at(kaimai, 'paths', '/v1/orders', 'post', 'responses', '409').description as unknown;
    assert.match(String(text), /`PRODUCT_DISABLED`: The product is disabled/);
    const shared = at(kaimai, 'paths', '/v1/orders', 'post', 'responses', '401').$ref as unknown;
    assert.equal(shared, '#/components/responses/common.v1.401');
  });

  it('cannot be made of a method that declares an unknown reason', () => {
    const { registry } = loadDescriptors();
    const options = { registry, services: ['order.v1.OrderService'], title: 'Kaimai', version: '1' };
    assert.throws(() => openApiDocument({ ...options, reasons: [] }), /CreateOrder.*PRODUCT_NOT_FOUND/);
  });

  it('has the envelope header on every operation whose reply is one JSON value', () => {
    const operations = Object.values(at(kaimai, 'paths')).flatMap((item) => Object.values(item as Node)) as Node[];
    assert.ok(operations.length > 10);
    for (const operation of operations) {
      const refs = Object.values(operation.parameters ?? {}).map((p) => (p as Node).$ref as unknown);
      assert.ok(refs.includes('#/components/parameters/Envelope'), String(operation.operationId));
    }
    assert.equal(at(kaimai, 'components', 'parameters', 'Envelope').name, 'X-Kaimai-Envelope');
  });

  it('gives every content type a schema, so that generated types are not unknown', () => {
    const untyped: string[] = [];
    const visit = (node: unknown, path: string): void => {
      if (typeof node !== 'object' || node === null) return;
      for (const [key, value] of Object.entries(node)) {
        if (key === 'content') {
          for (const [type, media] of Object.entries(value as Record<string, { schema?: unknown }>)) {
            if (media.schema === undefined) untyped.push(`${path} ${type}`);
          }
        }
        visit(value, `${path}/${key}`);
      }
    };
    visit(kaimai, '');
    visit(library, '');
    assert.deepEqual(untyped, []);
  });

  it('lists the content types of streams', () => {
    const content = at(library, 'paths', '/v1/books/{id}/watch', 'get', 'responses', '200', 'content');
    assert.deepEqual(Object.keys(content), ['application/json', 'application/x-ndjson', 'text/event-stream']);
  });
});
