import { createReadStream } from 'node:fs';
import { pipeline, Readable } from 'node:stream';
import { Command } from 'commander';
import { parse } from 'csv-parse';
import type { UserRepo } from '../../internal/biz/user/user.js';
import { type ImportedUser, importUsers } from '../../internal/biz/user/user-import.js';
import { Postgres } from '../../internal/data/postgres/postgres.js';
import { PgUserRepo } from '../../internal/data/postgres/user.js';
import { databasePooler, databaseUrl } from './environment.js';

const COLUMNS = ['user_id', 'username', 'password_md5', 'first_name', 'last_name', 'created_at'] as const;
const REQUIRED = ['username', 'password_md5'] as const;
const BATCH_SIZE = 500;

type Column = (typeof COLUMNS)[number];

export const importUsersCommand = new Command('import-users')
  .description('import the users of another system with the MD5 hashes of their passwords')
  .argument('<file>', `CSV file whose header names ${COLUMNS.join(', ')}; only ${REQUIRED.join(' and ')} are required`)
  .option('--url <url>', 'PostgreSQL to write to (default: KAIMAI_POSTGRES_URL, else the database of `kaimai up`)')
  .action(async (file: string, options: { url?: string }) => {
    const db = new Postgres({
      source: databaseUrl(options.url),
      pooler: databasePooler(),
      poolSize: 1,
      role: 'kaimai_product',
      statementTimeoutMs: 60_000,
      connectTimeoutMs: 10_000,
      applicationName: 'kaimai-import-users',
    });
    try {
      const input = createReadStream(file, 'utf8');
      const { stored, rejected } = await importCsv(new PgUserRepo(db), input, (record, reason) =>
        console.error(`record ${record}: ${reason}`),
      );
      console.log(`${stored} imported, ${rejected} rejected`);
      if (rejected > 0) process.exitCode = 1;
    } finally {
      await db.close();
    }
  });

/**
 * @param onRejected called for each record that is not imported; the first record below the header is number 1
 * @throws on malformed CSV or a header that it does not understand; earlier batches stay imported
 */
export async function importCsv(
  users: UserRepo,
  chunks: AsyncIterable<string>,
  onRejected: (record: number, reason: string) => void,
): Promise<{ stored: number; rejected: number }> {
  let hasHeader = false;
  let batch: ImportedUser[] = [];
  let done = 0;
  let rejected = 0;
  const flush = async () => {
    for (const reason of await importUsers(users, batch)) {
      done++;
      if (reason === undefined) continue;
      rejected++;
      onRejected(done, reason);
    }
    batch = [];
  };
  const parser = parse({
    bom: true,
    skip_empty_lines: true,
    columns: (header: string[]) => {
      hasHeader = true;
      return [...columnsOf(header)];
    },
  });
  // Errors arrive through the iteration below.
  pipeline(Readable.from(chunks), parser, () => {});
  for await (const record of parser as AsyncIterable<Partial<Record<Column, string>>>) {
    batch.push(toUser(record));
    if (batch.length === BATCH_SIZE) await flush();
  }
  if (!hasHeader) throw new Error('the file has no header');
  await flush();
  return { stored: done - rejected, rejected };
}

function columnsOf(header: readonly string[]): readonly Column[] {
  const names = header.map((name) => name.trim().toLowerCase());
  const unknown = names.filter((name) => !COLUMNS.includes(name as Column));
  const missing = REQUIRED.filter((name) => !names.includes(name));
  if (unknown.length > 0) throw new Error(`unknown columns: ${unknown.join(', ')}; allowed are ${COLUMNS.join(', ')}`);
  if (missing.length > 0) throw new Error(`missing columns: ${missing.join(', ')}`);
  if (new Set(names).size < names.length) throw new Error('the header names a column twice');
  return names as Column[];
}

function toUser(record: Partial<Record<Column, string>>): ImportedUser {
  return {
    userId: record.user_id || undefined,
    username: record.username ?? '',
    passwordMd5: record.password_md5 ?? '',
    firstName: record.first_name ?? '',
    lastName: record.last_name ?? '',
    createdAt: record.created_at ? new Date(record.created_at) : undefined,
  };
}
