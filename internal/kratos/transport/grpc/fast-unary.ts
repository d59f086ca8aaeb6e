import type { Http2Session, IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import type { DescMethod } from '@bufbuild/protobuf';
import { type Server as GrpcServer, Metadata, status } from '@grpc/grpc-js';
import { deadlineExceeded } from '../../errors/reasons.js';
import { encodeStatus } from '../../errors/rpc-status.js';
import { Call, type Next, type Reply } from '../call.js';
import type { Dispatcher } from '../dispatcher.js';
import { toKratosError } from '../to-kratos-error.js';
import { cancellationOf } from './cancellation.js';
import { STATUS_DETAILS } from './oversize.js';

/** The version of grpc-js whose `Server` this file was written against. */
export const GRPC_JS_VERSION = '1.14.7';

/** What this file uses of the inside of a grpc-js server. */
interface Internals {
  /** Does all the work of a call: checks its headers, finds its handler, runs it and answers. */
  _streamHandler: StreamHandler | undefined;
  /** Keeps the connection from being closed as idle. */
  onStreamOpened(stream: ServerHttp2Stream): void;
}

type StreamHandler = (
  interceptors: readonly unknown[],
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
) => void;

/**
 * Serves the plain unary calls of a grpc-js server without grpc-js: one message in one piece, not compressed. Its layers
 * for streams, interceptors and metadata are most of the CPU time of such a call. Everything else is left to grpc-js:
 * other kinds of methods, health and reflection, compressed, fragmented and oversized messages, wrong content types,
 * unknown methods, and the connections themselves.
 *
 * @throws Error if the server has not the inside that this was written for
 */
export function serveUnaryFast(server: GrpcServer, dispatcher: Dispatcher, maxMessageBytes: number): void {
  const internals = server as unknown as Internals;
  const standard = internals._streamHandler;
  if (typeof standard !== 'function' || typeof internals.onStreamOpened !== 'function') {
    throw new Error(`server.grpc.fast_unary needs @grpc/grpc-js ${GRPC_JS_VERSION}; set it to false`);
  }
  const methods = new Map<string | undefined, Method>();
  for (const desc of dispatcher.methods) {
    if (desc.methodKind !== 'unary' || PROTOCOL_SERVICES.test(desc.parent.typeName)) continue;
    const path = `/${desc.parent.typeName}/${desc.name}`;
    methods.set(path, { desc, path, run: dispatcher.operation(path), maxMessageBytes });
  }
  internals._streamHandler = (interceptors, stream, headers) => {
    const proceed = () => standard.call(server, interceptors, stream, headers);
    const method = methods.get(headers[':path'] as string | undefined);
    const timeoutMs = method && interceptors.length === 0 ? timeoutOf(headers) : undefined;
    if (method === undefined || timeoutMs === undefined) {
      proceed();
      return;
    }
    internals.onStreamOpened(stream);
    new FastCall(method, stream as FastStream, headers, timeoutMs, proceed).listen();
  };
}

interface Method {
  readonly desc: DescMethod;
  readonly path: string;
  readonly run: Next;
  readonly maxMessageBytes: number;
}

/** Health is asked by other programs in other ways than Kaimai's clients, and rarely. */
const PROTOCOL_SERVICES = /^grpc\./;

const MAX_TIMER_MS = 0x7fff_ffff;
const TIMEOUT = /^(\d{1,8})([HMSmun])$/;
const UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };

/** The timeout of a plain call in ms, Infinity if it has none; undefined if the call is for grpc-js. */
function timeoutOf(headers: IncomingHttpHeaders): number | undefined {
  const encoding = headers['grpc-encoding'];
  if (encoding !== undefined && encoding !== 'identity') return undefined;
  if (headers['content-type']?.startsWith('application/grpc') !== true) return undefined;
  const timeout = headers['grpc-timeout'];
  if (timeout === undefined) return Number.POSITIVE_INFINITY;
  const [, count, unit] = TIMEOUT.exec(timeout as string) ?? [];
  if (count === undefined || unit === undefined) return undefined;
  const ms = Math.trunc(Number(count) * UNIT_MS[unit]!);
  return ms <= MAX_TIMER_MS ? ms : undefined;
}

