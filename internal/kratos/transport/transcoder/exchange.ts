import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { DescMethod } from '@bufbuild/protobuf';
import { checkConnectVersion, connectErrorJson, connectTimeoutOf, isConnect } from './connect.js';
import { Cors } from './cors.js';
import type { Edge } from './edge.js';
import { edgeErrors, httpStatusOf, httpStatusOfCode, isHttpStatus } from './error-reply.js';
import { httpHeadersOf, isHeaderValue, parseGrpcTimeout, type RequestMetadata } from './metadata.js';
import { bodyEncodingOf, negotiate, type ReplyFormat, streamContentType } from './negotiation.js';
import type { BodyEncoding } from './request-binder.js';
import { discardBody, readBody } from './request-body.js';
import type { Route } from './routes.js';
import { send, sendBody } from './send-reply.js';
import { StreamReply } from './stream-reply.js';
import { TranscodeError } from './transcode-error.js';
import type {
  ErrorInfo,
  StreamReply as StreamReplyOfHost,
  TranscoderCall,
  TranscoderReply,
  UnaryReply,
} from './types.js';
import { readHttpBody } from './wire-to-json.js';

const NO_BODY: Uint8Array = new Uint8Array();

/**
 * One request and its reply: route → body → call → reply. `answered` is set by the first reply (of the handler, the
 * client's deadline, or an error); later ones are dropped.
 */
export class Exchange implements TranscoderCall {
  private route!: Route;
  private format: ReplyFormat = 'json';
  private encoding: BodyEncoding = 'json';
  private pathValues: readonly string[] = [];
  private query = '';
  private answered = false;
  private handling = false;
  lastOnConnection = false;
  private continued = false;
  /** Set for requests of Connect clients. */
  private connect = false;
  private controller: AbortController | undefined;
  private abortReason: TranscodeError | undefined;
  private deadlineTimer: NodeJS.Timeout | undefined;
  private stream: StreamReply | undefined;
  private metadataRead: RequestMetadata | undefined;
  rawBody: Uint8Array = NO_BODY;
  deadline: number | undefined;

  constructor(
    readonly edge: Edge,
    readonly req: IncomingMessage,
    readonly res: ServerResponse,
    /** The client waits for `100 Continue` before it sends the body. */
    private readonly expectsContinue: boolean,
  ) {}

  get method(): DescMethod {
    return this.route.method;
  }

  get operation(): string {
    return this.route.operation;
  }

  get path(): string {
    return this.route.path;
  }

  get httpMethod(): string {
    return this.req.method!;
  }

  get metadata(): RequestMetadata {
    this.metadataRead ??= this.edge.metadata.read(this.req);
    return this.metadataRead;
  }

  get peer(): string {
    return peerOf(this.req.socket);
  }

  get signal(): AbortSignal {
    if (this.controller === undefined) {
      this.controller = new AbortController();
      if (this.abortReason !== undefined) this.controller.abort(this.abortReason);
    }
    return this.controller.signal;
  }

  bind(): Uint8Array {
    return this.route.binder.bind({
      pathValues: this.pathValues,
      query: this.query,
      body: this.rawBody,
      encoding: this.encoding,
      contentType: this.req.headers['content-type'] ?? '',
    });
  }

  run(): void {
    this.edge.active.add(this);
    this.res.on('close', () => this.onClose());
    try {
      this.begin();
    } catch (err) {
      this.refuse(err);
    }
  }

  private onClose(): void {
    this.edge.active.delete(this);
    clearTimeout(this.deadlineTimer);
    if (this.res.writableFinished) return;
    const reason = edgeErrors.clientClosed('the client closed the connection');
    if (!this.answered || this.stream !== undefined) this.edge.onEdgeError(reason, this.req, undefined);
    this.answered = true;
    this.abort(reason);
    this.stream?.close();
  }

  /** Aborts the handler's signal and ends an open stream with an error. */
  abort(reason: TranscodeError): void {
    if (this.abortReason !== undefined) return;
    this.abortReason = reason;
    this.controller?.abort(reason);
    this.stream?.fail(reason);
  }

