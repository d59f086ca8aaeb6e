import { createReadStream } from 'node:fs';
import { Command } from 'commander';
import type { UserRepo } from '../../internal/biz/user/user.js';
import { type ImportedUser, importUsers } from '../../internal/biz/user/user-import.js';
import { Postgres } from '../../internal/data/postgres/postgres.js';
import { PgUserRepo } from '../../internal/data/postgres/user.js';
import { readCsv } from './csv.js';

const COLUMNS = ['user_id', 'username', 'password_md5', 'first_name', 'last_name', 'created_at'] as const;
const NEEDED = ['username', 'password_md5'] as const;
const BATCH = 500;

type Column = (typeof COLUMNS)[number];

export const importUsersCommand = new Command('import-users')
  .description('store the users of another system, with the MD5 of their passwords')
  .argument(
    '<file>',
    `CSV with a header that names ${COLUMNS.join(', ')}; all but ${NEEDED.join(' and ')} may be missing`,
  )
  .option('--url <url>', 'PostgreSQL to write to (default: KAIMAI_POSTGRES_URL, or what `kaimai up` runs)')
  .action(async (file: string, options: { url?: string }) => {
    const url = options.url ?? process.env.KAIMAI_POSTGRES_URL;
    if (!url) throw new Error('which database? Give --url or KAIMAI_POSTGRES_URL, or start one by `kaimai up`');
    const db = new Postgres({
      source: url,
      poolSize: 1,
      role: 'kaimai_product',
      statementTimeoutMs: 60_000,
      connectTimeoutMs: 10_000,
      applicationName: 'kaimai-import-users',
    });
    try {
      const { stored, refused } = await importCsv(new PgUserRepo(db), createReadStream(file, 'utf8'), (record, why) =>
        console.error(`record ${record}: ${why}`),
      );
      console.log(`${stored} stored, ${refused} not stored`);
      if (refused > 0) process.exitCode = 1;
    } finally {
      await db.close();
    }
  });

/** @param onRefused told of each record that is not stored; the one below the header is record 1 */
export async function importCsv(
  users: UserRepo,
  chunks: AsyncIterable<string>,
  onRefused: (record: number, why: string) => void,
): Promise<{ stored: number; refused: number }> {
  let columns: readonly Column[] | undefined;
  let batch: ImportedUser[] = [];
  let done = 0;
  let refused = 0;
  const flush = async () => {
    for (const why of await importUsers(users, batch)) {
      done++;
      if (why === undefined) continue;
      refused++;
      onRefused(done, why);
    }
    batch = [];
  };
  for await (const record of readCsv(chunks)) {
    if (!columns) {
      columns = columnsOf(record);
      continue;
    }
    if (record.length !== columns.length) {
      throw new Error(
        `record ${done + batch.length + 1}: ${record.length} fields where the header has ${columns.length}`,
      );
    }
    batch.push(rowOf(columns, record));
    if (batch.length === BATCH) await flush();
  }
  if (!columns) throw new Error('the file has no header');
  await flush();
  return { stored: done - refused, refused };
}

function columnsOf(header: readonly string[]): readonly Column[] {
  // What spreadsheets put first.
  const names = header.map((name, i) => (i === 0 ? name.replace(/^\ufeff/, '') : name).trim().toLowerCase());
  const unknown = names.filter((name) => !COLUMNS.includes(name as Column));
  const missing = NEEDED.filter((name) => !names.includes(name));
  if (unknown.length > 0) throw new Error(`the header has ${unknown.join(', ')}; known are ${COLUMNS.join(', ')}`);
  if (missing.length > 0) throw new Error(`the header has no ${missing.join(', ')}`);
  if (new Set(names).size < names.length) throw new Error('the header names a column twice');
  return names as Column[];
}

function rowOf(columns: readonly Column[], record: readonly string[]): ImportedUser {
  const of = (column: Column) => record[columns.indexOf(column)] ?? '';
  return {
    userId: of('user_id') || undefined,
    username: of('username'),
    passwordMd5: of('password_md5'),
    firstName: of('first_name'),
    lastName: of('last_name'),
    createdAt: of('created_at') === '' ? undefined : new Date(of('created_at')),
  };
}
