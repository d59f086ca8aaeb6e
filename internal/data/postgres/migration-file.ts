import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** A file of migrations/: `NNN_name.sql`. Each runs once, in the order of the numbers. */
export interface Migration {
  readonly version: number;
  readonly name: string;
  readonly sql: string;
  /** SHA-256 of the file, hex. */
  readonly checksum: string;
}

/** A statement that runs outside a transaction. */
export interface OutsideStatement {
  readonly sql: string;
  /** The index that it creates. */
  readonly creates: string | undefined;
}

/** The first line of a migration whose statements run one by one, each in a transaction of its own. */
const NO_TRANSACTION = '-- no transaction';

const CREATE_INDEX = /^CREATE (?:UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS (\w+)\s+ON\s/i;
/** The others that may be repeated after a run that died between two statements. */
const REPEATABLE = [/^DROP INDEX CONCURRENTLY IF EXISTS \w+$/i, /^ALTER TABLE (?:ONLY )?\w+ VALIDATE CONSTRAINT \w+$/i];

/** @throws when a file has no number, or the numbers are not 001, 002, … without gap or repetition */
export async function loadMigrations(directory: string): Promise<readonly Migration[]> {
  const files = (await readdir(directory)).filter((f) => f.endsWith('.sql')).sort();
  const migrations: Migration[] = [];
  for (const name of files) {
    const number = /^(\d{3})_/.exec(name)?.[1];
    if (number === undefined) throw new Error(`${name}: the name of a migration must be NNN_what_it_does.sql`);
    const version = Number(number);
    const last = migrations.at(-1)?.version ?? 0;
    if (version === last) throw new Error(`two migrations have the number ${number}`);
    // With a gap, a later migration could take the missing number and would then run out of order.
    if (version !== last + 1) {
      throw new Error(`migration ${String(last + 1).padStart(3, '0')} is missing before ${name}`);
    }
    const sql = await readFile(join(directory, name), 'utf8');
    migrations.push({ version, name, sql, checksum: createHash('sha256').update(sql).digest('hex') });
  }
  return migrations;
}

/**
 * The statements of a migration that runs outside a transaction; undefined: it runs in one.
 * @throws when one of them could not be repeated
 */
export function outsideStatements({ name, sql }: Migration): readonly OutsideStatement[] | undefined {
  const [first = '', ...lines] = sql.split('\n');
  if (first.trim() !== NO_TRANSACTION) return undefined;
  const code = lines.filter((line) => !line.trimStart().startsWith('--')).join('\n');
  const statements = code.split(/;\s*(?:\n|$)/).map((s) => s.trim());
  return statements
    .filter((s) => s !== '')
    .map((statement) => {
      const creates = CREATE_INDEX.exec(statement)?.[1];
      if (creates === undefined && !REPEATABLE.some((form) => form.test(statement))) {
        throw new Error(
          `${name}: outside a transaction only CREATE INDEX CONCURRENTLY IF NOT EXISTS, DROP INDEX CONCURRENTLY IF EXISTS and VALIDATE CONSTRAINT may run, because they can be repeated: ${statement}`,
        );
      }
      return { sql: statement, creates };
    });
}
