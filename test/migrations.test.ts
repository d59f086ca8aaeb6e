import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { loadMigrations, type Migration, outsideStatements } from '../internal/data/postgres/migration-file.js';
import { projectRoot } from '../internal/local/project.js';

/** The last migration from before this check. Those up to it are applied, and an applied migration is never edited. */
const LAST_UNCHECKED = 20;

/** Statements that squawk accepts, and that lock or rewrite what is there. */
const OTHERS: readonly (readonly [rule: string, form: RegExp])[] = [
  ['mass-update', /^\s*(?:UPDATE|DELETE\s+FROM|TRUNCATE)\b/im],
  ['table-rewrite', /^\s*(?:CLUSTER|VACUUM\s+FULL|LOCK\s+TABLE)\b/im],
  ['checked-column', /\bADD\s+COLUMN\b[^,;]*\bCHECK\s*\(/i],
];

interface Finding {
  readonly file: string;
  readonly rule_name: string;
  readonly line: number;
}

type SqlFile = Pick<Migration, 'name' | 'sql'>;

/** What the files break, as `<file>: <rule>, line <n>`. */
async function faultsOf(files: readonly SqlFile[]): Promise<string[]> {
  const folder = await mkdtemp(join(tmpdir(), 'kaimai-squawk-'));
  try {
    for (const { name, sql } of files) await writeFile(join(folder, name), sql);
    const isOutside = (file: SqlFile) => outsideStatements({ ...file, version: 0, checksum: '' }) !== undefined;
    return [
      ...(await squawk(folder, files.filter(isOutside), [])),
      ...(await squawk(
        folder,
        files.filter((file) => !isOutside(file)),
        ['--assume-in-transaction'],
      )),
      ...files.flatMap(otherFaultsOf),
    ];
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function squawk(folder: string, files: readonly SqlFile[], options: readonly string[]): Promise<string[]> {
  if (files.length === 0) return [];
  const paths = files.map(({ name }) => join(folder, name));
  const args = [...options, '--config', join(projectRoot, '.squawk.toml'), '--reporter', 'json', ...paths];
  const text = await new Promise<string>((resolve, reject) => {
    execFile(join(projectRoot, 'node_modules/.bin/squawk'), args, (err, stdout, stderr) => {
      // It exits with 1 when it found something.
      if (stdout === '') reject(err ?? new Error(stderr));
      else resolve(stdout);
    });
  });
  return (JSON.parse(text) as Finding[]).map((f) => `${basename(f.file)}: ${f.rule_name}, line ${f.line + 1}`);
}

function otherFaultsOf({ name, sql }: SqlFile): string[] {
  const created = new Set([...sql.matchAll(/CREATE TABLE (\w+)/g)].map(([, table]) => table));
  return sql
    .replace(/^\s*--.*$/gm, '')
    .split(';')
    .filter((statement) => {
      const table = /(?:UPDATE|DELETE\s+FROM|ALTER\s+TABLE)\s+(\w+)/i.exec(statement)?.[1];
      return table === undefined || !created.has(table);
    })
    .flatMap((statement) => OTHERS.filter(([, form]) => form.test(statement)).map(([rule]) => `${name}: ${rule}`));
}

describe('The migrations', () => {
  it(`after ${LAST_UNCHECKED} can be applied to a live system: no rewrite, no scan under an exclusive lock, indexes CONCURRENTLY`, async () => {
    const migrations = await loadMigrations(join(projectRoot, 'migrations'));
    assert.ok(migrations.length >= LAST_UNCHECKED);
    const faults = await faultsOf(migrations.slice(LAST_UNCHECKED));
    assert.deepEqual(faults, [], 'CONTRIBUTING.md, "Migrations", says what to write instead');
  });

  const refused: readonly (readonly [sql: string, rule: string])[] = [
    ['ALTER TABLE orders ALTER COLUMN remark TYPE TEXT', 'changing-column-type'],
    ['ALTER TABLE orders ADD COLUMN a UUID NOT NULL DEFAULT gen_random_uuid()', 'adding-field-with-default'],
    ['ALTER TABLE orders ADD COLUMN a BIGINT GENERATED ALWAYS AS (amount + 1) STORED', 'adding-field-with-default'],
    ['ALTER TABLE orders ADD COLUMN a BIGINT NOT NULL', 'adding-required-field'],
    ['ALTER TABLE orders ADD COLUMN a INT CHECK (a > 0)', 'checked-column'],
    ['ALTER TABLE orders ADD CONSTRAINT c CHECK (amount > 0)', 'constraint-missing-not-valid'],
    [
      'ALTER TABLE orders ADD CONSTRAINT c FOREIGN KEY (sale_id) REFERENCES sales (id)',
      'adding-foreign-key-constraint',
    ],
    ['ALTER TABLE orders ADD COLUMN a BIGINT REFERENCES sales (id)', 'adding-foreign-key-constraint'],
    ['ALTER TABLE orders ADD CONSTRAINT c UNIQUE (amount)', 'disallowed-unique-constraint'],
    ['ALTER TABLE orders ALTER COLUMN sale_id SET NOT NULL', 'adding-not-nullable-field'],
    ['ALTER TABLE orders DROP COLUMN remark', 'ban-drop-column'],
    ['ALTER TABLE orders RENAME COLUMN remark TO note', 'renaming-column'],
    ['CREATE INDEX i ON orders (amount)', 'require-concurrent-index-creation'],
    ['DROP INDEX idx_orders_source', 'require-concurrent-index-deletion'],
    ['REINDEX TABLE orders', 'require-concurrent-reindex'],
    ['UPDATE orders SET amount = 0', 'mass-update'],
    ['CLUSTER orders', 'table-rewrite'],
  ];
  it('are refused for each statement that stops a live system', async () => {
    const faults = await faultsOf(refused.map(([sql], i) => ({ name: `${i}.sql`, sql: `-- Why.\n${sql};\n` })));
    for (const [i, [sql, rule]] of refused.entries()) {
      const found = faults.filter((f) => f.startsWith(`${i}.sql: `));
      assert.ok(
        found.some((f) => f.startsWith(`${i}.sql: ${rule}`)),
        `${sql}: ${found.join('; ') || 'accepted'}`,
      );
    }
  });

  it('are accepted with everything that a live system allows', async () => {
    const inTransaction = `-- Why.
CREATE TABLE fresh (
    id BIGINT PRIMARY KEY,
    n  INT NOT NULL CHECK (n > 0),
    o  BIGINT REFERENCES orders (id)
);
CREATE INDEX idx_fresh_n ON fresh (n);
INSERT INTO fresh VALUES (1, 1, NULL);
UPDATE fresh SET n = 2;
COMMENT ON TABLE fresh IS 'New. Written by: product.';
GRANT SELECT ON fresh TO kaimai_product;
ALTER TABLE orders ADD COLUMN a BIGINT NOT NULL DEFAULT 0, ADD COLUMN at TIMESTAMPTZ NOT NULL DEFAULT now();
ALTER TABLE orders ADD CONSTRAINT orders_a CHECK (a >= 0) NOT VALID;
CREATE OR REPLACE VIEW v AS SELECT 1 AS one;
`;
    const outside = `-- no transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_orders_a ON orders (a);
ALTER TABLE orders VALIDATE CONSTRAINT orders_a;
DROP INDEX CONCURRENTLY IF EXISTS idx_orders_source;
`;
    const files = [
      { name: '998_test.sql', sql: inTransaction },
      { name: '999_test.sql', sql: outside },
    ];
    assert.deepEqual(await faultsOf(files), []);
  });
});
