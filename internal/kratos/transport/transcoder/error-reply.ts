import { Code, TranscodeError } from './transcode-error.js';
import type { ErrorInfo, ErrorShape } from './types.js';
import type { WireToJson } from './wire-to-json.js';

/** HTTP status by gRPC code, as defined by google.rpc.Code. */
const HTTP_STATUS: readonly number[] = [
  200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
];

/** The HTTP status of the error, or else that of its gRPC code. */
export function httpStatusOf(error: ErrorInfo): number {
  const asked = error.httpStatus;
  return asked !== undefined && isHttpStatus(asked) ? asked : httpStatusOfCode(error.code);
}

/** The HTTP status of a gRPC code. */
export function httpStatusOfCode(code: number): number {
  return HTTP_STATUS[code] ?? 500;
}

/** Whether it is the status of a final reply; 1xx are not. */
export function isHttpStatus(status: number): boolean {
  return Number.isInteger(status) && status >= 200 && status <= 599;
}

/** Writes errors in the configured shape. */
export class ErrorWriter {
  constructor(
    private readonly shape: ErrorShape,
    private readonly codec: WireToJson,
  ) {}

  json(error: ErrorInfo): string {
    return this.shape === 'grpc-gateway' ? this.gatewayJson(error) : reasonJson(error);
  }

  private gatewayJson(error: ErrorInfo): string {
    const details = error.details?.map((detail) => this.detailJson(detail.typeUrl, detail.value)) ?? ownDetails(error);
    return `{"code":${error.code},"message":${JSON.stringify(error.message)},"details":[${details.join(',')}]}`;
  }

  /** A detail that cannot be decoded is written as bytes, so that it does not replace the error. */
  private detailJson(typeUrl: string, value: Uint8Array): string {
    try {
      return this.codec.anyText(typeUrl, value);
    } catch {
      return JSON.stringify({ '@type': typeUrl, value: Buffer.from(value).toString('base64') });
    }
  }
}

function reasonJson(error: ErrorInfo): string {
  return JSON.stringify({
    code: httpStatusOf(error),
    reason: error.reason,
    message: error.message,
    metadata: error.metadata ?? {},
    violations: error.fieldViolations?.length ? error.fieldViolations : undefined,
  });
}

function ownDetails(error: ErrorInfo): string[] {
  const details = [
    JSON.stringify({
      '@type': 'type.googleapis.com/google.rpc.ErrorInfo',
      reason: error.reason,
      domain: '',
      metadata: error.metadata ?? {},
    }),
  ];
  if (error.fieldViolations?.length) {
    details.push(
      JSON.stringify({
        '@type': 'type.googleapis.com/google.rpc.BadRequest',
        fieldViolations: error.fieldViolations,
      }),
    );
  }
  return details;
}

function edgeError(code: number, httpStatus: number, reason: string) {
  return (message: string, httpHeaders: Readonly<Record<string, string>> = {}): TranscodeError =>
    new TranscodeError({ code, httpStatus, reason, message, httpHeaders });
}

/** The errors of the transcoder itself. */
export const edgeErrors = {
  routeNotFound: edgeError(Code.NOT_FOUND, 404, 'ROUTE_NOT_FOUND'),
  methodNotAllowed: edgeError(Code.UNIMPLEMENTED, 405, 'METHOD_NOT_ALLOWED'),
  badRequest: edgeError(Code.INVALID_ARGUMENT, 400, 'BAD_REQUEST'),
  notAcceptable: edgeError(Code.INVALID_ARGUMENT, 406, 'NOT_ACCEPTABLE'),
  requestTimeout: edgeError(Code.DEADLINE_EXCEEDED, 408, 'REQUEST_TIMEOUT'),
  bodyTooLarge: edgeError(Code.RESOURCE_EXHAUSTED, 413, 'BODY_TOO_LARGE'),
  unsupportedMediaType: edgeError(Code.INVALID_ARGUMENT, 415, 'UNSUPPORTED_MEDIA_TYPE'),
  expectationFailed: edgeError(Code.INVALID_ARGUMENT, 417, 'EXPECTATION_FAILED'),
  headersTooLarge: edgeError(Code.RESOURCE_EXHAUSTED, 431, 'HEADERS_TOO_LARGE'),
  clientClosed: edgeError(Code.CANCELLED, 499, 'CLIENT_CLOSED_REQUEST'),
  internal: edgeError(Code.INTERNAL, 500, 'INTERNAL'),
  stopping: edgeError(Code.UNAVAILABLE, 503, 'SERVER_STOPPING'),
  deadlineExceeded: edgeError(Code.DEADLINE_EXCEEDED, 504, 'DEADLINE_EXCEEDED'),
} as const;
