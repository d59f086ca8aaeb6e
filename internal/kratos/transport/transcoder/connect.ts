import type { IncomingHttpHeaders } from 'node:http';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { invalidArgument } from './transcode-error.js';
import type { ErrorDetail, ErrorInfo } from './types.js';

// The unary form of the Connect protocol: https://connectrpc.com/docs/protocol

const VERSION_HEADER = 'connect-protocol-version';

/** Names of the gRPC codes in Connect's error JSON, by code. */
const CODE_NAMES: readonly string[] = [
  ...['ok', 'canceled', 'unknown', 'invalid_argument', 'deadline_exceeded', 'not_found', 'already_exists'],
  ...['permission_denied', 'resource_exhausted', 'failed_precondition', 'aborted', 'out_of_range', 'unimplemented'],
  ...['internal', 'unavailable', 'data_loss', 'unauthenticated'],
];

/** Whether a Connect client sent the request; a plain JSON client does not send the header. */
export function isConnect(headers: IncomingHttpHeaders): boolean {
  return headers[VERSION_HEADER] !== undefined;
}

/** @throws TranscodeError for any version but 1 */
export function checkConnectVersion(headers: IncomingHttpHeaders): void {
  if (headers[VERSION_HEADER] !== '1') throw invalidArgument('', 'header Connect-Protocol-Version must be 1');
}

/**
 * `Connect-Timeout-Ms` in milliseconds; undefined if absent.
 * @throws TranscodeError if it is not a number of at most 10 digits
 */
export function connectTimeoutOf(headers: IncomingHttpHeaders): number | undefined {
  const text = headers['connect-timeout-ms'];
  if (text === undefined) return undefined;
  if (typeof text !== 'string' || !/^[0-9]{1,10}$/.test(text)) {
    throw invalidArgument('', 'header Connect-Timeout-Ms is not a number of milliseconds');
  }
  return Number(text);
}

/** Connect's error JSON: `{"code":"not_found","message":…,"details":[{"type":…,"value":…}]}`. */
export function connectErrorJson(error: ErrorInfo): string {
  const details = error.details ?? detailsOf(error);
  return JSON.stringify({
    code: CODE_NAMES[error.code] ?? 'unknown',
    message: error.message,
    details: details.map(({ typeUrl, value }) => ({
      type: typeUrl.slice(typeUrl.lastIndexOf('/') + 1),
      // Connect leaves the padding out.
      value: Buffer.from(value).toString('base64').replace(/=+$/, ''),
    })),
  });
}

/** google.rpc.ErrorInfo and google.rpc.BadRequest of an error that comes without details. */
function detailsOf({ reason, metadata = {}, fieldViolations = [] }: ErrorInfo): ErrorDetail[] {
  const info = new BinaryWriter().tag(1, WireType.LengthDelimited).string(reason);
  for (const [key, value] of Object.entries(metadata)) {
    info.tag(3, WireType.LengthDelimited).fork();
    info.tag(1, WireType.LengthDelimited).string(key).tag(2, WireType.LengthDelimited).string(value).join();
  }
  const details = [{ typeUrl: 'google.rpc.ErrorInfo', value: info.finish() }];
  if (fieldViolations.length === 0) return details;
  const badRequest = new BinaryWriter();
  for (const { field, description } of fieldViolations) {
    badRequest.tag(1, WireType.LengthDelimited).fork();
    badRequest.tag(1, WireType.LengthDelimited).string(field);
    badRequest.tag(2, WireType.LengthDelimited).string(description).join();
  }
  return [...details, { typeUrl: 'google.rpc.BadRequest', value: badRequest.finish() }];
}
