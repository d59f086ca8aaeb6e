import { BadRequest, ErrorInfo, RetryInfo } from '../../../gen/google/rpc/error_details.js';
import { Status } from '../../../gen/google/rpc/status.js';
import { type FieldViolation, KratosError, type ReasonSpec } from './error.js';
import { cancelled, deadlineExceeded, INTERNAL, internal, UNAVAILABLE, unavailable } from './reasons.js';

const TYPE_URL = 'type.googleapis.com/';
/**
 * Peers limit trailers (to 16 KiB or less), and a status that does not fit is lost completely. The violations are sent
 * twice, and base64 adds a third.
 */
const MAX_VIOLATIONS = 32;
const MAX_VIOLATION_BYTES = 4_096;
const MAX_TEXT = 512;
/** The key of the metadata that holds the violations as JSON. */
const VIOLATIONS = 'violations';

/** The reasons that a client knows, by `domain/reason`. */
export type ReasonTable = ReadonlyMap<string, ReasonSpec>;

export function reasonTable(reasons: readonly ReasonSpec[]): ReasonTable {
  return new Map(reasons.map((r) => [`${r.domain}/${r.reason}`, r]));
}

/** gRPC code → HTTP status, as google.rpc.Code documents it. */
const HTTP_OF_GRPC: readonly number[] = [
  200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
];

/** `google.rpc.Status` of an error, for the trailer `grpc-status-details-bin`. */
export function encodeStatus(err: KratosError): Uint8Array {
  return Status.encode({ code: err.grpcCode, message: err.message, details: detailsOf(err) }).finish();
}

/**
 * The metadata of an error as clients get it: with its violations as a JSON array under the key `violations`, because
 * Kratos clients read no other detail than reason and metadata, over gRPC as over HTTP.
 */
export function metadataOf(err: KratosError): Readonly<Record<string, string>> {
  const texts = Object.fromEntries(Object.entries(err.metadata).map(([k, v]) => [k, v.slice(0, MAX_TEXT)]));
  const violations = sentViolations(err);
  return violations.length === 0 ? texts : { ...texts, [VIOLATIONS]: JSON.stringify(violations) };
}

/** The first violations: as many as are sent. */
function sentViolations(err: KratosError): FieldViolation[] {
  const sent: FieldViolation[] = [];
  let bytes = 0;
  for (const v of err.violations.slice(0, MAX_VIOLATIONS)) {
    const short = { field: v.field.slice(0, MAX_TEXT), description: v.description.slice(0, MAX_TEXT) };
    bytes += Buffer.byteLength(JSON.stringify(short));
    if (bytes > MAX_VIOLATION_BYTES) break;
    sent.push(short);
  }
  return sent;
}

/**
 * The `google.protobuf.Any` values of an error: ErrorInfo, BadRequest if it has violations, RetryInfo if it has a
 * delay.
 */
export function detailsOf(err: KratosError): { readonly typeUrl: string; readonly value: Buffer }[] {
  const details = [
    {
      typeUrl: `${TYPE_URL}google.rpc.ErrorInfo`,
      value: ErrorInfo.encode({
        reason: err.reason,
        domain: err.domain,
        metadata: { ...metadataOf(err) },
      }).finish(),
    },
  ];
  const fieldViolations = sentViolations(err);
  if (fieldViolations.length > 0) {
    details.push({
      typeUrl: `${TYPE_URL}google.rpc.BadRequest`,
      value: BadRequest.encode({ fieldViolations }).finish(),
    });
  }
  if (err.retryAfterMs !== undefined) {
    const ms = Math.ceil(err.retryAfterMs);
    const retryDelay = { seconds: BigInt(Math.floor(ms / 1_000)), nanos: (ms % 1_000) * 1_000_000 };
    details.push({ typeUrl: `${TYPE_URL}google.rpc.RetryInfo`, value: RetryInfo.encode({ retryDelay }).finish() });
  }
  return details.map((d) => ({ typeUrl: d.typeUrl, value: Buffer.from(d.value) }));
}

/**
 * The error that another service returned. A reason that is not in `known` keeps its name and gets its HTTP status from
 * the gRPC code; a failure without a reason (no connection, the answer of a proxy) gets one of the framework's.
 */
export function decodeStatus(
  grpcCode: number,
  message: string,
  details: Uint8Array | undefined,
  known: ReasonTable,
): KratosError {
  let info: { reason: string; domain: string; metadata: Record<string, string> } | undefined;
  let violations: FieldViolation[] = [];
  let retryAfterMs: number | undefined;
  try {
    for (const any of details ? Status.decode(details).details : []) {
      if (any.typeUrl === `${TYPE_URL}google.rpc.ErrorInfo`) info = ErrorInfo.decode(any.value);
      if (any.typeUrl === `${TYPE_URL}google.rpc.BadRequest`) violations = BadRequest.decode(any.value).fieldViolations;
      if (any.typeUrl === `${TYPE_URL}google.rpc.RetryInfo`) {
        const { seconds, nanos } = RetryInfo.decode(any.value).retryDelay ?? { seconds: 0n, nanos: 0 };
        retryAfterMs = Number(seconds) * 1_000 + nanos / 1_000_000;
      }
    }
  } catch {
    // Details that cannot be decoded are ignored.
  }
  if (info && info.reason !== '') {
    const spec = known.get(`${info.domain}/${info.reason}`) ?? {
      reason: info.reason,
      domain: info.domain,
      grpcCode,
      httpCode: HTTP_OF_GRPC[grpcCode] ?? 500,
    };
    const { [VIOLATIONS]: _, ...metadata } = info.metadata;
    return new KratosError(spec, message, { metadata, violations, retryAfterMs });
  }
  switch (grpcCode) {
    case 1:
      return cancelled(message);
    case 4:
      return deadlineExceeded(message);
    case UNAVAILABLE.grpcCode:
      return unavailable(message);
    case INTERNAL.grpcCode:
      return internal(message);
    default:
      return new KratosError({ ...INTERNAL, grpcCode, httpCode: HTTP_OF_GRPC[grpcCode] ?? 500 }, message);
  }
}
