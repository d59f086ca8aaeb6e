import type { DescMethod, FileRegistry } from '@bufbuild/protobuf';
import { invalidArgument, unavailable } from '../errors/reasons.js';
import type { Call, Next } from './call.js';
import type { CallContext, MethodDefinition, ServiceDefinition, ServiceOf } from './call-context.js';
import { chain, type Layer, Observer } from './chain.js';
import type { RequestRules } from './validation.js';

/** A service definition and its implementation. Made by `bindService`, which checks that they match. */
export class ServiceBinding {
  /** Use `bindService`: this constructor cannot check that the two match. */
  constructor(
    readonly definition: ServiceDefinition,
    readonly implementation: Readonly<Record<string, unknown>>,
  ) {}
}

/** Binds an implementation to the `XxxServiceService` definition that ts-proto generated for it. */
export function bindService<D extends ServiceDefinition>(definition: D, implementation: ServiceOf<D>): ServiceBinding {
  return new ServiceBinding(definition, implementation as Readonly<Record<string, unknown>>);
}

interface Operation {
  readonly method: DescMethod;
  readonly run: Next;
}

/** Runs the calls of the bound services through one chain, whatever their transport. */
export class Dispatcher {
  /** Full names of the bound services. */
  readonly services: readonly string[];
  private readonly operations = new Map<string, Operation>();
  private readonly calls = new Set<Call>();
  private onIdle: (() => void) | undefined;
  private isEnding = false;

  /**
   * @param rulesOf default: requests are not validated
   * @throws Error if a definition has no descriptor, a method is bound twice, or an implementation lacks a method
   */
  constructor(
    registry: FileRegistry,
    bindings: readonly ServiceBinding[],
    layers: readonly Layer[],
    rulesOf: RequestRules = () => undefined,
  ) {
    // Innermost, so that it sees the end of a handler even if the chain has answered before.
    const all = [...layers, new Observer(() => (call) => this.track(call))];
    const services = new Set<string>();
    for (const { definition, implementation } of bindings) {
      for (const [name, method] of Object.entries(definition)) {
        const [, service = '', rpc = ''] = method.path.split('/');
        const desc = registry.getService(service)?.methods.find((m) => m.name === rpc);
        if (!desc) throw new Error(`${method.path} has no descriptor`);
        const fn = implementation[name];
        if (typeof fn !== 'function') throw new Error(`${method.path} is not implemented`);
        if (this.operations.has(method.path)) throw new Error(`${method.path} is bound twice`);
        services.add(service);
        const last = handler(decoder(desc, method, rulesOf(desc)), method, fn.bind(implementation));
        this.operations.set(method.path, { method: desc, run: chain(all, desc, last) });
      }
    }
    this.services = [...services];
  }

  get methods(): readonly DescMethod[] {
    return [...this.operations.values()].map((o) => o.method);
  }

  /** The chain of one method, including its middleware. */
  operation(path: string): Next {
    const found = this.operations.get(path);
    if (!found) throw new Error(`${path} is not bound`);
    return found.run;
  }

  get inFlight(): number {
    return this.calls.size;
  }

  /** Asks the streams to end whose handlers can end by themselves, with everything answered. */
  askStreamsToEnd(): void {
    for (const call of this.calls) call.askToEnd();
  }

  /** Ends reply streams: they may stay open forever, so a stop waits only for those that can end by themselves. */
  endStreams(): void {
    this.isEnding = true;
    for (const call of this.calls) {
      const kind = call.method.methodKind;
      if (kind !== 'server_streaming' && kind !== 'bidi_streaming') continue;
      if (!call.askToEnd()) call.abort(unavailable('the server is stopping'));
    }
  }

  /**
   * Resolves when no handler is running, including those whose callers have disconnected, because the resources that
   * they use are closed next. Calls that are still running at the deadline are aborted.
   */
  async drain(deadline: AbortSignal): Promise<void> {
    if (this.calls.size === 0) return;
    await new Promise<void>((resolve) => {
      this.onIdle = resolve;
      const giveUp = () => {
        for (const call of this.calls) call.abort(unavailable('the server is stopping'));
        resolve();
      };
      if (deadline.aborted) giveUp();
      else deadline.addEventListener('abort', giveUp, { once: true });
    });
  }

  private track(call: Call): () => void {
    this.calls.add(call);
    // Begun on a connection that was accepted just before the listener closed.
    if (this.isEnding) call.askToEnd();
    return () => {
      this.calls.delete(call);
      if (this.calls.size === 0) this.onIdle?.();
    };
  }
}

type AnyHandler = (request: unknown, ctx: CallContext) => Promise<never> | AsyncIterable<never>;

type Decode = (bytes: Uint8Array) => unknown;

function handler(decode: Decode, method: MethodDefinition, fn: AnyHandler): Next {
  const request = method.requestStream
    ? (call: Call) => decodeAll(decode, call.requests())
    : (call: Call) => decode(call.bind());
  if (method.responseStream) {
    return async (call) => ({
      kind: 'stream',
      messages: encodeAll(method, fn(request(call), call) as AsyncIterable<never>),
    });
  }
  const encode = encoder(method);
  return async (call) => ({ kind: 'unary', message: encode(await (fn(request(call), call) as Promise<never>)) });
}

/** A frozen reply is one that its service returns repeatedly, so it is encoded only once. */
function encoder(method: MethodDefinition): (reply: never) => Uint8Array {
  const encoded = new WeakMap<object, Uint8Array>();
  return (reply) => {
    if (!Object.isFrozen(reply)) return method.responseSerialize(reply);
    let bytes = encoded.get(reply);
    if (!bytes) {
      bytes = method.responseSerialize(reply);
      encoded.set(reply, bytes);
    }
    return bytes;
  };
}

function decoder(desc: DescMethod, method: MethodDefinition, check: ReturnType<RequestRules>): Decode {
  return (bytes) => {
    let request: unknown;
    try {
      request = method.requestDeserialize(bytes as Buffer);
    } catch (err) {
      throw invalidArgument(`the request is not a valid ${desc.input.typeName}`, { cause: err });
    }
    check?.(bytes, request);
    return request;
  };
}

/** No async generator, because that makes several promises for each request. */
function decodeAll(decode: Decode, requests: AsyncIterable<Uint8Array>): AsyncIterable<unknown> {
  return {
    [Symbol.asyncIterator]() {
      const source = requests[Symbol.asyncIterator]();
      const decoded = (result: IteratorResult<Uint8Array>): IteratorResult<unknown> =>
        result.done ? result : { done: false, value: decode(result.value) };
      return {
        next: () => source.next().then(decoded),
        return: async () => (await source.return?.()) ?? { done: true, value: undefined },
      };
    },
  };
}

async function* encodeAll(method: MethodDefinition, replies: AsyncIterable<never>) {
  for await (const reply of replies) yield method.responseSerialize(reply);
}
