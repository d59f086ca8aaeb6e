/** One field of a request that broke a rule. `field` is its proto path, such as `items[2].sku_id`. */
export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

export interface ErrorDetails {
  /** Facts a caller can act on; never secrets or internals, since they leave with the reply. */
  readonly metadata?: Readonly<Record<string, string>>;
  readonly violations?: readonly FieldViolation[];
  /** When it is worth trying again; on the wire as google.rpc.RetryInfo and Retry-After. */
  readonly retryAfterMs?: number | undefined;
  /** What lies behind; logged, never sent. */
  readonly cause?: unknown;
}

/** What a proto's `error_reason` enum says of one reason. */
export interface ReasonSpec {
  readonly reason: string;
  /** The proto package that declares the reason. */
  readonly domain: string;
  readonly httpCode: number;
  readonly grpcCode: number;
}

/**
 * The one error type. Its reason is declared in an `error_reason.proto`, whose generated constructors make it, and it
 * survives a gRPC hop whole. Anything else that is thrown leaves a process as INTERNAL with no detail.
 */
export class KaimaiError extends Error {
  override readonly name = 'KaimaiError';
  readonly reason: string;
  readonly domain: string;
  readonly httpCode: number;
  readonly grpcCode: number;
  readonly metadata: Readonly<Record<string, string>>;
  readonly violations: readonly FieldViolation[];
  readonly retryAfterMs: number | undefined;

  constructor(spec: ReasonSpec, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.reason = spec.reason;
    this.domain = spec.domain;
    this.httpCode = spec.httpCode;
    this.grpcCode = spec.grpcCode;
    this.metadata = details.metadata ?? {};
    this.violations = details.violations ?? [];
    this.retryAfterMs = details.retryAfterMs;
  }
}

/** Whether `err` is the error of this reason, made here or received from another service. */
export function hasReason(err: unknown, spec: ReasonSpec): err is KaimaiError {
  return err instanceof KaimaiError && err.reason === spec.reason && err.domain === spec.domain;
}
