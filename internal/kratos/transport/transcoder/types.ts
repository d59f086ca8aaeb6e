import type { IncomingMessage, ServerResponse } from 'node:http';
import type { DescMethod, FileRegistry } from '@bufbuild/protobuf';

/** A metadata value: text, or the bytes of a key that ends in `-bin`. */
export type MetadataValue = string | Uint8Array;

/** Metadata to send, in order; a name may be repeated. Names are lower-case gRPC keys. */
export type MetadataEntries = Iterable<readonly [name: string, value: MetadataValue]>;

/** gRPC metadata made from the HTTP request's headers. Names are lower-case; a repeated header keeps each of its values. */
export interface MetadataView extends Iterable<readonly [name: string, value: MetadataValue]> {
  /** The first value of the name. */
  get(name: string): MetadataValue | undefined;
  getAll(name: string): readonly MetadataValue[];
  has(name: string): boolean;
}

/** One RPC that an HTTP request asked for. */
export interface TranscoderCall {
  readonly method: DescMethod;
  /** `/pkg.Service/Method`, as gRPC names it. */
  readonly operation: string;
  readonly metadata: MetadataView;
  /** Address of the connected client, `ip:port`; a proxy's where there is one. */
  readonly peer: string;
  /** Epoch in milliseconds at which the client gives up, from `Grpc-Timeout`; the host adds its own. */
  readonly deadline: number | undefined;
  /** Aborted when the client goes away or the server's stop deadline passes. Made when first asked for. */
  readonly signal: AbortSignal;
  /** The HTTP method of the request: `GET`, `HEAD`, `POST`, … */
  readonly httpMethod: string;
  /** The path template that matched, e.g. `/v1/orders/{id}`. */
  readonly path: string;
  /** The body as it was sent (after gzip is undone), for signatures; empty where there is none. */
  readonly rawBody: Uint8Array;
  /**
   * The request message in protobuf wire form, from path, query and body.
   * @throws TranscodeError INVALID_ARGUMENT with field violations
   */
  bind(): Uint8Array;
}

export interface UnaryReply {
  readonly kind: 'unary';
  /** The reply message in protobuf wire form. */
  readonly message: Uint8Array;
  /** HTTP status; 200 unless told. */
  readonly status?: number;
  /** Sent as `Grpc-Metadata-<name>`. */
  readonly headers?: MetadataEntries;
  /** Sent as HTTP trailers `Grpc-Trailer-<name>` to clients that accept trailers. */
  readonly trailers?: MetadataEntries;
}

export interface StreamReply {
  readonly kind: 'stream';
  /** Reply messages in protobuf wire form. `return()` is called when the client goes away. */
  readonly messages: AsyncIterable<Uint8Array>;
  readonly headers?: MetadataEntries;
}

export type TranscoderReply = UnaryReply | StreamReply;

/** Answers a call. The host's middleware runs in here, around `call.bind()`. */
export type TranscoderHandler = (call: TranscoderCall) => Promise<TranscoderReply>;

export interface FieldViolation {
  /** Path of the field in JSON names: `items[2].priceFen`; empty for the message as a whole. */
  readonly field: string;
  readonly description: string;
}

/** A `google.protobuf.Any` as it goes on the wire. */
export interface ErrorDetail {
  readonly typeUrl: string;
  readonly value: Uint8Array;
}

/** What a failed call looks like from outside. */
export interface ErrorInfo {
  /** gRPC status code, 1 to 16. */
  readonly code: number;
  /** HTTP status; by the gRPC code where absent. */
  readonly httpStatus?: number;
  /** UPPER_SNAKE_CASE; what clients branch on. */
  readonly reason: string;
  readonly message: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly fieldViolations?: readonly FieldViolation[];
  /** Sent by the grpc-gateway error shape only. */
  readonly details?: readonly ErrorDetail[];
  /** Plain HTTP headers of the error reply, e.g. `retry-after`. */
  readonly httpHeaders?: Readonly<Record<string, string>>;
}

/** How errors are written: `{"code":404,"reason":…,"message":…,"metadata":{}}`, or grpc-gateway's `{"code":5,"message":…,"details":[…]}`. */
export type ErrorShape = 'reason' | 'grpc-gateway';

export interface CorsOptions {
  /** Allowed origins, exact (`https://shop.example`), or `*` for any (never together with credentials). */
  readonly origins: readonly string[];
  /** Allow cookies and `Authorization` from the browser. Default false. */
  readonly credentials?: boolean;
  /** Request headers that a page may send; what it asks for is granted where this is absent. */
  readonly allowedHeaders?: readonly string[];
  /** Reply headers that a page may read. */
  readonly exposedHeaders?: readonly string[];
  /** How long a browser may remember a preflight. Default 600. */
  readonly maxAgeSeconds?: number;
}

