import type { EventEmitter } from 'node:events';
import { constants, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import { Server as NetServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Server as TlsServer } from 'node:tls';
import type { DescMethod } from '@bufbuild/protobuf';
import type {
  ServerDuplexStream,
  ServerReadableStream,
  ServerUnaryCall,
  ServerWritableStream,
  UntypedHandleCall,
} from '@grpc/grpc-js';
import {
  Server as GrpcServer,
  type handleUnaryCall,
  Metadata,
  ServerCredentials,
  type StatusObject,
} from '@grpc/grpc-js';
import type { Server } from '../../app/server.js';
import { deadlineExceeded } from '../../errors/reasons.js';
import { encodeStatus } from '../../errors/rpc-status.js';
import { Call, type Next } from '../call.js';
import type { ConnectionLimit } from '../connection-limit.js';
import type { Dispatcher } from '../dispatcher.js';
import type { ServerTls } from '../tls/server-tls.js';
import { toKratosError } from '../to-kratos-error.js';
import { cancellationOf } from './cancellation.js';
import { serveUnaryFast } from './fast-unary.js';
import { oversizeReason, STATUS_DETAILS } from './oversize.js';
import { RequestReader } from './request-reader.js';
import { limitSessionAge } from './session-age.js';

export interface GrpcOptions {
  /** host:port; port 0 picks a free one. */
  readonly addr: string;
  readonly maxMessageBytes: number;
  /** How long a stream waits for its caller to read before it is reset. Default 30 s. */
  readonly writeTimeoutMs?: number;
  /** Serves unary calls beside grpc-js, with less CPU time. Default false. */
  readonly fastUnary?: boolean;
  /** Absent: no TLS. */
  readonly tls?: ServerTls | undefined;
  /** Absent: any number of connections. */
  readonly connections?: ConnectionLimit | undefined;
  /** Age at which a connection is told to leave, up to a tenth less. Default: never. */
  readonly maxConnectionAgeMs?: number;
}

const WRITE_TIMEOUT_MS = 30_000;

/** How long a stopping listener waits for its clients to disconnect; the same as for the JSON listener. */
const DRAIN_MS = 500;
const DRAIN_POLL_MS = 20;

type Surface =
  | ServerUnaryCall<Buffer, Buffer>
  | ServerReadableStream<Buffer, Buffer>
  | ServerWritableStream<Buffer, Buffer>
  | ServerDuplexStream<Buffer, Buffer>;

/**
 * The gRPC listener. Methods are registered with plain bytes: decoding happens inside the chain, so that its failures
 * are answered, logged and counted like any other.
 */
export class GrpcListener implements Server {
  readonly name = 'grpc';
  private readonly server: GrpcServer;
  private boundPort: number | undefined;

  constructor(
    private readonly options: GrpcOptions,
    private readonly dispatcher: Dispatcher,
  ) {
    this.server = new GrpcServer({
      'grpc.max_receive_message_length': options.maxMessageBytes,
      interceptors: [oversizeReason(options.maxMessageBytes)],
      'grpc.max_concurrent_streams': 1_000,
      // Its statistics are not served, and collecting them costs time on each call.
      'grpc.enable_channelz': 0,
      // Detects peers that vanished silently, and aborts their calls.
      'grpc.keepalive_time_ms': 30_000,
      'grpc.keepalive_timeout_ms': 10_000,
    });
    const bytes = (b: Buffer) => b;
    for (const method of dispatcher.methods) {
      const path = `/${method.parent.typeName}/${method.name}`;
      const timeoutMs = options.writeTimeoutMs ?? WRITE_TIMEOUT_MS;
      const [handler, type] = adapt(method, path, dispatcher.operation(path), timeoutMs);
      this.server.register(path, handler, bytes, bytes, type);
    }
    if (options.fastUnary === true) serveUnaryFast(this.server, dispatcher, options.maxMessageBytes);
  }

  /** The port it listens on, once started. */
  get port(): number {
    if (this.boundPort === undefined) throw new Error('grpc is not listening yet');
    return this.boundPort;
  }

  get openConnections(): number {
    return this.sessions().length;
  }

  start(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.server.bindAsync(this.options.addr, credentialsOf(this.options.tls), (err, port) => {
        if (err) {
          reject(new Error(`grpc cannot listen on ${this.options.addr}: ${err.message}`));
          return;
        }
        this.boundPort = port;
        for (const listener of this.listeners()) {
          this.options.connections?.attach(listener);
          if (this.options.maxConnectionAgeMs) limitSessionAge(listener, this.options.maxConnectionAgeMs);
        }
        this.options.tls?.watch((context) => {
          for (const listener of this.listeners()) (listener as TlsServer).setSecureContext(context);
        });
        resolve();
      });
    });
  }

  /**
   * Sends GOAWAY on every connection. Calls in progress are served. A call that crosses the frame is not: its client
   * learns that from the last stream id of the frame, and retries on another connection.
   */
  drain(): void {
    for (const session of this.sessions()) {
      if (!session.destroyed && !session.closed) session.goaway();
    }
    this.dispatcher.askStreamsToEnd();
  }

  /**
   * Sends GOAWAY first and closes connections once their clients have disconnected, or a moment later. grpc-js would
   * close them immediately: a call in transit would meet a closed socket, and its client would see a reset, perhaps
   * before the GOAWAY, without knowing whether the call was served.
   */
  async stop(deadline: AbortSignal): Promise<void> {
    this.options.tls?.close();
    // The close of net, because that of http2 closes the sessions too.
    for (const listener of this.listeners()) NetServer.prototype.close.call(listener);
    this.drain();
    this.dispatcher.endStreams();
    await this.noSessions(deadline);
    await new Promise<void>((resolve) => {
      const force = () => {
        this.server.forceShutdown();
        resolve();
      };
      if (deadline.aborted) {
        force();
        return;
      }
      deadline.addEventListener('abort', force, { once: true });
      this.server.tryShutdown(() => {
        deadline.removeEventListener('abort', force);
        resolve();
      });
    });
  }

  private async noSessions(deadline: AbortSignal): Promise<void> {
    const endsAtMs = performance.now() + DRAIN_MS;
    while (this.sessions().length > 0 && performance.now() < endsAtMs && !deadline.aborted) await sleep(DRAIN_POLL_MS);
  }

  private sessions(): ServerHttp2Session[] {
    return [...this.internals().values()].flatMap(({ sessions }) => [...sessions]);
  }

  private listeners(): NetServer[] {
    return [...this.internals().keys()];
  }

  /** grpc-js does not expose its HTTP/2 sessions, and sends no GOAWAY before the one with which it closes. */
  private internals(): ReadonlyMap<NetServer, { readonly sessions: ReadonlySet<ServerHttp2Session> }> {
    return (this.server as unknown as Internals).http2Servers;
  }
}

