import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { projectRoot } from './project.js';
import type { ServiceName } from './services.js';

const NAMES = ['product', 'resource'] as const satisfies ServiceName[];

/** The configuration file of a service: that of the folder, or the one in `configs/` if the folder has none for it. */
export function configFile(name: ServiceName, folder?: string): string {
  const own = folder === undefined ? undefined : join(resolve(folder), `${name}.yaml`);
  return own !== undefined && existsSync(own) ? own : join(projectRoot, `configs/${name}.yaml`);
}

/** @throws Error if the folder has a configuration file of no service */
export function checkConfigFolder(folder: string): void {
  if (NAMES.some((name) => existsSync(join(folder, `${name}.yaml`)))) return;
  throw new Error(`${resolve(folder)} has neither ${NAMES.map((name) => `${name}.yaml`).join(' nor ')}`);
}
