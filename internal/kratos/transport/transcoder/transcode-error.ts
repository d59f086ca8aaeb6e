import type { ErrorInfo, FieldViolation } from './types.js';

/** The gRPC status codes of the transcoder's own errors. */
export const Code = {
  CANCELLED: 1,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  RESOURCE_EXHAUSTED: 8,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
} as const;

/** An error of the transcoder. Its message is meant for the client. */
export class TranscodeError extends Error implements ErrorInfo {
  override readonly name = 'TranscodeError';
  readonly code: number;
  readonly httpStatus: number;
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly fieldViolations: readonly FieldViolation[];
  readonly httpHeaders: Readonly<Record<string, string>>;

  constructor(info: ErrorInfo & { readonly httpStatus: number }) {
    super(info.message);
    this.code = info.code;
    this.httpStatus = info.httpStatus;
    this.reason = info.reason;
    this.metadata = info.metadata ?? {};
    this.fieldViolations = info.fieldViolations ?? [];
    this.httpHeaders = info.httpHeaders ?? {};
  }
}

/** INVALID_ARGUMENT for a request message that cannot be built; names the field, or is empty for the whole request. */
export function invalidArgument(field: string, description: string): TranscodeError {
  return new TranscodeError({
    code: Code.INVALID_ARGUMENT,
    httpStatus: 400,
    reason: 'INVALID_ARGUMENT',
    message: field === '' ? description : `${field}: ${description}`,
    fieldViolations: [{ field, description }],
  });
}
