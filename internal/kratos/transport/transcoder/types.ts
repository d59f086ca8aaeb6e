import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Server as NetServer } from 'node:net';
import type { TlsOptions } from 'node:tls';
import type { DescMethod, FileRegistry } from '@bufbuild/protobuf';
import type { OwnEnvelopes } from './envelope.js';

/** A metadata value: text, or the bytes of a key that ends in `-bin`. */
export type MetadataValue = string | Uint8Array;

/** Metadata to send, in order; names may repeat. Names are gRPC keys in lower case. */
export type MetadataEntries = Iterable<readonly [name: string, value: MetadataValue]>;

/**
 * gRPC metadata built from the HTTP request headers. Names are in lower case; a repeated header keeps all its values.
 */
export interface MetadataView extends Iterable<readonly [name: string, value: MetadataValue]> {
  /** The first value of the name. */
  get(name: string): MetadataValue | undefined;
  getAll(name: string): readonly MetadataValue[];
  has(name: string): boolean;
}

/** One RPC, called by an HTTP request. */
export interface TranscoderCall {
  readonly method: DescMethod;
  /** `/pkg.Service/Method`, as gRPC names it. */
  readonly operation: string;
  readonly metadata: MetadataView;
  /** Address of the connected client or proxy, `ip:port`. */
  readonly peer: string;
  /** Deadline of the client in milliseconds since the epoch; the host may add its own. */
  readonly deadline: number | undefined;
  /**
   * Aborted when the client disconnects, its deadline passes, or the server's stop deadline passes. Created on first
   * use.
   */
  readonly signal: AbortSignal;
  /** The HTTP method of the request: `GET`, `HEAD`, `POST`, … */
  readonly httpMethod: string;
  /** The path template that matched, e.g. `/v1/orders/{id}`. */
  readonly path: string;
  /** The body as sent (decompressed), for signatures; empty if there is none. */
  readonly rawBody: Uint8Array;
  /**
   * The request message in protobuf wire format, from path, query and body.
   * @throws TranscodeError INVALID_ARGUMENT with field violations
   */
  bind(): Uint8Array;
}

export interface UnaryReply {
  readonly kind: 'unary';
  /** The reply message in protobuf wire format. */
  readonly message: Uint8Array;
  /** HTTP status. Default 200. */
  readonly status?: number;
  /** Sent as `Grpc-Metadata-<name>`. */
  readonly headers?: MetadataEntries;
  /** Sent as HTTP trailers `Grpc-Trailer-<name>` to clients that accept trailers. */
  readonly trailers?: MetadataEntries;
}

export interface StreamReply {
  readonly kind: 'stream';
  /** Reply messages in protobuf wire format. `return()` is called when the client disconnects. */
  readonly messages: AsyncIterable<Uint8Array>;
  readonly headers?: MetadataEntries;
}

export type TranscoderReply = UnaryReply | StreamReply;

/** Handles a call. The host's middleware runs in here, around `call.bind()`. */
export type TranscoderHandler = (call: TranscoderCall) => Promise<TranscoderReply>;

export interface FieldViolation {
  /** Path of the field in JSON names: `items[2].priceFen`; empty for the message as a whole. */
  readonly field: string;
  readonly description: string;
}

/** A `google.protobuf.Any`. */
export interface ErrorDetail {
  readonly typeUrl: string;
  readonly value: Uint8Array;
}

/** An error as the client sees it. */
export interface ErrorInfo {
  /** gRPC status code, 1 to 16. */
  readonly code: number;
  /** HTTP status. Default: that of the gRPC code. */
  readonly httpStatus?: number;
  /** Stable identifier in UPPER_SNAKE_CASE, which clients use to distinguish errors. */
  readonly reason: string;
  readonly message: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly fieldViolations?: readonly FieldViolation[];
  /** Only sent with the grpc-gateway error shape and to Connect clients. */
  readonly details?: readonly ErrorDetail[];
  /** Plain HTTP headers of the error reply, e.g. `retry-after`. */
  readonly httpHeaders?: Readonly<Record<string, string>>;
}

/**
 * Format of errors: `{"code":404,"reason":…,"message":…,"metadata":{}}`, or grpc-gateway's
 * `{"code":5,"message":…,"details":[…]}`.
 */
export type ErrorShape = 'reason' | 'grpc-gateway';

export interface CorsOptions {
  /** Allowed origins, exact (`https://shop.example`), or `*` for any (never together with credentials). */
  readonly origins: readonly string[];
  /** Allow cookies and `Authorization` from the browser. Default false. */
  readonly credentials?: boolean;
  /** Request headers that a page may send. Default: all headers that it asks for. */
  readonly allowedHeaders?: readonly string[];
  /** Reply headers that a page may read. */
  readonly exposedHeaders?: readonly string[];
  /** How long a browser may cache a preflight reply. Default 600. */
  readonly maxAgeSeconds?: number;
}

