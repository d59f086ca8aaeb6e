import { hostname } from 'node:os';

/** Identifies one of the worker processes of a replica. */
export class Worker {
  constructor(
    /** Name of the process, such as "product". */
    readonly process: string,
    /** From 0. */
    readonly index: number,
    readonly count: number,
    /** Name of the replica. */
    readonly replica: string = hostname(),
  ) {}

  /** The same after a restart. Two replicas on one host may share it. */
  get name(): string {
    return `${this.process}-${this.replica}-${this.index}`;
  }
}
