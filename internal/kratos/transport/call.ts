import type { DescMethod } from '@bufbuild/protobuf';
import type { KratosError } from '../errors/error.js';
import type { CallContext } from './call-context.js';
import { ANONYMOUS, type Identity } from './identity.js';

/** A call of an RPC, over any transport. Each transport extends it. */
export abstract class Call implements CallContext {
  /** Who makes the call; `ANONYMOUS` until the auth middleware has run. */
  identity: Identity = ANONYMOUS;
  /** Address of the caller; set by the caller address middleware for the services that need it. */
  address: string | undefined;
  /**
   * Epoch ms after which the caller ignores the reply. The caller's deadline, which the deadline middleware adjusts.
   */
  deadlineAtMs: number | undefined;
  /** W3C traceparent of this call, set by the tracing middleware; undefined if it is not traced. */
  traceparent: string | undefined;
  // Created on demand: most calls set no header and are not aborted.
  private givenHeaders: Map<string, string> | undefined;
  private controller: AbortController | undefined;
  private endingController: AbortController | undefined;
  private isAskedToEnd = false;
  private abortReason: KratosError | undefined;
  private abortListeners: ((err: KratosError) => void)[] | undefined;

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

  /** The headers of the reply; undefined if none was set. */
  get headersToSend(): ReadonlyMap<string, string> | undefined {
    return this.givenHeaders;
  }

  /** The first value of a lower-case name. A `-bin` value is a Uint8Array. */
  abstract metadata(name: string): string | Uint8Array | undefined;
  abstract metadataAll(name: string): readonly (string | Uint8Array)[];
  /** Address of the caller. */
  abstract get peer(): string;
  abstract get rawBody(): Uint8Array | undefined;
  /** The request of a unary method in wire form. @throws INVALID_ARGUMENT if the JSON does not match the message */
  abstract bind(): Uint8Array;
  /** The requests of a client stream in wire form. */
  abstract requests(): AsyncIterable<Uint8Array>;

  /** Created on demand, because most calls never use it. */
  get signal(): AbortSignal {
    if (!this.controller) {
      this.controller = new AbortController();
      if (this.abortReason) this.controller.abort(this.abortReason);
      else this.onSignalWanted();
    }
    return this.controller.signal;
  }

  get ending(): AbortSignal {
    this.endingController ??= new AbortController();
    if (this.isAskedToEnd) this.endingController.abort();
    return this.endingController.signal;
  }

  /** Asks the handler to end. @returns false if the handler does not listen yet, or never will */
  askToEnd(): boolean {
    this.isAskedToEnd = true;
    this.endingController?.abort();
    return this.endingController !== undefined;
  }

  /** A transport for which detecting a disconnect is costly starts to do so here. */
  protected onSignalWanted(): void {}

  /** Why the call was aborted; undefined while it is not. */
  get aborted(): KratosError | undefined {
    return this.abortReason;
  }

  /** Aborts the call, as with CANCELLED or DEADLINE_EXCEEDED. Only the first reason counts. */
  abort(reason: KratosError): void {
    if (this.abortReason) return;
    this.abortReason = reason;
    this.controller?.abort(reason);
    const listeners = this.abortListeners ?? [];
    this.abortListeners = undefined;
    for (const listener of listeners) listener(reason);
  }

  /** Calls `listener` once the call is aborted; immediately if it already is. */
  onAbort(listener: (err: KratosError) => void): void {
    if (this.abortReason) listener(this.abortReason);
    else if (this.abortListeners) this.abortListeners.push(listener);
    else this.abortListeners = [listener];
  }
}

export type Reply =
  | { readonly kind: 'unary'; readonly message: Uint8Array }
  | { readonly kind: 'stream'; readonly messages: AsyncIterable<Uint8Array> };

export type Next = (call: Call) => Promise<Reply>;
