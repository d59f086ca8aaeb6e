import { setTimeout as sleep } from 'node:timers/promises';
import {
  type CallOptions,
  type ChannelOptions,
  Client,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { context, propagation, SpanKind, SpanStatusCode, type TextMapSetter, trace } from '@opentelemetry/api';
import type { KratosError, ReasonSpec } from '../../errors/error.js';
import { cancelled, deadlineExceeded, unavailable } from '../../errors/reasons.js';
import { decodeStatus, type ReasonTable, reasonTable } from '../../errors/rpc-status.js';
import type { Metrics } from '../../metrics/metrics.js';
import type { Discovery } from '../../registry/discovery.js';
import { type ClientTlsOptions, clientCredentials, tlsChannelOptions } from '../tls/client-tls.js';
import { Breaker } from './breaker.js';
import { discoveryOptions, isDiscoveryTarget, registerDiscovery } from './discovery-channel.js';

export interface GrpcClientOptions {
  /** host:port, `discovery:///<service>`, or any other target that grpc-js resolves. */
  readonly addr: string;
  /** Resolves `discovery:///` targets. */
  readonly discovery?: Discovery | undefined;
  /** Metadata of every call, such as the secret that authenticates a service. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** The reasons that services return. Others get their HTTP status from the gRPC code. */
  readonly reasons: readonly ReasonSpec[];
  /** Absent: no TLS. */
  readonly tls?: ClientTlsOptions | undefined;
  /** For calls without a deadline of their own. */
  readonly timeoutMs: number;
}

export interface OutgoingCall {
  /** Overrides that of the client. */
  readonly timeoutMs?: number;
  /** Deadline of the caller's own caller, in epoch ms; this call ends before it. */
  readonly deadlineAtMs?: number | undefined;
  readonly signal?: AbortSignal;
  /** Whether the call may be executed twice. Only then is it retried, and only if the service is unavailable. */
  readonly idempotent?: boolean;
  /** Added to the metadata of the client. */
  readonly metadata?: Readonly<Record<string, string>>;
}

const HEADERS: TextMapSetter<Metadata> = { set: (metadata, key, value) => metadata.set(key, value) };

/** A unary method of a service definition that ts-proto generates. */
export interface UnaryMethod<Request, Reply> {
  readonly path: string;
  readonly requestStream: false;
  readonly responseStream: false;
  readonly requestSerialize: (value: Request) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => Reply;
}

const ATTEMPTS = 3;
const BACKOFF_MS = 50;
/** Codes of a service that is failing, as opposed to one that refuses a request. */
const OVERLOADED: ReadonlySet<number> = new Set([
  status.UNAVAILABLE,
  status.DEADLINE_EXCEEDED,
  status.RESOURCE_EXHAUSTED,
  status.INTERNAL,
]);
/** Kept back from the caller's deadline, so that there is time to answer the caller. */
const SHAVE_MS = 20;

/**
 * Calls another service. Each call has a deadline. Errors are thrown as the KratosError of the service, with its
 * reason; calls to a service that cannot be reached, or that the breaker rejects, fail with UNAVAILABLE.
 */
export class GrpcClient {
  private readonly client: Client;
  private readonly reasons: ReasonTable;
  /** One for each method, so that a failing method does not block the others. */
  private readonly breakers = new Map<string, Breaker>();

  constructor(private readonly options: GrpcClientOptions) {
    this.reasons = reasonTable(options.reasons);
    this.client = new Client(
      options.addr,
      options.tls ? clientCredentials(options.tls, options.addr) : credentials.createInsecure(),
      {
        ...targetOptions(options),
        ...(options.tls && tlsChannelOptions(options.tls, options.addr)),
        'grpc.initial_reconnect_backoff_ms': 100,
        'grpc.min_reconnect_backoff_ms': 100,
        'grpc.max_reconnect_backoff_ms': 2_000,
        // Detects connections that died silently.
        'grpc.keepalive_time_ms': 30_000,
        'grpc.keepalive_timeout_ms': 5_000,
      },
    );
  }

  /** @throws KratosError */
  async call<Request, Reply>(
    method: UnaryMethod<Request, Reply>,
    request: Request,
    options: OutgoingCall = {},
  ): Promise<Reply> {
    const deadlineAtMs = Math.min(
      Date.now() + (options.timeoutMs ?? this.options.timeoutMs),
      (options.deadlineAtMs ?? Number.POSITIVE_INFINITY) - SHAVE_MS,
    );
    let breaker = this.breakers.get(method.path);
    if (!breaker) {
      breaker = new Breaker();
      this.breakers.set(method.path, breaker);
    }
    for (let attempt = 1; ; attempt++) {
      if (options.signal?.aborted) throw cancelled('the call was cancelled');
      if (Date.now() >= deadlineAtMs)
        throw deadlineExceeded(`the deadline has passed before the call of ${method.path}`);
      if (!breaker.allow()) throw unavailable(`${method.path} was not called: most of its recent calls failed`);
      try {
        const reply = await this.once(method, request, deadlineAtMs, options);
        breaker.record(true);
        return reply;
      } catch (err) {
        const known = err as KratosError;
        // A cancelled call says nothing about the service.
        if (known.grpcCode !== status.CANCELLED) breaker.record(!OVERLOADED.has(known.grpcCode));
        const away = known.grpcCode === status.UNAVAILABLE;
        const pauseMs = BACKOFF_MS * 2 ** (attempt - 1) * (0.5 + Math.random());
        if (!away || !options.idempotent || attempt === ATTEMPTS || Date.now() + pauseMs >= deadlineAtMs) throw known;
        await sleep(pauseMs, undefined, options.signal ? { signal: options.signal } : {}).catch(() => undefined);
      }
    }
  }

  /** Exports what the breakers do, by method. */
  observe(metrics: Metrics): void {
    const read = (value: (breaker: Breaker) => number) => () =>
      Array.from(this.breakers, ([method, breaker]) => [{ method }, value(breaker)] as const);
    metrics.gauge(
      'grpc_client_breaker_share',
      'Share of calls to a failing service that are not sent, from 0 to 0.9, by method.',
      'max',
      read((breaker) => breaker.rejectedShare),
    );
    metrics.counter(
      'grpc_client_breaker_rejected_total',
      'Calls that were not sent because most recent ones had failed, by method.',
      read((breaker) => breaker.rejected),
    );
  }

  close(): void {
    this.client.close();
  }

  private once<Request, Reply>(
    method: UnaryMethod<Request, Reply>,
    request: Request,
    deadlineAtMs: number,
    { signal, metadata: own }: OutgoingCall,
  ): Promise<Reply> {
    const metadata = new Metadata();
    for (const [name, value] of Object.entries({ ...this.options.metadata, ...own })) metadata.set(name, value);
    const callOptions: CallOptions = { deadline: deadlineAtMs };
    const span = trace.getTracer('kratos').startSpan(method.path.slice(1), { kind: SpanKind.CLIENT });
    propagation.inject(trace.setSpan(context.active(), span), metadata, HEADERS);
    return new Promise((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = method;
      const call = this.client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        metadata,
        callOptions,
        (err, reply) => {
          signal?.removeEventListener('abort', giveUp);
          if (err) span.setStatus({ code: SpanStatusCode.ERROR, message: err.details });
          span.end();
          if (err) reject(this.errorOf(err));
          else resolve(reply as Reply);
        },
      );
      const giveUp = () => call.cancel();
      signal?.addEventListener('abort', giveUp, { once: true });
    });
  }

  private errorOf(err: ServiceError): KratosError {
    const [given] = err.metadata?.get('grpc-status-details-bin') ?? [];
    const details = Buffer.isBuffer(given) ? given : undefined;
    return decodeStatus(err.code, err.details || err.message, details, this.reasons);
  }
}

function targetOptions({ addr, discovery }: GrpcClientOptions): ChannelOptions {
  if (!isDiscoveryTarget(addr)) return {};
  if (!discovery) throw new Error(`${addr} requires service discovery`);
  registerDiscovery();
  return discoveryOptions(discovery);
}
