import type { IncomingMessage, ServerResponse } from 'node:http';
import { gzip } from 'node:zlib';
import type { Edge } from './edge.js';
import { edgeErrors } from './error-reply.js';
import { httpHeadersOf } from './metadata.js';
import { acceptsGzip } from './negotiation.js';
import type { MetadataEntries } from './types.js';

/** Where a reply goes to. */
export interface ReplyTarget {
  readonly edge: Edge;
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  /** Nothing more can be read from the connection. */
  readonly lastOnConnection: boolean;
}

/** Sends a body, compressed where that is worth it and the client accepts it. */
export function sendBody(
  to: ReplyTarget,
  status: number,
  headers: string[],
  contentType: string,
  body: string | Uint8Array,
  trailing?: MetadataEntries,
): void {
  headers.push('content-type', contentType);
  if (body.length < to.edge.gzipMinBytes) {
    send(to, status, headers, body, trailing);
    return;
  }
  headers.push('vary', 'Accept-Encoding');
  if (to.req.method === 'HEAD' || !acceptsGzip(to.req.headers['accept-encoding'] as string | undefined)) {
    send(to, status, headers, body, trailing);
    return;
  }
  gzip(body, (err, zipped) => {
    if (err !== null) {
      send(to, status, headers, body, trailing);
      return;
    }
    headers.push('content-encoding', 'gzip');
    send(to, status, headers, zipped, trailing);
  });
}

/** @param trailing sent as HTTP trailers to clients that accept them */
export function send(
  to: ReplyTarget,
  status: number,
  headers: string[],
  body: string | Uint8Array | undefined,
  trailing?: MetadataEntries,
): void {
  const { res } = to;
  if (res.destroyed) return;
  if (to.edge.draining || to.lastOnConnection) headers.push('connection', 'close');
  const trailers = trailersOf(to, trailing);
  if (trailers !== undefined) {
    headers.push('trailer', trailers.map(([name]) => name).join(', '));
  } else if (body !== undefined) {
    const length = typeof body === 'string' ? Buffer.byteLength(body) : body.length;
    headers.push('content-length', String(length));
  }
  res.writeHead(status, headers);
  if (trailers !== undefined) {
    res.write(body);
    res.addTrailers(trailers);
    res.end();
  } else {
    res.end(body);
  }
  if (res.writableLength > 0) watchSlowClient(to);
}

/** node:http disconnects a client that reads nothing for `writeTimeoutMs`; this reports it. */
function watchSlowClient({ res, req, edge }: ReplyTarget): void {
  const { socket } = req;
  const onTimeout = (): void => {
    edge.onEdgeError(edgeErrors.clientClosed('the client does not read its reply'), req, undefined);
  };
  socket.setTimeout(edge.writeTimeoutMs);
  socket.once('timeout', onTimeout);
  res.once('finish', () => socket.off('timeout', onTimeout));
}

function trailersOf({ req }: ReplyTarget, trailing: MetadataEntries | undefined): [string, string][] | undefined {
  if (trailing === undefined || req.method === 'HEAD') return undefined;
  // Trailers need chunked encoding, which HTTP/1.0 does not have.
  if (req.httpVersion === '1.0') return undefined;
  if (!/(?:^|,)\s*trailers\s*(?:;|,|$)/i.test(String(req.headers.te ?? ''))) return undefined;
  const flat = httpHeadersOf(trailing, 'grpc-trailer-', new Set());
  const trailers: [string, string][] = [];
  for (let i = 0; i + 1 < flat.length; i += 2) trailers.push([flat[i]!, flat[i + 1]!]);
  return trailers.length === 0 ? undefined : trailers;
}