/** `grpc-timeout` has at most eight digits. */
function timeoutText(ms: number): string {
  return ms < 1e8 ? `${Math.max(0, Math.trunc(ms))}m` : `${Math.trunc(ms / 1_000)}S`;
}

/** Headers of the protocol, which grpc-js does not pass to handlers either. */
const HIDDEN = new Set([
  'grpc-timeout',
  'grpc-encoding',
  'grpc-accept-encoding',
  'accept-encoding',
  'te',
  'content-type',
]);
const LEGAL_VALUE = /^[ -~]*$/;
const NO_VALUES: readonly string[] = [];

const PREFIX_BYTES = 5;
const CONTENT_TYPE = ['content-type', 'application/grpc+proto'] as const;
const REPLY_HEADERS = {
  ':status': '200',
  'content-type': 'application/grpc+proto',
  'grpc-accept-encoding': 'identity,deflate,gzip',
  'grpc-encoding': 'identity',
};
const REPLY_HEADER_LIST: readonly string[] = Object.entries(REPLY_HEADERS).flat();
const REPLY_OPTIONS = { waitForTrailers: true };
const STATUS_OPTIONS = { endStream: true };
const OK_TRAILERS = { 'grpc-status': 0, 'grpc-message': 'OK' };

/** The listeners of a stream are shared by all calls and find theirs here: closures for each call cost time. */
const CALL = Symbol('call');

interface FastStream extends ServerHttp2Stream {
  [CALL]: FastCall;
}

class FastCall extends Call {
  private message: Buffer | undefined;
  /** Whether a reply or a status was sent, or can no longer be. */
  private isOver = false;
  private readonly timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly target: Method,
    private readonly stream: FastStream,
    private readonly headers: IncomingHttpHeaders,
    timeoutMs: number,
    private readonly proceed: () => void,
  ) {
    super(
      target.desc,
      target.path,
      'grpc',
      timeoutMs === Number.POSITIVE_INFINITY ? undefined : Date.now() + timeoutMs,
    );
    if (this.deadlineAtMs !== undefined) this.timer = setTimeout(expire, timeoutMs, this);
  }

  listen(): void {
    const { stream } = this;
    stream[CALL] = this;
    stream.on('error', ignore);
    stream.on('aborted', onAborted);
    stream.on('end', onEnd);
    stream.on('data', onData);
  }

  override metadata(name: string): string | Uint8Array | undefined {
    return this.metadataAll(name)[0];
  }

  override metadataAll(name: string): readonly (string | Uint8Array)[] {
    const value = this.headers[name];
    if (value === undefined || HIDDEN.has(name) || name.startsWith(':')) return NO_VALUES;
    if (typeof value === 'string' && !name.endsWith('-bin') && LEGAL_VALUE.test(value)) return [value];
    return Metadata.fromHttp2Headers({ [name]: value }).get(name);
  }

  override get peer(): string {
    return peerOf(this.stream.session);
  }

  override get rawBody(): undefined {
    return undefined;
  }

  override bind(): Uint8Array {
    return this.message!.subarray(PREFIX_BYTES);
  }

  override requests(): AsyncIterable<Uint8Array> {
    throw new Error(`${this.operation} takes one request`);
  }

  received(chunk: Buffer): void {
    if (this.isOver) return;
    if (this.message === undefined && this.isMessage(chunk)) this.message = chunk;
    else this.handOver(chunk);
  }

  requestEnded(): void {
    if (this.isOver) return;
    const { path, run } = this.target;
    if (this.message === undefined) {
      // The words of grpc-js.
      const text = `Received no request message for server streaming method ${path}`;
      this.sendStatus(status.UNIMPLEMENTED, text);
      return;
    }
    try {
      run(this).then(
        (reply) => this.reply(reply),
        (err: unknown) => this.fail(err),
      );
    } catch (err) {
      this.fail(err);
    }
  }

  /** The caller reset the stream, or the connection is gone. */
  streamAborted(): void {
    if (this.isOver) return;
    this.end();
    this.abort(cancellationOf(this.deadlineAtMs));
  }

  deadlinePassed(): void {
    if (this.isOver) return;
    this.sendStatus(status.DEADLINE_EXCEEDED, 'Deadline exceeded');
    this.abort(deadlineExceeded('the deadline has passed'));
  }

  private isMessage(chunk: Buffer): boolean {
    const bytes = chunk.length - PREFIX_BYTES;
    return bytes >= 0 && bytes <= this.target.maxMessageBytes && chunk.readUInt32BE(1) === bytes;
  }

  /** Leaves the call to grpc-js as if it had just begun: its handler has not been called yet. */
  private handOver(chunk: Buffer): void {
    const { stream, headers, deadlineAtMs } = this;
    this.end();
    stream.off('aborted', onAborted);
    stream.off('end', onEnd);
    stream.off('data', onData);
    stream.pause();
    stream.unshift(this.message ? Buffer.concat([this.message, chunk]) : chunk);
    if (deadlineAtMs !== undefined) headers['grpc-timeout'] = timeoutText(deadlineAtMs - Date.now());
    this.proceed();
  }

  private end(): void {
    this.isOver = true;
    clearTimeout(this.timer);
  }

  private get isGone(): boolean {
    return this.stream.destroyed || this.stream.closed;
  }

  private reply(reply: Reply): void {
    if (this.isOver) return;
    if (reply.kind !== 'unary') {
      this.fail(new Error(`${this.operation} returned a stream`));
      return;
    }
    let headers: OutgoingHttpHeaders | string[];
    try {
      headers = withReplyHeaders(this.headersToSend);
    } catch (err) {
      this.fail(err);
      return;
    }
    this.end();
    if (this.isGone) return;
    const { stream } = this;
    stream.respond(headers, REPLY_OPTIONS);
    stream.on('wantTrailers', sendOk);
    stream.end(frame(reply.message));
  }

  private fail(err: unknown): void {
    if (this.isOver) return;
    const known = toKratosError(err);
    this.sendStatus(known.grpcCode, known.message, encodeStatus(known));
  }

  private sendStatus(code: number, text: string, details?: Uint8Array): void {
    this.end();
    if (this.isGone) return;
    const headers = ['grpc-status', String(code), 'grpc-message', encodeURI(text), ...CONTENT_TYPE];
    if (details) headers.push(STATUS_DETAILS, Buffer.from(details).toString('base64'));
    this.stream.respond(headers, STATUS_OPTIONS);
  }
}

