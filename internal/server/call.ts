import type { DescMethod } from '@bufbuild/protobuf';
import type { Identity } from '../biz/identity.js';

/** One call of an RPC, whichever transport it came by. */
export interface Call {
  readonly method: DescMethod;
  /** "/pkg.Service/Method", as gRPC names it. */
  readonly operation: string;
  readonly transport: 'grpc' | 'http';
  /** Lower-case names. A `-bin` value is a Uint8Array. The first value of each name; `metadataAll` for all. */
  metadata(name: string): string | Uint8Array | undefined;
  metadataAll(name: string): readonly (string | Uint8Array)[];
  /** Address of the caller. */
  readonly peer: string;
  /** Epoch ms after which nobody waits for the reply. Set at the edge or by the deadline middleware. */
  deadlineAtMs: number | undefined;
  /** Aborted when the caller is gone, the deadline is over, or the server gives up waiting at its stop. */
  readonly signal: AbortSignal;
  /** Who calls; `ANONYMOUS` until the auth middleware ran. */
  identity: Identity;
  /** The JSON edge's body as it was sent, for signatures; undefined by gRPC. */
  readonly rawBody: Uint8Array | undefined;
  /** The request in wire form. Throws INVALID_ARGUMENT where the JSON does not fit the message. */
  bind(): Uint8Array;
  /** Sent with the reply as gRPC metadata or `Grpc-Metadata-` headers. */
  readonly replyHeaders: Map<string, string>;
}

export type Reply =
  | { readonly kind: 'unary'; readonly message: Uint8Array }
  | { readonly kind: 'stream'; readonly messages: AsyncIterable<Uint8Array> };

export type Next = (call: Call) => Promise<Reply>;

/** Wraps the whole handler: binding, decoding, the service and encoding. The first of a chain is the outermost. */
export type Middleware = (next: Next) => Next;

export function chain(middleware: readonly Middleware[], last: Next): Next {
  return middleware.reduceRight<Next>((next, m) => m(next), last);
}
