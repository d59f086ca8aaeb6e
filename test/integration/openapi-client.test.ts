import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import openapiTS, { astToString } from 'openapi-typescript';
import ts from 'typescript';
import { projectRoot } from '../../internal/local/project.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';

/** A client as the team of a BFF would write it, on types generated from openapi.yaml. It prints what it got. */
const CLIENT = `
import createClient from 'openapi-fetch';
import type { components, paths } from './api.js';

const api = createClient<paths>({ baseUrl: process.argv[2] ?? '' });
const admin = { headers: { 'x-user-role': 'ADMIN' } };
const buyer = { headers: { 'x-user-id': '123' } };

function must<T>(reply: { data?: T; error?: { reason: string } }): T {
  if (reply.data === undefined) throw new Error(reply.error?.reason);
  return reply.data;
}

const spec = must(await api.POST('/v1/product-specs', { ...admin, body: { cpu: 2, memory: 4, image: 'debian-12' } }));
const product = must(
  await api.POST('/v1/products', {
    ...admin,
    body: { name: 'small', specId: spec.id, priceFen: '9900', status: 'ENABLED' },
  }),
);
const order: components['schemas']['order.v1.Order'] = must(
  await api.POST('/v1/orders', { ...buyer, body: { productId: product.id, requestId: 'r-1' } }),
);
const list = must(await api.GET('/v1/orders', { ...buyer, params: { query: { limit: 10, status: 'PENDING' } } }));
const missing = await api.POST('/v1/orders', { ...buyer, body: { productId: '9' } });
const error: 'PRODUCT_NOT_FOUND' | undefined = missing.response.status === 404 ? notFound(missing.error) : undefined;

const spu = must(
  await api.POST('/v1/spus', { ...admin, body: { spuNo: 'p-1', title: 'Phone', mainImages: ['https://img.example/1.png'] } }),
);
const emptied = must(
  await api.PATCH('/v1/spus/{id}', {
    ...admin,
    params: { path: { id: spu.id } },
    body: { version: spu.version, mainImages: [] },
  }),
);

function notFound(error: { reason: string } | undefined) {
  return error?.reason === 'PRODUCT_NOT_FOUND' ? ('PRODUCT_NOT_FOUND' as const) : undefined;
}

console.log(
  JSON.stringify({
    product: order.productId === product.id,
    amountFen: order.amountFen,
    status: order.status,
    orders: list.orders.map((o) => o.id === order.id),
    error,
    images: [spu.mainImages.length, emptied.mainImages.length],
    title: emptied.title,
  }),
);
`;

/** Each of them misuses the API in a way that the types must reject. */
const MISTAKES: Readonly<Record<string, string>> = {
  'an unknown path': `await api.GET('/v1/nothing');`,
  'an int64 as a number': `await api.POST('/v1/orders', { body: { productId: 1001 } });`,
  'a missing required field': `await api.POST('/v1/seckill', { body: { requestId: 'r' } });`,
  'an unknown enum value': `await api.GET('/v1/orders', { params: { query: { status: 'LOST' } } });`,
  'a field that the reply does not have': `(await api.GET('/v1/products')).data?.products[0]?.cpu;`,
};

describe('A client generated from openapi.yaml', function () {
  this.timeout(120_000);
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let folder: string;
  let product: TestProcess;
  let errors: ReadonlyMap<string, readonly string[]>;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'kaimai-client-'));
    symlinkSync(join(projectRoot, 'node_modules'), join(folder, 'node_modules'));
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
    const types = await openapiTS(readFileSync(join(projectRoot, 'openapi.yaml'), 'utf8'));
    writeFileSync(join(folder, 'api.d.ts'), astToString(types));
    const head = CLIENT.slice(0, CLIENT.indexOf('const admin'));
    const mistakes = Object.values(MISTAKES).map((source, i) => [`mistake-${i}`, `${head}${source}`]);
    errors = compile({ client: CLIENT, ...Object.fromEntries(mistakes) });
    product = await processes.start('product', { env: servers.env(), config: { server: { roles: ['api'] } } });
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  /** Compiles all programs at once, since nearly all of the time goes into the types. @returns the errors by program */
  function compile(programs: Readonly<Record<string, string>>): ReadonlyMap<string, readonly string[]> {
    const files = Object.entries(programs).map(([name, source]) => {
      const file = join(folder, `${name}.ts`);
      writeFileSync(file, source);
      return file;
    });
    const program = ts.createProgram(files, {
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      skipLibCheck: true,
      module: ts.ModuleKind.NodeNext,
      target: ts.ScriptTarget.ES2022,
      types: ['node'],
      typeRoots: [join(folder, 'node_modules/@types')],
    });
    program.emit();
    const found = ts.getPreEmitDiagnostics(program);
    return new Map(
      Object.keys(programs).map((name) => [
        name,
        found
          .filter((d) => d.file === undefined || d.file.fileName.endsWith(`/${name}.ts`))
          .map((d) => ts.flattenDiagnosticMessageText(d.messageText, '\n')),
      ]),
    );
  }

  it('compiles and works', async () => {
    assert.deepEqual(errors.get('client'), []);
    const run = await promisify(execFile)(process.execPath, [join(folder, 'client.js'), `http://${product.http}`]);
    assert.deepEqual(JSON.parse(run.stdout), {
      product: true,
      amountFen: '9900',
      status: 'PENDING',
      orders: [true],
      error: 'PRODUCT_NOT_FOUND',
      images: [1, 0],
      title: 'Phone',
    });
  });

  for (const [i, mistake] of Object.keys(MISTAKES).entries()) {
    it(`does not compile with ${mistake}`, () => assert.equal(errors.get(`mistake-${i}`)?.length, 1));
  }
});
