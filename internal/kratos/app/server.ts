/** A part of a process with a start and a stop. The app starts its servers in order and stops them in reverse. */
export interface Server {
  /** For the log. */
  readonly name: string;
  /**
   * Resolves when the server serves. A later error that it cannot recover from goes to `fatal`, which ends the process.
   */
  start(fatal: (err: unknown) => void): Promise<void>;
  /**
   * The process is about to stop: asks callers to open their next connections elsewhere. Serves on until `stop`. Must
   * not throw.
   */
  drain?(): void;
  /**
   * Takes no new work and finishes what it has. When `deadline` is aborted, it abandons the rest and resolves soon.
   * Also called if `start` failed or did not end. `deadlineAtMs` is the time of the deadline, in epoch ms.
   */
  stop(deadline: AbortSignal, deadlineAtMs: number): Promise<void>;
}
