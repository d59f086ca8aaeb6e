import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import openapiTS, { astToString } from 'openapi-typescript';
import ts from 'typescript';
import { parse } from 'yaml';
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

/** The program of docs/bff.md, which buys in a sale and pays. It prints what it got. */
const GUIDE = `${[...readFileSync(join(projectRoot, 'docs/bff.md'), 'utf8').matchAll(/^```ts\n(.*?)^```$/gms)]
  .map(([, code]) => code)
  .join('\n')}
const operator = { headers: { 'x-user-role': 'ADMIN' } };
const spec = must(await kaimai.POST('/v1/product-specs', { ...operator, body: { cpu: 2, memory: 4, image: 'debian-12' } }));
const plan = { name: 'small', specId: spec.id!, priceFen: '9900', status: 'ENABLED' as const };
const { id: itemId = '' } = must(await kaimai.POST('/v1/products', { ...operator, body: plan }));
must(await kaimai.POST('/v1/sales', { ...operator, body: { itemId, total: '2', payMode: 'PAY_LATER' } }));
must(await kaimai.POST('/v1/sales/{item_id}/open', { ...operator, params: { path: { item_id: itemId } }, body: {} }));

const { sale, startsInMs } = await countdown(itemId);
const requestId = randomUUID();
const [bought, again] = [await buy('456', itemId, requestId), await buy('456', itemId, requestId)];
const purchase = await orderOf('456', bought.data!.seckillId!);
const paid = await notifyPaid(process.env.PAYMENT_SECRET ?? '', purchase.orderId!, sale.priceFen!);
const forged = await notifyPaid('another secret of 16', purchase.orderId!, '1').catch((err: KaimaiError) => err.body.reason);
const unknown = await buy('456', '999999', requestId).catch((err: KaimaiError) => err.body.reason);
const orders: boolean[] = [];
for await (const order of myOrders('456')) orders.push(order.id === purchase.orderId);
console.log(
  JSON.stringify({
    started: startsInMs <= 0,
    code: bought.code,
    same: again.data?.seckillId === bought.data?.seckillId,
    purchase: purchase.status,
    paid: paid.status,
    forged,
    unknown,
    orders,
  }),
);
`;
const PAYMENT_SECRET = 'a payment secret for this test';

/** Each of them misuses the API in a way that the types must reject. */
const MISTAKES: Readonly<Record<string, string>> = {
  'an unknown path': `await api.GET('/v1/nothing');`,
  'an int64 as a number': `await api.POST('/v1/orders', { body: { productId: 1001 } });`,
  'a missing required field': `await api.POST('/v1/seckill', { body: { requestId: 'r' } });`,
  'an unknown enum value': `await api.GET('/v1/orders', { params: { query: { status: 'LOST' } } });`,
  'a field that the reply does not have': `(await api.GET('/v1/products')).data?.products[0]?.cpu;`,
};

describe('A client generated from openapi.yaml', () => {
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
    errors = compile({ client: CLIENT, guide: GUIDE, ...Object.fromEntries(mistakes) });
    const config = {
      data: { rabbitmq: { queue: servers.queue('resource.instance.created') } },
      payment: { secret: PAYMENT_SECRET },
    };
    product = await processes.start('product', { env: servers.env(), config });
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

  it('compiles and works as the guide for a BFF writes it', async () => {
    assert.deepEqual(errors.get('guide'), []);
    const env = { ...process.env, KAIMAI_URL: `http://${product.http}`, PAYMENT_SECRET };
    const run = await promisify(execFile)(process.execPath, [join(folder, 'guide.js')], { env });
    assert.deepEqual(JSON.parse(run.stdout), {
      started: true,
      code: 'QUEUED',
      same: true,
      purchase: 'AWAIT_PAY',
      paid: 'PAID',
      forged: 'UNAUTHENTICATED',
      unknown: 'SALE_NOT_FOUND',
      orders: [true],
    });
  });

  it('has the table of error reasons of the protos in the guide for a BFF', () => {
    execFileSync(process.execPath, [join(projectRoot, 'dist/cmd/bff-guide/main.js'), '--check'], { stdio: 'pipe' });
  });

  it('is told by the document which process serves an operation', async () => {
    type Document = { tags: { name: string; 'x-process': string }[]; paths: Record<string, Record<string, Operation>> };
    type Operation = { 'x-process': string; 'x-rpc': string };
    const whole = parse(readFileSync(join(projectRoot, 'openapi.yaml'), 'utf8')) as Document;
    const served = (await (await fetch(`http://${product.http}/openapi.json`)).json()) as Document;
    const namesOf = (document: Document, process: string) =>
      document.tags.filter((tag) => tag['x-process'] === process).map((tag) => tag.name);
    assert.deepEqual(namesOf(whole, 'product'), namesOf(served, 'product'));
    assert.deepEqual(
      [namesOf(whole, 'resource'), namesOf(served, 'resource')],
      [['resource.v1.InstanceLogService', 'resource.v1.InstanceService'], []],
    );
    for (const operation of Object.values(whole.paths).flatMap((item) => Object.values(item))) {
      const service = operation['x-rpc'].split('/')[1] ?? '';
      assert.equal(operation['x-process'], namesOf(whole, 'resource').includes(service) ? 'resource' : 'product');
    }
  });

  for (const [i, mistake] of Object.keys(MISTAKES).entries()) {
    it(`does not compile with ${mistake}`, () => assert.equal(errors.get(`mistake-${i}`)?.length, 1));
  }
});
