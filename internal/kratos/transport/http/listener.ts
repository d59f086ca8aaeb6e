import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Server as TlsServer } from 'node:tls';
import type { FileRegistry } from '@bufbuild/protobuf';
import { parseAddress } from '../../app/address.js';
import type { Server } from '../../app/server.js';
import { errorText } from '../../errors/error-text.js';
import { cancelled } from '../../errors/reasons.js';
import { detailsOf, metadataOf } from '../../errors/rpc-status.js';
import type { Logger } from '../../log/logger.js';
import { Call } from '../call.js';
import type { ConnectionLimit } from '../connection-limit.js';
import type { Dispatcher } from '../dispatcher.js';
import type { ServerTls } from '../tls/server-tls.js';
import { toKratosError } from '../to-kratos-error.js';
import type { OwnEnvelopes } from '../transcoder/envelope.js';
import {
  createTranscoderServer,
  type ErrorInfo,
  TranscodeError,
  type TranscoderCall,
  type TranscoderReply,
  type TranscoderServer,
} from '../transcoder/transcoder.js';
import { withJsonNames } from './json-names.js';

export interface HttpOptions {
  /** host:port; port 0 picks a free one. */
  readonly addr: string;
  readonly envelope: boolean;
  /** Request header that asks for the envelope. Default that of the transcoder. */
  readonly envelopeHeader?: string;
  /** Replies that are not wrapped, because they are envelopes themselves. Default none. */
  readonly ownEnvelopes?: OwnEnvelopes;
  readonly strictBody: boolean;
  readonly strictQuery: boolean;
  readonly maxBodyBytes: number;
  /** "reason" or "grpc-gateway". */
  readonly errorShape: string;
  readonly corsOrigins: readonly string[];
  readonly timeoutMs: number;
  /** Plain headers that become metadata under the same name, such as `x-user-id`. */
  readonly forwardHeaders: readonly string[];
  /** Absent: no TLS. */
  readonly tls?: ServerTls | undefined;
  /** Absent: any number of connections. */
  readonly connections?: ConnectionLimit | undefined;
  /** Age from which a reply closes its connection, up to a tenth less. Default: never. */
  readonly maxConnectionAgeMs?: number;
}

/** gRPC's own protocols are not served as JSON. */
const GRPC_OWN = /^grpc\./;

/** The JSON listener: serves the routes of the google.api.http rules through the same chain as gRPC calls. */
export class HttpListener implements Server {
  readonly name = 'http';
  private readonly server: TranscoderServer;
  private boundPort: number | undefined;

  /** @param plainRoutes called first; returns whether it has taken the request */
  constructor(
    private readonly options: HttpOptions,
    registry: FileRegistry,
    dispatcher: Dispatcher,
    logger: Logger,
    plainRoutes: (req: IncomingMessage, res: ServerResponse) => boolean,
  ) {
    this.server = createTranscoderServer({
      registry,
      services: dispatcher.services.filter((s) => !GRPC_OWN.test(s)),
      handler: (call) => run(dispatcher, call),
      errorOf,
      plainRoutes,
      onEdgeError: (error, req, cause) => {
        const fields = {
          reason: error.reason,
          error: error.message,
          method: req?.method,
          peer: req?.socket.remoteAddress,
        };
        if (error.code === 13) logger.error('request failed in the transcoder', { ...fields, err: cause });
        else logger.debug('request refused by the transcoder', fields);
      },
      envelope: options.envelope,
      ...(options.envelopeHeader !== undefined && { envelopeHeader: options.envelopeHeader }),
      ...(options.ownEnvelopes && { ownEnvelopes: options.ownEnvelopes }),
      strictBody: options.strictBody,
      strictQuery: options.strictQuery,
      errorShape: options.errorShape === 'grpc-gateway' ? 'grpc-gateway' : 'reason',
      ...(options.corsOrigins.length > 0 && { cors: { origins: options.corsOrigins } }),
      forwardHeaders: options.forwardHeaders,
      procedures: true,
      ...(options.tls && { tls: { ...options.tls.context, requestCert: options.tls.requiresClientCertificate } }),
      replyHeaders: { 'cache-control': 'no-store' },
      limits: {
        maxBodyBytes: options.maxBodyBytes,
        requestTimeoutMs: options.timeoutMs,
        headersTimeoutMs: Math.min(options.timeoutMs, 10_000),
        maxConnectionAgeMs: options.maxConnectionAgeMs ?? 0,
      },
    });
  }

  /** The port it listens on, once started. */
  get port(): number {
    if (this.boundPort === undefined) throw new Error('http is not listening yet');
    return this.boundPort;
  }

  get openConnections(): number {
    return this.server.openConnections;
  }

  async start(): Promise<void> {
    try {
      this.options.connections?.attach(this.server.server);
      this.boundPort = (await this.server.start(parseAddress(this.options.addr))).port;
      this.options.tls?.watch((context) => (this.server.server as TlsServer).setSecureContext(context));
    } catch (err) {
      throw new Error(`http cannot listen on ${this.options.addr}: ${errorText(err)}`, { cause: err });
    }
  }

  /** From now on, every reply closes its connection. */
  drain(): void {
    this.server.drain();
  }

  stop(_: AbortSignal, deadlineAtMs: number): Promise<void> {
    this.options.tls?.close();
    return this.server.stop(deadlineAtMs);
  }
}

class HttpCall extends Call {
  private boundRequest: Uint8Array | undefined;

  constructor(private readonly inner: TranscoderCall) {
    super(inner.method, inner.operation, 'http', inner.deadline);
  }

  override metadata(name: string): string | Uint8Array | undefined {
    return this.inner.metadata.get(name);
  }

  override metadataAll(name: string): readonly (string | Uint8Array)[] {
    return this.inner.metadata.getAll(name);
  }

  override get peer(): string {
    return this.inner.peer;
  }

  override get rawBody(): Uint8Array {
    return this.inner.rawBody;
  }

  override bind(): Uint8Array {
    this.boundRequest ??= this.inner.bind();
    return this.boundRequest;
  }

  override async *requests(): AsyncGenerator<Uint8Array> {
    yield this.bind();
  }

  protected override onSignalWanted(): void {
    const { signal } = this.inner;
    const gone = () =>
      this.abort(
        signal.reason instanceof TranscodeError ? toKratosError(signal.reason) : cancelled('the caller disconnected'),
      );
    if (signal.aborted) gone();
    else signal.addEventListener('abort', gone, { once: true });
  }
}

/** No async function, because that makes three promises more for each request. */
function run(dispatcher: Dispatcher, inner: TranscoderCall): Promise<TranscoderReply> {
  const call = new HttpCall(inner);
  return dispatcher
    .operation(call.operation)(call)
    .then(
      (reply) => {
        const headers = call.headersToSend;
        return headers ? { ...reply, headers } : reply;
      },
      (err: unknown) => {
        throw withJsonNames(toKratosError(err), inner.method.input);
      },
    );
}

function errorOf(err: unknown): ErrorInfo {
  const known = toKratosError(err);
  return {
    code: known.grpcCode,
    httpStatus: known.httpCode,
    reason: known.reason,
    message: known.message,
    metadata: metadataOf(known),
    fieldViolations: known.violations,
    details: detailsOf(known),
    ...(known.retryAfterMs !== undefined && {
      httpHeaders: { 'retry-after': String(Math.max(1, Math.ceil(known.retryAfterMs / 1_000))) },
    }),
  };
}
