import type { Identity } from './identity.js';

/** What a handler knows about its call besides the request. */
export interface CallContext {
  /** "/pkg.Service/Method". */
  readonly operation: string;
  /** Who makes the call; set by the application's auth middleware. */
  readonly identity: Identity;
  /** Address of the caller, of IPv6 its /64; set for the services that the caller address middleware is given. */
  readonly address: string | undefined;
  /** Aborted when the caller disconnects, the deadline passes, or the server stops. Pass it to whatever waits. */
  readonly signal: AbortSignal;
  /**
   * Aborted when the server wants the stream to end: answer what was read, and return. A handler that asks for it is not
   * cut off when the server stops, only at the deadline of the stop.
   */
  readonly ending: AbortSignal;
  /** Epoch ms after which the caller ignores the reply; undefined for a stream that may stay open. */
  readonly deadlineAtMs: number | undefined;
  /** The first value of a lower-case name; bytes for names that end in "-bin". */
  metadata(name: string): string | Uint8Array | undefined;
  /** W3C traceparent of the call, to be stored with work that continues it later; undefined if it is not traced. */
  readonly traceparent?: string | undefined;
  /** The body of a JSON request as it was sent, for signatures; undefined for gRPC. */
  readonly rawBody: Uint8Array | undefined;
  /**
   * Sent with the reply: gRPC metadata, or `Grpc-Metadata-` headers. Lower-case names; set before the first message.
   */
  readonly replyHeaders: Map<string, string>;
}

/** One method of a service definition that ts-proto generates. */
export interface MethodDefinition {
  readonly path: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  // Generated functions take exact types; only `never` is assignable to all of them.
  readonly requestSerialize: (value: never) => Buffer;
  readonly requestDeserialize: (bytes: Buffer) => unknown;
  readonly responseSerialize: (value: never) => Buffer;
  readonly responseDeserialize: (bytes: Buffer) => unknown;
}

export type ServiceDefinition = Readonly<Record<string, MethodDefinition>>;

export type RequestOf<M extends MethodDefinition> = ReturnType<M['requestDeserialize']>;
export type ReplyOf<M extends MethodDefinition> = ReturnType<M['responseDeserialize']>;

type Handler<M extends MethodDefinition> = (
  request: M['requestStream'] extends true ? AsyncIterable<RequestOf<M>> : RequestOf<M>,
  ctx: CallContext,
) => M['responseStream'] extends true ? AsyncIterable<ReplyOf<M>> : Promise<ReplyOf<M>>;

/**
 * The implementation of a service: `class ProductService implements ServiceOf<typeof ProductServiceService>`. A unary
 * method is `(request, ctx) => Promise<reply>`; a streaming one takes or returns an AsyncIterable.
 */
export type ServiceOf<D extends ServiceDefinition> = { readonly [K in keyof D]: Handler<D[K]> };
