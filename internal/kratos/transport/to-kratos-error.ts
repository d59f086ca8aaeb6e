import { KratosError } from '../errors/error.js';
import { CANCELLED, DEADLINE_EXCEEDED, INTERNAL, INVALID_ARGUMENT, internal, UNAVAILABLE } from '../errors/reasons.js';
import { TranscodeError } from './transcoder/transcoder.js';

const BY_CODE = new Map([CANCELLED, DEADLINE_EXCEEDED, INVALID_ARGUMENT, UNAVAILABLE].map((r) => [r.grpcCode, r]));

/** Converts any thrown value to the one error type. Unexpected errors become INTERNAL; their cause is only logged. */
export function toKratosError(err: unknown): KratosError {
  if (err instanceof KratosError) return err;
  if (err instanceof TranscodeError) {
    const details = { violations: err.fieldViolations, metadata: err.metadata };
    const spec = BY_CODE.get(err.code);
    return new KratosError(
      spec ?? { reason: err.reason, domain: INTERNAL.domain, httpCode: err.httpStatus, grpcCode: err.code },
      err.message,
      details,
    );
  }
  // An aborted wait fails with the reason for which the call was aborted.
  if (err instanceof Error && err.name === 'AbortError' && err.cause instanceof KratosError) return err.cause;
  return internal('internal error', { cause: err });
}
