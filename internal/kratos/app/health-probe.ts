/** A server that this process depends on. */
export abstract class HealthProbe {
  /** "postgres", "redis", … */
  abstract readonly name: string;
  /** Whether the process is useless without it. */
  abstract readonly critical: boolean;
  /** Resolves when the server answers. Must end soon after `signal` is aborted. */
  abstract check(signal: AbortSignal): Promise<void>;
}
