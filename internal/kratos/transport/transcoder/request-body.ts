import type { IncomingMessage } from 'node:http';
import { gunzip } from 'node:zlib';
import { edgeErrors } from './error-reply.js';
import type { TranscodeError } from './transcode-error.js';

export interface BodyOutcome {
  readonly done: (body: Uint8Array) => void;
  /** The body is too large, or its encoding is invalid. */
  readonly refuse: (error: TranscodeError) => void;
}

/** How much of a rejected body is read and discarded, as a multiple of the largest body size. */
const DISCARDED_BODIES = 64;

/**
 * Reads a whole body and decompresses gzip. If the client disconnects meanwhile, neither callback is called.
 * @throws TranscodeError if the headers alone show that the body cannot be accepted
 */
export function readBody(req: IncomingMessage, maxBytes: number, outcome: BodyOutcome): void {
  const coding = req.headers['content-encoding']?.trim().toLowerCase();
  const isGzip = coding === 'gzip' || coding === 'x-gzip';
  if (coding !== undefined && !isGzip && coding !== 'identity') {
    throw edgeErrors.unsupportedMediaType(`Content-Encoding ${coding} is not supported`, {
      'accept-encoding': 'gzip, identity',
    });
  }
  if (Number(req.headers['content-length'] ?? '0') > maxBytes) throw tooLarge(maxBytes);
  const chunks: Buffer[] = [];
  let length = 0;
  const onData = (chunk: Buffer): void => {
    length += chunk.length;
    if (length <= maxBytes) {
      chunks.push(chunk);
      return;
    }
    req.off('data', onData);
    req.off('end', onEnd);
    outcome.refuse(tooLarge(maxBytes));
  };
  const onEnd = (): void => {
    const body = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
    if (isGzip) unzip(body, maxBytes, outcome);
    else outcome.done(body);
  };
  req.on('data', onData);
  req.on('end', onEnd);
}

function unzip(body: Buffer, maxBytes: number, outcome: BodyOutcome): void {
  gunzip(body, { maxOutputLength: maxBytes }, (err, bytes) => {
    if (err === null) outcome.done(bytes);
    else if ((err as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') outcome.refuse(tooLarge(maxBytes));
    else outcome.refuse(edgeErrors.badRequest('the body is not valid gzip'));
  });
}

function tooLarge(maxBytes: number): TranscodeError {
  return edgeErrors.bodyTooLarge(`the body is larger than ${maxBytes} bytes`);
}

/**
 * Reads and discards, within bounds: closing immediately would reset the connection before the client has read the
 * error.
 */
export function discardBody(req: IncomingMessage, maxBytes: number): void {
  let left = maxBytes * DISCARDED_BODIES;
  req.on('data', (chunk: Buffer) => {
    left -= chunk.length;
    if (left < 0) req.socket.destroy();
  });
}
