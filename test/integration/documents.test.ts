import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { canMove, type OrderStatus, type OrderType } from '../../internal/biz/order/order-state.js';
import { loadDescriptors } from '../../internal/conf/descriptors.js';
import { ORDER_STATUS } from '../../internal/data/postgres/status.js';
import { saleKeys } from '../../internal/data/redis/seckill-keys.js';
import { projectRoot } from '../../internal/local/project.js';
import { useServers } from '../support/servers.js';

const DOCUMENT = 'docs/documents.md';
const ITEM_ID = 7n;
const TYPES: readonly OrderType[] = ['INSTANCE', 'GOODS', 'CONTENT'];

/** Says whether there is something of that name. */
type Finder = (name: string) => boolean;

// Each name in `code` in the column "here", of the tables, columns, RPCs … that it can be one of.
describe('docs/documents.md', () => {
  const servers = useServers('postgres');
  let finders: Readonly<Record<string, Finder>>;
  const text = readFileSync(join(projectRoot, DOCUMENT), 'utf8');
  const orders = readFileSync(join(projectRoot, 'docs/orders.md'), 'utf8');

  before(async () => {
    finders = {
      database: among(await databaseNames(servers.postgresUrl)),
      api: among(protoNames()),
      route: among(routes()),
      setting: among(settings()),
      queue: among(queues()),
      'Redis key': among(redisKeys()),
      file: (name) => /[/.]/.test(name) && existsSync(join(projectRoot, name)),
      source: sourceFinder(),
    };
  });

  const kindOf = (name: string) => Object.keys(finders).find((kind) => finders[kind]?.(name));

  it('names nothing as ours that does not exist', () => {
    const rows = rowsOf(text);
    const names = rows.flatMap(({ line, here }) =>
      [...here.matchAll(/`([^`]+)`/g)].map(([, name = '']) => ({ line, name })),
    );
    assert.ok(rows.length > 150 && names.length > 250, `${rows.length} rows with ${names.length} names`);
    const lost = names.filter(({ name }) => kindOf(name) === undefined);
    assert.deepEqual(
      lost.map(({ line, name }) => `${DOCUMENT}:${line}: ${name}`),
      [],
    );
  });

  it('holds docs/orders.md to the same in its tables of transitions and of lists', () => {
    const tables = [
      ...transitionsOf(orders).map((t) => t.text),
      ...(/^\| question \|.*\n(?:\|.*\n)+/m.exec(orders) ?? []),
    ];
    const names = tables.flatMap((row) => [...row.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name));
    assert.ok(names.length > 25, `${names.length} names`);
    assert.deepEqual(
      names.filter((name) => kindOf(name) === undefined),
      [],
    );
  });

  it('has a table for each of the five documents', () => {
    assert.deepEqual(
      [...text.matchAll(/^## (\d{3}):/gm)].map(([, no]) => no),
      ['000', '001', '002', '003', '004'],
    );
  });

  const kinds: readonly (readonly [name: string, kind: string, lost: string])[] = [
    ['orders.paid_at', 'database', 'orders.pay_time'],
    ['order_info', 'database', 'order_infos'],
    ['idx_user_content', 'database', 'idx_user_contents'],
    ['kaimai_resource', 'database', 'kaimai_other'],
    ['SeckillService.Purchase', 'api', 'SeckillService.Buy'],
    ['POST /v1/orders/{id}/paid', 'route', 'POST /v1/orders/{id}/payed'],
    ['data.rabbitmq.queue', 'setting', 'data.rabbitmq.exchange'],
    ['resource.instance.created', 'queue', 'resource.instance.made'],
    ['seckill:<item_id>:stock', 'Redis key', 'seckill:<item_id>:units'],
    ['internal/service/order.ts', 'file', 'internal/service/order.go'],
    ['OrderService.handleOrderPaid', 'source', 'OrderService.handlePaid'],
    ['formatUserId', 'source', 'formatUserID'],
  ];
  for (const [name, kind, lost] of kinds) {
    it(`would be found out if it named ${lost} instead of ${name}`, () => {
      assert.equal(kindOf(name), kind);
      assert.equal(kindOf(lost), undefined);
    });
  }
});

describe('docs/orders.md', () => {
  it('has exactly the transitions of the state machine, for each type of order', () => {
    const documented = transitionsOf(readFileSync(join(projectRoot, 'docs/orders.md'), 'utf8'))
      .filter(({ from }) => from !== '–')
      .flatMap(({ from, to, types }) => types.map((type) => `${from} → ${to}: ${type}`));
    const statuses = Object.keys(ORDER_STATUS) as OrderStatus[];
    const moves = statuses.flatMap((from) =>
      statuses.flatMap((to) =>
        TYPES.filter((orderType) => canMove({ status: from, orderType }, to)).map((type) => `${from} → ${to}: ${type}`),
      ),
    );
    assert.deepEqual(documented.sort(), moves.sort());
  });
});

interface Transition {
  readonly from: string;
  readonly to: string;
  readonly types: readonly string[];
  readonly text: string;
}

function transitionsOf(text: string): Transition[] {
  const [, table = ''] = /^\| from \| to \| types \|.*\n\|[-|]+\n((?:\|.*\n)+)/m.exec(text) ?? [];
  return table
    .trim()
    .split('\n')
    .map((row) => {
      const [from = '', to = '', types = ''] = row
        .split('|')
        .slice(1)
        .map((cell) => cell.trim());
      return { from, to, types: types === 'all' ? TYPES : types.split(', '), text: row };
    });
}

interface Row {
  readonly line: number;
  readonly here: string;
}

/** The rows of the tables with a column "here". */
function rowsOf(text: string): Row[] {
  let within = false;
  return text.split('\n').flatMap((content, i) => {
    if (content.startsWith('| there | here |')) within = true;
    else if (!content.startsWith('|')) within = false;
    else if (within && !content.startsWith('|---')) return [{ line: i + 1, here: content.split(' | ')[1] ?? '' }];
    return [];
  });
}

function among(names: Iterable<string>): Finder {
  const known = new Set(names);
  return (name) => known.has(name);
}

/** Relations, their columns as `table.column`, indexes, constraints, functions and the roles of the processes. */
async function databaseNames(url: string): Promise<string[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query<{ name: string }>(`
      SELECT relname::text AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace
      UNION SELECT c.relname || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped
      UNION SELECT conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace
      UNION SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
      UNION SELECT rolname FROM pg_roles WHERE rolname IN ('kaimai_product', 'kaimai_resource')`);
    return rows.map(({ name }) => name);
  } finally {
    await client.end();
  }
}

/** RPCs as `Name` and `Service.Name`, messages, fields, and the values of enums. */
function protoNames(): string[] {
  const names: string[] = [];
  for (const file of loadDescriptors().registry.files) {
    // Other packages, such as google.protobuf, are not ours.
    if (!existsSync(join(projectRoot, 'api', `${file.name}.proto`)) && file.name !== 'conf') continue;
    for (const desc of [...file.services, ...file.messages, ...file.enums]) names.push(...namesIn(desc));
  }
  return names;
}

type Descriptor = ReturnType<typeof loadDescriptors>['registry'] extends Iterable<infer D> ? D : never;

function namesIn(desc: Descriptor): string[] {
  switch (desc.kind) {
    case 'service':
      return [desc.name, ...desc.methods.flatMap((m) => [m.name, `${desc.name}.${m.name}`])];
    case 'message':
      return [
        desc.name,
        ...desc.fields.map((f) => f.name),
        ...desc.nestedMessages.flatMap(namesIn),
        ...desc.nestedEnums.flatMap(namesIn),
      ];
    case 'enum':
      return desc.values.map((v) => v.name);
    default:
      return [];
  }
}

function routes(): string[] {
  const yaml = readFileSync(join(projectRoot, 'openapi.yaml'), 'utf8');
  let path = '';
  return yaml.split('\n').flatMap((line) => {
    path = /^ {2}"?(\/v1\/[^"]*?)"?:$/.exec(line)?.[1] ?? path;
    const method = /^ {4}(get|put|post|patch|delete):$/.exec(line)?.[1];
    return method === undefined ? [] : [`${method.toUpperCase()} ${path}`];
  });
}

/** Of the generated page of all settings, which test/configuration.test.ts keeps true. */
function settings(): string[] {
  const page = readFileSync(join(projectRoot, 'docs/configuration.md'), 'utf8');
  return [...page.matchAll(/^\| `([a-z_.]+)` \|/gm)].map(([, key = '']) => key);
}

function queues(): string[] {
  const page = readFileSync(join(projectRoot, 'docs/configuration.md'), 'utf8');
  return [...page.matchAll(/^\| `data\.rabbitmq\.\w*queue` \|.*?\| "([^"]+)" \|/gm)].map(([, queue = '']) => queue);
}

function redisKeys(): string[] {
  const keys = Object.values(saleKeys('', ITEM_ID)).map((key) => key.replace(`:${ITEM_ID}`, ':<item_id>'));
  return [...keys, ...documentedKeys()];
}

/** Keys that comments of the Redis adapters document as `a:b:<id>`. */
function documentedKeys(): string[] {
  return filesUnder('internal/data/redis').flatMap((file) =>
    [...readFileSync(file, 'utf8').matchAll(/`([a-z]+(?::[a-z]+)*:<[a-z_]+>)`/g)].map(([, key = '']) => key),
  );
}

/** Classes, functions, constants, `Class.method`, header names and the Lua scripts. */
function sourceFinder(): Finder {
  const files = filesUnder('internal').filter((file) => !file.endsWith('.test.ts'));
  const sources = files.filter((file) => file.endsWith('.ts')).map((file) => readFileSync(file, 'utf8'));
  return (name) => {
    if (files.some((file) => file.endsWith(`/${name}`) && name.endsWith('.lua'))) return true;
    if (/^[xX]-[\w-]+$/.test(name)) return sources.some((source) => source.includes(`'${name}'`));
    const [, owner, member] = /^([A-Za-z]\w*)(?:\.([a-z]\w*))?$/.exec(name) ?? [];
    if (owner === undefined) return false;
    const declared = new RegExp(`\\b(?:class|function|const|interface|type) ${owner}\\b`);
    return sources.some(
      (source) =>
        declared.test(source) && (member === undefined || new RegExp(`^  (?:\\w+ )*${member}\\(`, 'm').test(source)),
    );
  };
}

function filesUnder(folder: string): string[] {
  return readdirSync(join(projectRoot, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}