export interface TranscoderLimits {
  /** Body, also after gzip is undone; above it 413. Default 65,536. */
  readonly maxBodyBytes?: number;
  /** Request line and headers; above it 431. Default 16,384. */
  readonly maxHeaderBytes?: number;
  /** Nesting of JSON objects and arrays. Default 32. */
  readonly maxJsonDepth?: number;
  /** Query parameters of a request. Default 256. */
  readonly maxQueryParameters?: number;
  /** Headers must be here by then; else 408. Default 10,000. */
  readonly headersTimeoutMs?: number;
  /** The whole request must be here by then; else 408. Default 30,000. */
  readonly requestTimeoutMs?: number;
  /** How long an idle connection is kept. Default 65,000. */
  readonly keepAliveTimeoutMs?: number;
  /** A client that takes no byte of a pending reply for this long is cut off. Default 30,000. */
  readonly writeTimeoutMs?: number;
  /** On stop, how long idle connections are kept for requests under way to them; each gets its answer and `Connection: close`. Default 500. */
  readonly drainIdleMs?: number;
  /** Requests on one connection; 0 is without limit. Default 0. */
  readonly maxRequestsPerConnection?: number;
  /** Open connections; 0 is without limit. Default 0. */
  readonly maxConnections?: number;
}

export interface TranscoderOptions {
  /** Holds every type that requests and replies need, and the `google.api.http` rules as method options. */
  readonly registry: FileRegistry;
  /** Full names of the services to serve, e.g. `order.v1.OrderService`. */
  readonly services: readonly string[];
  readonly handler: TranscoderHandler;
  /** Describes an error that the handler threw. The package's own TranscodeError never gets here. Must not throw. */
  readonly errorOf: (err: unknown) => ErrorInfo;
  /** Plain routes of the host (health, metrics, OpenAPI), asked first; true when it took the request. */
  readonly plainRoutes?: (req: IncomingMessage, res: ServerResponse) => boolean;
  /** Told of each request refused before a handler saw it (no route, too large, …) and of replies that could not be written. */
  readonly onEdgeError?: (error: ErrorInfo, req: IncomingMessage | undefined, cause: unknown) => void;
  /** Default `reason`. */
  readonly errorShape?: ErrorShape;
  /** Wrap every reply as `{"code":0,"message":"ok","data":…}`. Default false. */
  readonly envelope?: boolean;
  /** Request header that asks for the envelope by `1` (or refuses it by `0`). Default `x-kaimai-envelope`. */
  readonly envelopeHeader?: string;
  /** Refuse unknown query parameters. Default false. */
  readonly strictQuery?: boolean;
  /** Refuse unknown fields in JSON bodies. Default false. */
  readonly strictBody?: boolean;
  /**
   * Decode all but `%2F` in variables of several segments, as `fully_decode_reserved_expansion` does. Default false:
   * the characters that RFC 6570 reserves stay encoded.
   */
  readonly fullyDecodeReservedExpansion?: boolean;
  /** Request headers handed on as metadata under their own name, next to the built-in ones. Lower-case. */
  readonly forwardHeaders?: readonly string[];
  /** Reply metadata sent under its own name, without `Grpc-Metadata-`. Lower-case. */
  readonly exposeHeaders?: readonly string[];
  /** Headers of every reply, e.g. `x-content-type-options: nosniff`. */
  readonly replyHeaders?: Readonly<Record<string, string>>;
  readonly cors?: CorsOptions;
  /** Compress replies of at least this many bytes for clients that accept gzip; false never. Default 1,024. */
  readonly gzipMinBytes?: number | false;
  /** Server-Sent Events: a comment is sent after this long without an event, so that proxies keep the connection. Default 15,000. */
  readonly sseHeartbeatMs?: number;
  /**
   * Also serve every unary RPC as `POST /package.Service/Method`, by the unary form of the Connect protocol for its clients and
   * as a plain JSON route for others. Default false.
   */
  readonly procedures?: boolean;
  readonly limits?: TranscoderLimits;
}

/** A route as it was compiled, for listings and tests. */
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
  /** The request listener, for a host that brings its own node:http server (limits on headers are then the host's). */
  readonly listener: (req: IncomingMessage, res: ServerResponse) => void;
  /** Resolves when it listens, with the address it got. */
  start(address: ListenAddress): Promise<{ host: string; port: number }>;
  /**
   * Stops accepting, answers what is in flight with `Connection: close`, closes idle connections, and at the deadline
   * (epoch in milliseconds) aborts and cuts what is left. Resolves when every connection is closed.
   */
  stop(deadline: number): Promise<void>;
  /** From now on every reply ends its connection, so that clients have moved elsewhere when the server stops. */
  drain(): void;
}
