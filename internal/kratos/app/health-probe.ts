/** A server that this process depends on. */
export abstract class HealthProbe {
  /** "postgres", "redis", … */
  abstract readonly name: string;
  /** Whether the process can serve nothing of use without it. */
  abstract readonly critical: boolean;
  /** Resolves when it answers; bounded by `signal`. */
  abstract check(signal: AbortSignal): Promise<void>;
}