  /** Aborts the work and replies with the reason. */
  cut(reason: TranscodeError): void {
    this.abort(reason);
    this.fail(reason);
  }

  /**
   * Nothing more can be read from the connection: the rest of this request is lost or late, or is followed by data that is
   * not HTTP. A request that has been read completely still gets its reply.
   */
  readingFailed(error: TranscodeError): void {
    this.lastOnConnection = true;
    if (!this.handling) this.refuse(error);
    else if (this.res.headersSent) this.req.socket.destroy();
  }

  get isStream(): boolean {
    return this.stream !== undefined;
  }

  private begin(): void {
    const { req } = this;
    const url = req.url!;
    const mark = url.indexOf('?');
    const path = mark < 0 ? url : url.slice(0, mark);
    const found = this.edge.router.find(req.method!, path.startsWith('/') ? path : originFormOf(path));
    if (found.kind !== 'match') {
      this.noRoute(found.kind === 'wrong-method' ? found.allow : undefined, found.kind === 'bad-path', path);
      return;
    }
    if (mark >= 0) this.query = url.slice(mark + 1);
    this.route = found.match.route;
    this.pathValues = found.match.values;
    this.connect = this.route.isProcedure && isConnect(req.headers);
    if (this.connect) checkConnectVersion(req.headers);
    this.negotiate();
    this.readTimeout();
    const length = req.headers['content-length'];
    if ((length === undefined || length === '0') && req.headers['transfer-encoding'] === undefined) this.dispatch();
    else {
      readBody(req, this.edge.maxBodyBytes, {
        done: (body) => {
          this.rawBody = body;
          this.dispatch();
        },
        refuse: (error) => this.refuse(error),
      });
      // Not before: a request that is refused by its headers must not be invited to send its body.
      if (this.expectsContinue) {
        this.res.writeContinue();
        this.continued = true;
      }
    }
  }

  private noRoute(allow: readonly string[] | undefined, badPath: boolean, path: string): void {
    if (badPath) throw edgeErrors.badRequest('the path has an invalid percent-encoding');
    if (allow === undefined) throw edgeErrors.routeNotFound(`no route ${path}`);
    const list = allow.join(', ');
    if (this.req.method !== 'OPTIONS') {
      throw edgeErrors.methodNotAllowed(`${path} allows ${list}`, { allow: list });
    }
    this.answered = true;
    const headers = [...this.edge.replyHeaders, 'allow', list];
    const { cors } = this.edge;
    if (cors !== undefined) {
      headers.push(...(Cors.isPreflight(this.req) ? cors.preflightHeaders(this.req, allow) : cors.headers(this.req)));
    }
    send(this, 204, headers, undefined);
  }

  private negotiate(): void {
    const { headers } = this.req;
    if (this.connect) {
      // A Connect reply has the codec of its request, whatever `Accept` says.
      this.format = bodyEncodingOf(headers['content-type']) === 'protobuf' ? 'protobuf' : 'json';
    } else if (this.route.httpBody === undefined) {
      const format = negotiate(headers.accept, this.route.offer);
      if (format === undefined) throw edgeErrors.notAcceptable(`cannot reply as ${headers.accept}`);
      this.format = format;
    }
    if (!this.route.binder.takesBody) return;
    if (this.route.binder.bodyIsRaw) {
      this.encoding = 'raw';
      return;
    }
    const encoding = bodyEncodingOf(headers['content-type']);
    if (encoding === undefined) {
      throw edgeErrors.unsupportedMediaType(
        `Content-Type ${headers['content-type']} is not supported; send application/json`,
      );
    }
    this.encoding = encoding;
  }

  private readTimeout(): void {
    const { headers } = this.req;
    const grpc = headers['grpc-timeout'];
    const timeoutMs = this.connect ? connectTimeoutOf(headers) : undefined;
    if (timeoutMs !== undefined) this.startDeadline(timeoutMs);
    else if (typeof grpc === 'string') this.startDeadline(parseGrpcTimeout(grpc));
  }

