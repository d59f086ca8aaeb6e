/** What listens or ticks. The app starts its servers in order and stops them in reverse. */
export interface Server {
  /** For the log. */
  readonly name: string;
  /** Resolves when it serves. A fault that it cannot live with later on goes to `fatal`, which ends the process. */
  start(fatal: (err: unknown) => void): Promise<void>;
  /**
   * The process is about to stop and serves on until `stop`: callers with open connections are told to go elsewhere.
   * Must not throw.
   */
  drain?(): void;
  /**
   * Takes no new work and finishes what it has. When `deadline` fires it gives up what is left and resolves soon.
   * Called also when `start` failed or did not end. `deadlineAtMs` is when `deadline` fires, in epoch ms.
   */
  stop(deadline: AbortSignal, deadlineAtMs: number): Promise<void>;
}
