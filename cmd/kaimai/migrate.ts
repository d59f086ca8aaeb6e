import { join } from 'node:path';
import { Command } from 'commander';
import { migrate } from '../../internal/data/postgres/migrate.js';
import { loadMigrations } from '../../internal/data/postgres/migration-file.js';
import { projectRoot } from '../../internal/local/project.js';
import { databaseUrl } from './environment.js';

export const migrationsFolder = join(projectRoot, 'migrations');

export const migrateCommand = new Command('migrate')
  .description('migrate the database to the newest schema, also while the services run; prints each step')
  .option('--url <url>', 'PostgreSQL to migrate (default: KAIMAI_POSTGRES_URL, else the database of `kaimai up`)')
  .action(async (options: { url?: string }) => {
    const report = (line: string) => console.log(line);
    const applied = await migrate(databaseUrl(options.url), await loadMigrations(migrationsFolder), { report });
    if (applied.length === 0) console.log('the schema is up to date');
  });