  private startDeadline(timeoutMs: number): void {
    this.deadline = Date.now() + timeoutMs;
    // setTimeout is limited to 32 bits; a client that waits for weeks needs no timer.
    if (timeoutMs > 0x7fff_ffff) return;
    this.deadlineTimer = setTimeout(() => {
      const reason = edgeErrors.deadlineExceeded('the deadline of the request has passed');
      if (this.handling) this.cut(reason);
      else this.refuse(reason);
    }, timeoutMs);
  }

  private dispatch(): void {
    // The client disconnected or its deadline passed while the body was read.
    if (this.answered) return;
    this.handling = true;
    let reply: Promise<TranscoderReply>;
    try {
      reply = this.edge.handler(this);
    } catch (err) {
      this.fail(err);
      return;
    }
    reply.then(
      (value) => this.reply(value),
      (err: unknown) => this.fail(err),
    );
  }

  private reply(reply: TranscoderReply): void {
    if (this.answered) {
      if (reply.kind === 'stream') abandon(reply);
      return;
    }
    try {
      if (reply.kind === 'stream') this.sendStream(reply);
      else this.sendUnary(reply);
    } catch (err) {
      // The handler's message does not match its method, or a header cannot be sent: an error of the host.
      const error = edgeErrors.internal('the reply could not be encoded');
      this.edge.onEdgeError(error, this.req, err);
      this.answered = this.res.headersSent;
      this.fail(error);
    }
  }

  private sendUnary(reply: UnaryReply): void {
    const headers = this.replyHeaders();
    if (reply.headers !== undefined) {
      const prefix = this.connect ? '' : 'grpc-metadata-';
      headers.push(...httpHeadersOf(reply.headers, prefix, this.edge.exposed));
    }
    if (this.connect && reply.trailers !== undefined) {
      headers.push(...httpHeadersOf(reply.trailers, 'trailer-', new Set()));
    }
    const status = reply.status ?? 200;
    // Checked here, where it can still become an error reply: node:http would throw in the callback of gzip.
    if (!isHttpStatus(status)) throw new RangeError(`${status} is not an HTTP status`);
    const { httpBody } = this.route;
    if (httpBody !== undefined) {
      const { contentType, data } = readHttpBody(httpBody(reply.message));
      this.answered = true;
      sendBody(this, status, headers, mediaType(contentType), data, this.connect ? undefined : reply.trailers);
    } else if (this.format === 'protobuf') {
      this.answered = true;
      const type = this.connect ? 'application/proto' : 'application/x-protobuf';
      sendBody(this, status, headers, type, reply.message, this.connect ? undefined : reply.trailers);
    } else {
      const json = this.route.reply.json(reply.message);
      const text = this.wantsEnvelope() ? this.route.envelope(json) : json;
      this.answered = true;
      sendBody(this, status, headers, 'application/json', text, this.connect ? undefined : reply.trailers);
    }
  }

  private wantsEnvelope(): boolean {
    if (this.connect) return false;
    const asked = this.req.headers[this.edge.envelopeHeader];
    return asked === undefined ? this.edge.envelope : asked === '1' || asked === 'true';
  }

  private replyHeaders(): string[] {
    const headers = [...this.edge.replyHeaders];
    if (this.edge.cors !== undefined) headers.push(...this.edge.cors.headers(this.req));
    return headers;
  }

