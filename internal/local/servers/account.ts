import { chmodSync, chownSync, lstatSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

export interface Account {
  uid: number;
  gid: number;
}

export const isRoot = process.getuid?.() === 0;

/**
 * The account that a server runs under when the launcher runs as root: the one its package made. PostgreSQL refuses to
 * run as root, and the others do not need it. For other users: undefined, which means "as the current user".
 */
export function serverAccount(name: string): Account | undefined {
  if (!isRoot) return undefined;
  for (const line of readFileSync('/etc/passwd', 'utf8').split('\n')) {
    const [user, , uid, gid] = line.split(':');
    if (user === name) return { uid: Number(uid), gid: Number(gid) };
  }
  return undefined;
}

/** A private directory for one server, owned by its account. @throws if another account created it */
export function makePrivateDirectory(path: string, account: Account | undefined): void {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const found = lstatSync(path);
  const allowed = [process.getuid?.(), account?.uid];
  if (!found.isDirectory() || !allowed.includes(found.uid)) {
    throw new Error(`${path} belongs to another user (uid ${found.uid})`);
  }
  if (account && found.uid !== account.uid) chownSync(path, account.uid, account.gid);
  chmodSync(path, 0o700);
}

/** Whether every account may pass through the directory and all its parents. */
export function isTraversable(path: string): boolean {
  for (let current = path; ; current = dirname(current)) {
    const found = statSync(current, { throwIfNoEntry: false });
    if (found && (found.mode & 0o001) === 0) return false;
    if (current === dirname(current)) return true;
  }
}
