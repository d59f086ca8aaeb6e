import { type ErrorDetails, KratosError, type ReasonSpec } from './error.js';

/**
 * The reasons that the framework itself gives. Their package declares them once more for callers in other languages,
 * as `common.v1.ErrorReason`; a test holds the two equal.
 */
const DOMAIN = 'common.v1';

export const INTERNAL: ReasonSpec = { reason: 'INTERNAL', domain: DOMAIN, httpCode: 500, grpcCode: 13 };
export const INVALID_ARGUMENT: ReasonSpec = { reason: 'INVALID_ARGUMENT', domain: DOMAIN, httpCode: 400, grpcCode: 3 };
export const UNAUTHENTICATED: ReasonSpec = { reason: 'UNAUTHENTICATED', domain: DOMAIN, httpCode: 401, grpcCode: 16 };
export const RATE_LIMITED: ReasonSpec = { reason: 'RATE_LIMITED', domain: DOMAIN, httpCode: 429, grpcCode: 8 };
export const UNAVAILABLE: ReasonSpec = { reason: 'UNAVAILABLE', domain: DOMAIN, httpCode: 503, grpcCode: 14 };
export const DEADLINE_EXCEEDED: ReasonSpec = {
  reason: 'DEADLINE_EXCEEDED',
  domain: DOMAIN,
  httpCode: 504,
  grpcCode: 4,
};
export const CANCELLED: ReasonSpec = { reason: 'CANCELLED', domain: DOMAIN, httpCode: 499, grpcCode: 1 };
/** Only over gRPC: the JSON listener answers 413. */
export const MESSAGE_TOO_LARGE: ReasonSpec = {
  reason: 'MESSAGE_TOO_LARGE',
  domain: DOMAIN,
  httpCode: 429,
  grpcCode: 8,
};

/** Every reason of the framework. */
export const FRAMEWORK_REASONS: readonly ReasonSpec[] = [
  INTERNAL,
  INVALID_ARGUMENT,
  UNAUTHENTICATED,
  RATE_LIMITED,
  UNAVAILABLE,
  DEADLINE_EXCEEDED,
  CANCELLED,
  MESSAGE_TOO_LARGE,
];

/** A fault of the service. The cause is for its log, not for the reply. */
export const internal = constructorOf(INTERNAL);
/** A field has a value that is not allowed; the violations name it. */
export const invalidArgument = constructorOf(INVALID_ARGUMENT);
/** The call has no valid identity. */
export const unauthenticated = constructorOf(UNAUTHENTICATED);
/** The process is overloaded; try again later. */
export const rateLimited = constructorOf(RATE_LIMITED);
/** A server that this call needs cannot be reached; try again later. */
export const unavailable = constructorOf(UNAVAILABLE);
/** The deadline of the call has passed. */
export const deadlineExceeded = constructorOf(DEADLINE_EXCEEDED);
/** The caller cancelled the call or disconnected. */
export const cancelled = constructorOf(CANCELLED);
/** The request is larger than the server accepts. */
export const messageTooLarge = constructorOf(MESSAGE_TOO_LARGE);

function constructorOf(spec: ReasonSpec): (message: string, details?: ErrorDetails) => KratosError {
  return (message, details) => new KratosError(spec, message, details);
}
