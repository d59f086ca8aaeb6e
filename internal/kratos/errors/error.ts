/** A rule that a field of a request breaks. `field` is its proto path, such as `items[2].sku_id`. */
export interface FieldViolation {
  readonly field: string;
  readonly description: string;
}

export interface ErrorDetails {
  /** Facts that a caller can act on. They are sent with the reply, so never secrets or internals. */
  readonly metadata?: Readonly<Record<string, string>>;
  readonly violations?: readonly FieldViolation[];
  /** When a retry makes sense; sent as google.rpc.RetryInfo and as Retry-After. */
  readonly retryAfterMs?: number | undefined;
  /** Logged, never sent. */
  readonly cause?: unknown;
}

/** A reason as an `error_reason.proto` declares it. */
export interface ReasonSpec {
  readonly reason: string;
  /** The proto package that declares the reason. */
  readonly domain: string;
  readonly httpCode: number;
  readonly grpcCode: number;
}

/**
 * The one error type of all layers. Its reason is declared in an `error_reason.proto`; generated constructors make it,
 * and a gRPC client receives it complete. Anything else that is thrown is answered with INTERNAL and no detail.
 */
export class KratosError extends Error {
  override readonly name = 'KratosError';
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

/** Whether `err` has this reason, whether it was made here or received from another service. */
export function hasReason(err: unknown, spec: ReasonSpec): err is KratosError {
  return err instanceof KratosError && err.reason === spec.reason && err.domain === spec.domain;
}
