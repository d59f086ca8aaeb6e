import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The project's folder, where package.json, configs/ and migrations/ are, seen from the sources and from dist/ alike. */
export const projectRoot = findRoot(dirname(fileURLToPath(import.meta.url)));

/** What the local launcher keeps: data, logs, addresses. */
export const runFolder = process.env.KAIMAI_RUN_DIR ?? join(projectRoot, '.run');

function findRoot(directory: string): string {
  if (existsSync(join(directory, 'package.json'))) return directory;
  const parent = dirname(directory);
  if (parent === directory) throw new Error('package.json not found above the program');
  return findRoot(parent);
}