interface Internals {
  readonly http2Servers: ReadonlyMap<NetServer, { readonly sessions: ReadonlySet<ServerHttp2Session> }>;
}

class GrpcCall extends Call {
  private headersSent = false;
  private isAnswered = false;

  constructor(
    method: DescMethod,
    operation: string,
    readonly surface: Surface,
  ) {
    super(method, operation, 'grpc', toEpochMs(surface.getDeadline()));
    (surface as EventEmitter).on('cancelled', () => {
      // grpc-js emits this at the end of every stream, and creating an unused error costs more than the call.
      if (this.isAnswered) return;
      this.abort(cancellationOf(this.deadlineAtMs));
    });
  }

  override metadata(name: string): string | Uint8Array | undefined {
    return this.surface.metadata.get(name)[0];
  }

  override metadataAll(name: string): readonly (string | Uint8Array)[] {
    return this.surface.metadata.get(name);
  }

  override get peer(): string {
    return this.surface.getPeer();
  }

  override get rawBody(): undefined {
    return undefined;
  }

  override bind(): Uint8Array {
    if ('request' in this.surface) return this.surface.request;
    throw new Error(`${this.operation} takes a stream`);
  }

  override requests(): AsyncIterable<Uint8Array> {
    if ('request' in this.surface) throw new Error(`${this.operation} takes one request`);
    return new RequestReader(this.surface as ServerReadableStream<Buffer, Buffer>);
  }

  /** The call was answered: a later cancellation means nothing. */
  answered(): void {
    this.isAnswered = true;
  }

