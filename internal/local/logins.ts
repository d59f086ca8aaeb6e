import { randomBytes } from 'node:crypto';
import { withLogin } from '../conf/postgres-url.js';
import { connectClient } from '../data/postgres/hosts.js';
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
  const client = await connectClient(ownerUrl);
  try {
    const urls = new Map<ServiceName, string>();
    for (const name of names) {
      const password = randomBytes(18).toString('hex');
      const { rowCount } = await client.query('SELECT FROM pg_roles WHERE rolname = $1', [name]);
      await client.query(`${rowCount === 0 ? 'CREATE' : 'ALTER'} ROLE ${name} LOGIN PASSWORD '${password}'`);
      await client.query(`GRANT kaimai_${name} TO ${name}`);
      urls.set(name, withLogin(ownerUrl, { user: name, password }));
    }
    return urls;
  } finally {
    await client.end();
  }
}
