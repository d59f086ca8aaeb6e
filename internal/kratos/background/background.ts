import type { Server } from '../app/server.js';
import type { Worker } from '../app/worker.js';
import type { BackgroundMeter } from './background-meter.js';

/** A server that may count its rounds. */
export interface BackgroundServer extends Server {
  /** Called before the start. */
  observe?(meter: BackgroundMeter): void;
}

/** A server that works without callers: a consumer, a relay, a sweeper. */
export class Background {
  constructor(
    /** The role that turns it on. */
    readonly role: string,
    readonly server: BackgroundServer,
    /** Whether every worker process of a replica runs it; otherwise only the first does. */
    readonly everyWorker: boolean,
  ) {}

  /** @param roles those of this replica: see `takesRole` */
  runsIn(roles: readonly string[], worker: Worker): boolean {
    return takesRole(roles, this.role) && (this.everyWorker || worker.index === 0);
  }
}

/** Whether a replica with these roles plays `role`; a replica without any plays all. */
export function takesRole(roles: readonly string[], role: string): boolean {
  return roles.length === 0 || roles.includes(role);
}
