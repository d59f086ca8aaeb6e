import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, Server as NetServer, type Socket } from 'node:net';
import { Cors } from './cors.js';
import type { Edge } from './edge.js';
import { DEFAULT_ENVELOPE_HEADER } from './envelope.js';
import { ErrorWriter, edgeErrors } from './error-reply.js';
import { Exchange } from './exchange.js';
import { MetadataRules } from './metadata.js';
import { OpenSockets } from './open-sockets.js';
import { compileRoutes } from './routes.js';
import type { TranscodeError } from './transcode-error.js';
import type { ListenAddress, TranscoderLimits, TranscoderOptions, TranscoderServer } from './types.js';

export { TranscodeError } from './transcode-error.js';
export type * from './types.js';

/** How often a stopping server checks for idle connections and its deadline. */
const SWEEP_MS = 25;

const DEFAULT_LIMITS: Required<TranscoderLimits> = {
  maxBodyBytes: 65_536,
  maxHeaderBytes: 16_384,
  maxJsonDepth: 32,
  maxQueryParameters: 256,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 30_000,
  keepAliveTimeoutMs: 65_000,
  writeTimeoutMs: 30_000,
  drainIdleMs: 500,
  maxRequestsPerConnection: 0,
  maxConnectionAgeMs: 0,
  maxConnections: 0,
};

/**
 * Creates a JSON server from the `google.api.http` rules in the registry. Compiles all routes, but does not listen yet.
 * @throws Error if a rule cannot be served, or two rules match the same requests
 */
export function createTranscoderServer(options: TranscoderOptions): TranscoderServer {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const table = compileRoutes({
    registry: options.registry,
    services: options.services,
    strictQuery: options.strictQuery ?? false,
    strictBody: options.strictBody ?? false,
    fullyDecodeReservedExpansion: options.fullyDecodeReservedExpansion ?? false,
    maxJsonDepth: limits.maxJsonDepth,
    maxQueryParameters: limits.maxQueryParameters,
    procedures: options.procedures ?? false,
    ownEnvelopes: options.ownEnvelopes ?? {},
  });
  const edge: Edge = {
    router: table.router,
    handler: options.handler,
    errorOf: options.errorOf,
    errors: new ErrorWriter(options.errorShape ?? 'reason', table.codec),
    onEdgeError: options.onEdgeError ?? (() => undefined),
    metadata: new MetadataRules(options.forwardHeaders ?? []),
    exposed: new Set(options.exposeHeaders?.map((name) => name.toLowerCase())),
    cors: options.cors === undefined ? undefined : new Cors(options.cors),
    envelope: options.envelope ?? false,
    envelopeHeader: (options.envelopeHeader ?? DEFAULT_ENVELOPE_HEADER).toLowerCase(),
    replyHeaders: Object.entries({ 'x-content-type-options': 'nosniff', ...options.replyHeaders }).flatMap(
      ([name, value]) => [name.toLowerCase(), value],
    ),
    gzipMinBytes: options.gzipMinBytes === false ? Number.POSITIVE_INFINITY : (options.gzipMinBytes ?? 1024),
    maxBodyBytes: limits.maxBodyBytes,
    writeTimeoutMs: limits.writeTimeoutMs,
    sseHeartbeatMs: options.sseHeartbeatMs ?? 15_000,
    draining: false,
    stopping: false,
    active: new Set(),
  };
  const { plainRoutes } = options;
  const sockets = new OpenSockets(limits.maxConnectionAgeMs);
  const answer = (req: IncomingMessage, res: ServerResponse, expectsContinue: boolean): void => {
    const last = edge.draining || sockets.isOld(req.socket);
    if (plainRoutes) {
      if (last) res.setHeader('connection', 'close');
      if (plainRoutes(req, res)) return;
      // Without need it would keep Node from announcing that it closes the connection.
      if (last) res.removeHeader('connection');
    }
    const exchange = new Exchange(edge, req, res, expectsContinue);
    exchange.lastOnConnection = last;
    exchange.run();
  };
  const listener = (req: IncomingMessage, res: ServerResponse): void => answer(req, res, false);

  const settings = {
    maxHeaderSize: limits.maxHeaderBytes,
    headersTimeout: limits.headersTimeoutMs,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    connectionsCheckingInterval: Math.max(50, Math.min(limits.headersTimeoutMs, limits.requestTimeoutMs) / 4),
  };
  const server = options.tls
    ? createTlsServer({ ...settings, ...options.tls }, listener)
    : createServer(settings, listener);
  sockets.watch(server);
  server.maxRequestsPerSocket = limits.maxRequestsPerConnection;
  if (limits.maxConnections > 0) server.maxConnections = limits.maxConnections;
  server.on('checkContinue', (req: IncomingMessage, res: ServerResponse) => {
    answer(req, res, true);
  });
  server.on('checkExpectation', (_req: IncomingMessage, res: ServerResponse) => {
    const error = edgeErrors.expectationFailed('the Expect header is not supported');
    res.writeHead(417, { 'content-type': 'application/json' }).end(edge.errors.json(error));
  });
  server.on('clientError', (err: NodeJS.ErrnoException, socket: Socket) => {
    refuseConnection(edge, err, socket);
  });

  return {
    routes: table.routes,
    listener,
    server,
    get openConnections() {
      return sockets.count;
    },
    start: (address) => listen(server, address),
    drain: () => {
      edge.draining = true;
    },
    stop: (deadline) => stop(edge, server, deadline, limits.drainIdleMs),
  };
}

