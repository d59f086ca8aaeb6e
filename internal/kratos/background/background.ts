import type { Config } from '../../conf/config.js';
import type { Server } from '../app/server.js';
import type { Worker } from '../app/worker.js';

/** A server that works by itself, without callers: a consumer, a relay, a sweeper. */
export class Background {
  constructor(
    /** The word in `server.roles` that turns it on. */
    readonly role: string,
    readonly server: Server,
    /** Whether several of them share the work of one replica; else the first worker alone runs it. */
    readonly everyWorker: boolean,
  ) {}

  runsIn(config: Config, worker: Worker): boolean {
    return takesRole(config, this.role) && (this.everyWorker || worker.index === 0);
  }
}

/** Whether this replica plays a role; without `server.roles` it plays all. */
export function takesRole(config: Config, role: string): boolean {
  return config.server.roles.length === 0 || config.server.roles.includes(role);
}