  private sendStream(reply: StreamReplyOfHost): void {
    const { res, edge, route } = this;
    const headers = this.replyHeaders();
    if (reply.headers !== undefined) headers.push(...httpHeadersOf(reply.headers, 'grpc-metadata-', edge.exposed));
    headers.push('x-accel-buffering', 'no');
    if (!headers.includes('cache-control')) headers.push('cache-control', 'no-store');
    const isSse = this.format === 'sse';
    const { httpBody } = route;
    const begin = (first: Uint8Array | undefined): void => {
      let contentType = isSse ? 'text/event-stream' : streamContentType(this.req.headers.accept);
      if (httpBody !== undefined) {
        contentType = mediaType(first === undefined ? '' : readHttpBody(httpBody(first)).contentType);
      }
      this.answered = true;
      if (edge.draining || this.lastOnConnection) headers.push('connection', 'close');
      res.writeHead(200, [...headers, 'content-type', contentType]);
    };
    if (this.req.method === 'HEAD') {
      abandon(reply);
      begin(undefined);
      res.end();
      return;
    }
    this.stream = new StreamReply({
      res,
      messages: reply.messages,
      begin,
      encode:
        httpBody !== undefined
          ? (message) => readHttpBody(httpBody(message)).data
          : isSse
            ? (message) => `data: {"result":${this.streamedJson(message)}}\n\n`
            : (message) => `{"result":${this.streamedJson(message)}}\n`,
      encodeError: (err) => {
        if (httpBody !== undefined) return undefined;
        const json = `{"error":${edge.errors.json(this.describe(err))}}`;
        return isSse ? `event: error\ndata: ${json}\n\n` : `${json}\n`;
      },
      epilogue: isSse ? 'event: end\ndata: {}\n\n' : '',
      heartbeat: isSse ? ':\n\n' : '',
      heartbeatMs: edge.sseHeartbeatMs,
      writeTimeoutMs: edge.writeTimeoutMs,
      failEarly: (err) => {
        this.stream = undefined;
        this.fail(err);
      },
    });
    if (this.abortReason !== undefined) this.stream.fail(this.abortReason);
    else if (edge.stopping) this.abort(edgeErrors.stopping('the server is stopping'));
    else this.stream.run();
  }

  private streamedJson(message: Uint8Array): string {
    try {
      return this.route.reply.json(message);
    } catch (err) {
      const error = edgeErrors.internal('the reply could not be encoded');
      this.edge.onEdgeError(error, this.req, err);
      throw error;
    }
  }

  private describe(err: unknown): ErrorInfo {
    return err instanceof TranscodeError ? err : this.edge.errorOf(err);
  }

  /** Replies with an error before the handler is called. */
  private refuse(err: unknown): void {
    const error = err instanceof TranscodeError ? err : edgeErrors.internal('internal error');
    this.edge.onEdgeError(error, this.req, err);
    // The client may or may not send its body now, so the next request on the connection could not be recognised.
    if (this.expectsContinue && !this.continued) this.lastOnConnection = true;
    this.fail(error);
    if (!this.req.complete) discardBody(this.req, this.edge.maxBodyBytes);
  }

  private fail(err: unknown): void {
    if (this.answered) return;
    const error = this.describe(err);
    this.answered = true;
    const headers = this.replyHeaders();
    for (const [name, value] of Object.entries(error.httpHeaders ?? {})) {
      if (isHeaderValue(value)) headers.push(name, value);
    }
    headers.push('content-type', 'application/json');
    if (this.connect) {
      send(this, httpStatusOfCode(error.code), headers, connectErrorJson(error));
    } else {
      send(this, httpStatusOf(error), headers, this.edge.errors.json(error));
    }
  }
}

/** Peers by connection, so that the text is made once and not for each request. */
const peers = new WeakMap<Socket, string>();

function peerOf(socket: Socket): string {
  let peer = peers.get(socket);
  if (peer === undefined) {
    const { remoteAddress, remotePort } = socket;
    peer = `${remoteAddress ?? ''}:${remotePort ?? ''}`;
    // A socket that has gone has no address.
    if (remoteAddress !== undefined) peers.set(socket, peer);
  }
  return peer;
}

function mediaType(declared: string): string {
  return declared !== '' && isHeaderValue(declared) ? declared : 'application/octet-stream';
}

/** Stops the source of a stream that is not read. */
function abandon(reply: StreamReplyOfHost): void {
  reply.messages[Symbol.asyncIterator]()
    .return?.()
    .catch(() => undefined);
}

/** The path of a request target, which may be a full URL as for proxies. */
function originFormOf(target: string): string {
  const match = /^https?:\/\/[^/]*(\/.*)?$/i.exec(target);
  return match === null ? target : (match[1] ?? '/');
}
