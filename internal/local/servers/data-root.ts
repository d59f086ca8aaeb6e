import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { runFolder } from '../project.js';
import { isRoot, isTraversable } from './account.js';

/**
 * The folder for the data of the local servers: `.run/servers` of the project. Root starts servers under accounts of
 * their own, and where those cannot get to the project (under /root, say) a folder in /var/tmp stands in.
 */
export function localDataRoot(): string {
  const inProject = join(runFolder, 'servers');
  if (!isRoot || isTraversable(inProject)) return inProject;
  const elsewhere = `/var/tmp/kaimai-${createHash('sha256').update(runFolder).digest('hex').slice(0, 10)}`;
  mkdirSync(elsewhere, { recursive: true, mode: 0o711 });
  const found = lstatSync(elsewhere);
  if (!found.isDirectory() || found.uid !== 0) throw new Error(`${elsewhere} belongs to another user`);
  return elsewhere;
}
