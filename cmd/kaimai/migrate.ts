import { join } from 'node:path';
import { Command } from 'commander';
import { loadMigrations, migrate } from '../../internal/data/postgres/migrate.js';
import { projectRoot } from '../../internal/local/project.js';
import { databaseUrl } from './environment.js';

export const migrationsFolder = join(projectRoot, 'migrations');

export const migrateCommand = new Command('migrate')
  .description('migrate the database to the newest schema')
  .option('--url <url>', 'PostgreSQL to migrate (default: KAIMAI_POSTGRES_URL, else the database of `kaimai up`)')
  .action(async (options: { url?: string }) => {
    const applied = await migrate(databaseUrl(options.url), await loadMigrations(migrationsFolder));
    for (const name of applied) console.log(`applied ${name}`);
    if (applied.length === 0) console.log('the schema is up to date');
  });