export interface TranscoderLimits {
  /** Size of the body, before and after decompression; 413 above it. Default 65,536. */
  readonly maxBodyBytes?: number;
  /** Size of request line and headers; 431 above it. Default 16,384. */
  readonly maxHeaderBytes?: number;
  /** Nesting of JSON objects and arrays. Default 32. */
  readonly maxJsonDepth?: number;
  /** Number of query parameters. Default 256. */
  readonly maxQueryParameters?: number;
  /** Time for the headers to arrive; 408 after it. Default 10,000. */
  readonly headersTimeoutMs?: number;
  /** Time for the whole request to arrive; 408 after it. Default 30,000. */
  readonly requestTimeoutMs?: number;
  /** How long an idle connection is kept. Default 65,000. */
  readonly keepAliveTimeoutMs?: number;
  /** A client that reads nothing of a pending reply for this long is disconnected. Default 30,000. */
  readonly writeTimeoutMs?: number;
  /**
   * On stop, how long idle connections stay open for requests that are on their way; these get `Connection: close`.
   * Default 500.
   */
  readonly drainIdleMs?: number;
  /** Requests per connection; 0 for no limit. Default 0. */
  readonly maxRequestsPerConnection?: number;
  /** Age of a connection from which a reply closes it, up to a tenth less; 0 for none. Default 0. */
  readonly maxConnectionAgeMs?: number;
  /** Open connections; 0 for no limit. Default 0. */
  readonly maxConnections?: number;
}

export interface TranscoderOptions {
  /** Contains all types of requests and replies, and the `google.api.http` rules as method options. */
  readonly registry: FileRegistry;
  /** Full names of the services to serve, e.g. `order.v1.OrderService`. */
  readonly services: readonly string[];
  readonly handler: TranscoderHandler;
  /** Describes an error that the handler threw, unless it is a TranscodeError. Must not throw. */
  readonly errorOf: (err: unknown) => ErrorInfo;
  /** Other routes of the host (health, metrics, OpenAPI), called first; returns true if it handled the request. */
  readonly plainRoutes?: (req: IncomingMessage, res: ServerResponse) => boolean;
  /**
   * Called for every request that is rejected before the handler (no route, too large, …) and for replies that cannot
   * be encoded.
   */
  readonly onEdgeError?: (error: ErrorInfo, req: IncomingMessage | undefined, cause: unknown) => void;
  /** Default `reason`. */
  readonly errorShape?: ErrorShape;
  /** Wrap every reply as `{"code":0,"message":"ok","data":…}`. Default false. */
  readonly envelope?: boolean;
  /** Request header that enables the envelope by `1` and disables it by `0`. Default `x-envelope`. */
  readonly envelopeHeader?: string;
  /** Replies that are not wrapped, because they are envelopes themselves. Default none. */
  readonly ownEnvelopes?: OwnEnvelopes;
  /** Reject unknown query parameters. Default false. */
  readonly strictQuery?: boolean;
  /** Reject unknown fields in JSON bodies. Default false. */
  readonly strictBody?: boolean;
  /**
   * In variables with several segments, decode everything except `%2F`, like `fully_decode_reserved_expansion`. Default
   * false: characters that RFC 6570 reserves stay encoded.
   */
  readonly fullyDecodeReservedExpansion?: boolean;
  /** Request headers that become metadata under their own name, besides the built-in ones. In lower case. */
  readonly forwardHeaders?: readonly string[];
  /** Reply metadata that is sent under its own name, without `Grpc-Metadata-`. In lower case. */
  readonly exposeHeaders?: readonly string[];
  /** Headers of every reply, e.g. `x-content-type-options: nosniff`. */
  readonly replyHeaders?: Readonly<Record<string, string>>;
  readonly cors?: CorsOptions;
  /**
   * Minimum size in bytes of replies that are compressed for clients that accept gzip; false for never. Default 1,024.
   */
  readonly gzipMinBytes?: number | false;
  /**
   * Server-Sent Events: interval of heartbeat comments, which keep proxies from closing the connection. Default 15,000.
   */
  readonly sseHeartbeatMs?: number;
  /**
   * Also serve every unary RPC as `POST /package.Service/Method`, by the unary form of the Connect protocol for its
   * clients and
   * as a plain JSON route for others. Default false.
   */
  readonly procedures?: boolean;
  readonly limits?: TranscoderLimits;
  /** Serves HTTPS. With `requestCert`, a client needs a certificate that `ca` has signed. */
  readonly tls?: Pick<TlsOptions, 'cert' | 'key' | 'ca' | 'requestCert'>;
}

/** A compiled route, for listings and tests. */
export interface RouteInfo {
  readonly httpMethod: string;
  readonly path: string;
  readonly operation: string;
}

export interface ListenAddress {
  readonly host?: string;
  /** 0 picks a free port. */
  readonly port: number;
}

export interface TranscoderServer {
  readonly routes: readonly RouteInfo[];
  /** The request listener, for a host with its own node:http server (header limits are then those of the host). */
  readonly listener: (req: IncomingMessage, res: ServerResponse) => void;
  /** The server that `start` makes listen: of node:https with `tls`, otherwise of node:http. */
  readonly server: NetServer;
  readonly openConnections: number;
  /** Starts listening. Resolves with the actual address. */
  start(address: ListenAddress): Promise<{ host: string; port: number }>;
  /**
   * Stops accepting connections, answers requests in flight with `Connection: close`, closes idle connections, and at
   * the
   * deadline (milliseconds since the epoch) aborts and disconnects the rest. Resolves when all connections are closed.
   */
  stop(deadline: number): Promise<void>;
  /** From now on every reply closes its connection, so that clients have moved elsewhere when the server stops. */
  drain(): void;
}