function ignore(): void {
  // A stream that failed is also aborted, which ends the call.
}

function onData(this: FastStream, chunk: Buffer): void {
  this[CALL].received(chunk);
}

function onEnd(this: FastStream): void {
  this[CALL].requestEnded();
}

function onAborted(this: FastStream): void {
  this[CALL].streamAborted();
}

function expire(call: FastCall): void {
  call.deadlinePassed();
}

function sendOk(this: ServerHttp2Stream): void {
  this.sendTrailers(OK_TRAILERS);
}

/** A list for the usual reply, which Node handles faster; it adds the date to it. */
function withReplyHeaders(given: ReadonlyMap<string, string> | undefined): OutgoingHttpHeaders | string[] {
  if (given === undefined || given.size === 0) return REPLY_HEADER_LIST.slice();
  const metadata = new Metadata();
  for (const [name, value] of given) metadata.set(name, value);
  return { ...REPLY_HEADERS, ...metadata.toHttp2Headers() };
}

function frame(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
  framed[0] = 0;
  framed.writeUInt32BE(message.length, 1);
  framed.set(message, PREFIX_BYTES);
  return framed;
}

/** Addresses by connection: the socket of an HTTP/2 session is a proxy, whose properties cost time. */
const peers = new WeakMap<Http2Session, string>();

function peerOf(session: Http2Session | undefined): string {
  if (session === undefined) return 'unknown';
  let peer = peers.get(session);
  if (peer === undefined) {
    const { remoteAddress, remotePort } = session.socket;
    peer =
      remoteAddress === undefined
        ? 'unknown'
        : remotePort === undefined
          ? remoteAddress
          : `${remoteAddress}:${remotePort}`;
    peers.set(session, peer);
  }
  return peer;
}
