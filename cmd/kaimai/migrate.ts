import { join } from 'node:path';
import { Command } from 'commander';
import { loadMigrations, migrate } from '../../internal/data/postgres/migrate.js';
import { projectRoot } from '../../internal/local/project.js';

export const migrationsFolder = join(projectRoot, 'migrations');

export const migrateCommand = new Command('migrate')
  .description('migrate the database to the newest schema')
  .option('--url <url>', 'PostgreSQL to migrate (default: KAIMAI_POSTGRES_URL, or the server of `kaimai up`)')
  .action(async (options: { url?: string }) => {
    const url = options.url ?? process.env.KAIMAI_POSTGRES_URL;
    if (!url) throw new Error('no database: pass --url, set KAIMAI_POSTGRES_URL, or start one with `kaimai up`');
    const applied = await migrate(url, await loadMigrations(migrationsFolder));
    for (const name of applied) console.log(`applied ${name}`);
    if (applied.length === 0) console.log('nothing to do: the schema is up to date');
  });
