import type { DescMethod } from '@bufbuild/protobuf';
import type { KaimaiError } from '../errors/error.js';
import type { CallContext } from './call-context.js';
import { ANONYMOUS, type Identity } from './identity.js';

/** One call of an RPC, whichever transport it came by. A transport extends it. */
export abstract class Call implements CallContext {
  /** Who calls; `ANONYMOUS` until the auth middleware ran. */
  identity: Identity = ANONYMOUS;
  /** Where it comes from, once the caller address middleware ran for a service that asks for it. */
  address: string | undefined;
  /** Epoch ms after which nobody waits for the reply. The caller's own, then what the deadline middleware makes of it. */
  deadlineAtMs: number | undefined;
  /** W3C traceparent of this call, once the tracing middleware ran; undefined where it is not traced. */
  traceparent: string | undefined;
  // Most calls set no header and are not given up: what they need for it is made when it is asked for.
  private givenHeaders: Map<string, string> | undefined;
  private controller: AbortController | undefined;
  private abortReason: KaimaiError | undefined;
  private abortListeners: ((err: KaimaiError) => void)[] | undefined;

  /** @param operation `/pkg.Service/Method` of `method` */
  constructor(
    readonly method: DescMethod,
    readonly operation: string,
    readonly transport: 'grpc' | 'http',
    deadlineAtMs: number | undefined,
  ) {
    this.deadlineAtMs = deadlineAtMs;
  }

  get replyHeaders(): Map<string, string> {
    this.givenHeaders ??= new Map();
    return this.givenHeaders;
  }

  /** The reply's headers, if anybody set one. */
  get headersToSend(): ReadonlyMap<string, string> | undefined {
    return this.givenHeaders;
  }

  /** Lower-case names. A `-bin` value is a Uint8Array. The first value of the name. */
  abstract metadata(name: string): string | Uint8Array | undefined;
  abstract metadataAll(name: string): readonly (string | Uint8Array)[];
  /** Address of the caller. */
  abstract get peer(): string;
  abstract get rawBody(): Uint8Array | undefined;
  /** The request in wire form; for a method that takes one. Throws INVALID_ARGUMENT where the JSON does not fit. */
  abstract bind(): Uint8Array;
  /** The requests in wire form; for a method that takes a stream. */
  abstract requests(): AsyncIterable<Uint8Array>;

  /** Made when first asked for: most calls end without anybody looking. */
  get signal(): AbortSignal {
    if (!this.controller) {
      this.controller = new AbortController();
      if (this.abortReason) this.controller.abort(this.abortReason);
      else this.onSignalWanted();
    }
    return this.controller.signal;
  }

  /** A transport that learns of a caller's leaving only at a cost starts to listen for it here. */
  protected onSignalWanted(): void {}

  /** Why nobody waits for the reply any more. */
  get aborted(): KaimaiError | undefined {
    return this.abortReason;
  }

  /** Gives up the call: CANCELLED when the caller left, DEADLINE_EXCEEDED. The first reason stays. */
  abort(reason: KaimaiError): void {
    if (this.abortReason) return;
    this.abortReason = reason;
    this.controller?.abort(reason);
    const listeners = this.abortListeners ?? [];
    this.abortListeners = undefined;
    for (const listener of listeners) listener(reason);
  }

  /** Calls `listener` once when the call is given up, at once when it was. */
  onAbort(listener: (err: KaimaiError) => void): void {
    if (this.abortReason) listener(this.abortReason);
    else if (this.abortListeners) this.abortListeners.push(listener);
    else this.abortListeners = [listener];
  }
}

export type Reply =
  | { readonly kind: 'unary'; readonly message: Uint8Array }
  | { readonly kind: 'stream'; readonly messages: AsyncIterable<Uint8Array> };

export type Next = (call: Call) => Promise<Reply>;