type HttpServer = ReturnType<typeof createServer> | ReturnType<typeof createTlsServer>;

function listen(server: HttpServer, address: ListenAddress): Promise<{ host: string; port: number }> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ port: address.port, ...(address.host === undefined ? {} : { host: address.host }) }, () => {
      server.off('error', reject);
      const bound = server.address() as AddressInfo;
      resolve({ host: bound.address, port: bound.port });
    });
  });
}

/** Replies to data that is not a complete request: invalid, too slow, or with headers that are too large. */
function refuseConnection(edge: Edge, err: NodeJS.ErrnoException, socket: Socket): void {
  if (err.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const error = connectionError(err);
  const busy = [...edge.active].filter((exchange) => exchange.req.socket === socket);
  if (busy.length > 0) {
    for (const exchange of busy) exchange.readingFailed(error);
    return;
  }
  edge.onEdgeError(error, undefined, err);
  const body = edge.errors.json(error);
  socket.end(
    `HTTP/1.1 ${error.httpStatus} ${error.reason}\r\nContent-Type: application/json\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
    () => socket.destroy(),
  );
}

function connectionError(err: NodeJS.ErrnoException): TranscodeError {
  switch (err.code) {
    case 'HPE_HEADER_OVERFLOW':
      return edgeErrors.headersTooLarge('the request line and headers are too large');
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return edgeErrors.bodyTooLarge('chunk extensions are too large');
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return edgeErrors.requestTimeout('the request did not arrive in time');
    default:
      return edgeErrors.badRequest('not an HTTP request');
  }
}

async function stop(edge: Edge, server: HttpServer, deadline: number, drainIdleMs: number): Promise<void> {
  if (!server.listening) return;
  edge.draining = true;
  edge.stopping = true;
  // close() of net, not of http: the latter closes idle connections immediately, and loses requests that are on their
  // way.
  const closed = new Promise<void>((resolve) => {
    NetServer.prototype.close.call(server, () => resolve());
  });
  const reason = edgeErrors.stopping('the server is stopping');
  // A stream may never end; its client reconnects to another server.
  for (const exchange of edge.active) if (exchange.isStream) exchange.abort(reason);
  const drainEnds = Math.min(Date.now() + drainIdleMs, deadline);
  // Repeatedly, because busy connections become idle one by one.
  const sweep = setInterval(() => {
    const now = Date.now();
    if (now >= deadline) cut(edge, server, reason);
    else if (now >= drainEnds) server.closeIdleConnections();
  }, SWEEP_MS);
  await closed;
  clearInterval(sweep);
  // Stops the timers of http.Server.
  server.close();
}

function cut(edge: Edge, server: HttpServer, reason: TranscodeError): void {
  for (const exchange of edge.active) exchange.cut(reason);
  server.closeAllConnections();
}