  /** Called before the first message: the handler of a stream sets its headers until then. */
  sendHeaders(): void {
    const given = this.headersToSend;
    if (given === undefined || given.size === 0 || this.headersSent) return;
    this.headersSent = true;
    const headers = new Metadata();
    for (const [name, value] of given) headers.set(name, value);
    this.surface.sendMetadata(headers);
  }
}

/** The grpc-js handler of a method, and its kind of call in the terms of grpc-js. */
function adapt(method: DescMethod, path: string, run: Next, writeTimeoutMs: number): [UntypedHandleCall, string] {
  switch (method.methodKind) {
    case 'unary':
      return [unary(method, path, run), 'unary'];
    case 'server_streaming':
      return [
        (surface: ServerWritableStream<Buffer, Buffer>) =>
          void stream(new GrpcCall(method, path, surface), run, writeTimeoutMs),
        'serverStream',
      ];
    case 'bidi_streaming':
      return [
        (surface: ServerDuplexStream<Buffer, Buffer>) =>
          void stream(new GrpcCall(method, path, surface), run, writeTimeoutMs),
        'bidi',
      ];
    case 'client_streaming':
      return [unary(method, path, run) as unknown as UntypedHandleCall, 'clientStream'];
  }
}

function unary(method: DescMethod, path: string, run: Next): handleUnaryCall<Buffer, Buffer> {
  return (surface, callback) => {
    const call = new GrpcCall(method, path, surface);
    run(call).then(
      (reply) => {
        if (reply.kind !== 'unary') {
          callback(failure(new Error(`${call.operation} returned a stream`)));
          return;
        }
        call.sendHeaders();
        call.answered();
        callback(null, asBuffer(reply.message));
      },
      (err: unknown) => {
        call.answered();
        callback(failure(err));
      },
    );
  };
}

async function stream(call: GrpcCall, run: Next, writeTimeoutMs: number): Promise<void> {
  const surface = call.surface as ServerWritableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>;
  try {
    const reply = await run(call);
    if (reply.kind !== 'stream') throw new Error(`${call.operation} returned a single message`);
    for await (const message of reply.messages) {
      if (call.aborted) break;
      call.sendHeaders();
      if (!surface.write(asBuffer(message))) await writable(surface, call, writeTimeoutMs);
    }
    if (call.aborted) throw call.aborted;
    call.sendHeaders();
    surface.end();
  } catch (err) {
    surface.emit('error', failure(err));
  }
}

/** Resolves when the peer can receive more, or the call is aborted, as it is when the peer reads nothing for too long. */
function writable(
  surface: ServerWritableStream<Buffer, Buffer> | ServerDuplexStream<Buffer, Buffer>,
  call: Call,
  timeoutMs: number,
): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      call.abort(deadlineExceeded(`the caller has read nothing for ${timeoutMs} ms`));
      // A status would wait behind the messages that are not read.
      (surface as unknown as SurfaceInternals).call.stream.close(constants.NGHTTP2_CANCEL);
    }, timeoutMs);
    const proceed = () => {
      clearTimeout(timer);
      surface.off('drain', proceed);
      resolve();
    };
    surface.once('drain', proceed);
    call.onAbort(proceed);
  });
}

/** grpc-js does not expose the HTTP/2 stream of a call, and cannot reset it. */
interface SurfaceInternals {
  readonly call: { readonly stream: ServerHttp2Stream };
}

function credentialsOf(tls: ServerTls | undefined): ServerCredentials {
  if (!tls) return ServerCredentials.createInsecure();
  const { cert, key, ca } = tls.context;
  const pair = { cert_chain: cert, private_key: key };
  return ServerCredentials.createSsl(ca ?? null, [pair], tls.requiresClientCertificate);
}

function failure(err: unknown): StatusObject & Error {
  const known = toKratosError(err);
  const metadata = new Metadata();
  metadata.set(STATUS_DETAILS, asBuffer(encodeStatus(known)));
  return Object.assign(new Error(known.message), { code: known.grpcCode, details: known.message, metadata });
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function toEpochMs(deadline: Date | number): number | undefined {
  const ms = typeof deadline === 'number' ? deadline : deadline.getTime();
  return Number.isFinite(ms) ? ms : undefined;
}
