import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { withPassword } from '../conf/url-password.js';
import type { ServiceName } from './services.js';

/**
 * Lets each service log in to a private PostgreSQL as itself, a member of no role but its own. The passwords are new each time.
 *
 * @param ownerUrl the superuser's, of a migrated database
 * @returns the URL of each service
 */
export async function createLogins(
  ownerUrl: string,
  names: readonly ServiceName[],
): Promise<ReadonlyMap<ServiceName, string>> {
  const client = new pg.Client({ connectionString: ownerUrl, connectionTimeoutMillis: 10_000 });
  await client.connect();
  try {
    const urls = new Map<ServiceName, string>();
    for (const name of names) {
      const password = randomBytes(18).toString('hex');
      const { rowCount } = await client.query('SELECT FROM pg_roles WHERE rolname = $1', [name]);
      await client.query(`${rowCount === 0 ? 'CREATE' : 'ALTER'} ROLE ${name} LOGIN PASSWORD '${password}'`);
      await client.query(`GRANT kaimai_${name} TO ${name}`);
      const url = new URL(ownerUrl);
      url.username = name;
      urls.set(name, withPassword(url.href, password));
    }
    return urls;
  } finally {
    await client.end();
  }
}
