import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadMigrations, outsideStatements } from './migration-file.js';

describe('loadMigrations', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'kaimai-migrations-'));
  });
  afterEach(() => rm(folder, { recursive: true }));
  const load = async (...names: readonly string[]) => {
    for (const name of names) await writeFile(join(folder, name), '');
    return (await loadMigrations(folder)).map((m) => m.version);
  };

  it('loads the files in the order of their numbers and ignores other files', async () => {
    assert.deepEqual(await load('002_b.sql', '001_a.sql', 'README.md'), [1, 2]);
  });

  it('refuses a gap in the numbers', async () => {
    await assert.rejects(load('001_a.sql', '003_c.sql'), /migration 002 is missing before 003_c\.sql/);
  });

  it('refuses numbers that do not start at 001', async () => {
    await assert.rejects(load('002_b.sql'), /migration 001 is missing before 002_b\.sql/);
  });

  it('refuses two files with one number', async () => {
    await assert.rejects(load('001_a.sql', '001_b.sql'), /two migrations have the number 001/);
  });

  it('refuses a file without a number', async () => {
    await assert.rejects(load('tables.sql'), /tables\.sql: the name of a migration must be NNN_what_it_does\.sql/);
  });
});

describe('outsideStatements', () => {
  const of = (sql: string) => outsideStatements({ version: 7, name: '007_x.sql', sql, checksum: '' });

  it('are none for a file that does not begin with the marker', () => {
    assert.equal(of('-- Indexes.\n-- no transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS a ON t (x);'), undefined);
  });

  it('are split at semicolons, without comments, with the names of new indexes', () => {
    const sql = `-- no transaction
-- Why; and more.
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS a
    ON t (x) WHERE y = ';';

DROP INDEX CONCURRENTLY IF EXISTS b;
ALTER TABLE t VALIDATE CONSTRAINT c;
`;
    assert.deepEqual(of(sql), [
      { sql: "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS a\n    ON t (x) WHERE y = ';'", creates: 'a' },
      { sql: 'DROP INDEX CONCURRENTLY IF EXISTS b', creates: undefined },
      { sql: 'ALTER TABLE t VALIDATE CONSTRAINT c', creates: undefined },
    ]);
  });

  for (const sql of [
    'CREATE INDEX CONCURRENTLY a ON t (x);',
    'CREATE INDEX IF NOT EXISTS a ON t (x);',
    'DROP INDEX CONCURRENTLY b;',
    'UPDATE t SET x = x + 1;',
  ]) {
    it(`refuse what cannot be repeated after a run that died: ${sql}`, () => {
      assert.throws(() => of(`-- no transaction\n${sql}\n`), /^Error: 007_x\.sql: outside a transaction only/);
    });
  }
});
