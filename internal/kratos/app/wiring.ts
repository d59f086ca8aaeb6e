import { type BindToFluentSyntax, ContainerModule, type ServiceIdentifier } from 'inversify';
import { Resources } from './resources.js';
import type { Token } from './token.js';

/** Names a dependency: its class (a port's abstract class), or a token for a type that has no class. */
export type Identifier<T> = Token<T> | (abstract new (...args: never[]) => T);

/** What an identifier names. */
type ProvidedBy<I> = I extends Token<infer T> ? T : I extends abstract new (...args: never[]) => infer T ? T : never;

declare const value: unique symbol;

/** A dependency that is not exactly one provider. */
export interface Injection<V> {
  readonly kind: 'optional' | 'all';
  readonly identifier: Identifier<unknown>;
  readonly [value]?: V;
}

/** One provider, or undefined if there is none. */
export function optional<T>(identifier: Identifier<T>): Injection<T | undefined> {
  return { kind: 'optional', identifier };
}

/** Every provider, in the order of the modules; an empty list if there is none. */
export function all<T>(identifier: Identifier<T>): Injection<T[]> {
  return { kind: 'all', identifier };
}

type Dependency<V> = Identifier<V> | Injection<V>;
type Dependencies = readonly Dependency<unknown>[];
type NamedDependencies = Readonly<Record<string, Dependency<unknown>>>;
/** The dependencies that fit a parameter list. */
type DependenciesOf<P extends readonly unknown[]> = { readonly [K in keyof P]: Dependency<P[K]> };
/** What dependencies resolve to: the parameter list that fits a list, or the object that fits an object. */
export type ValuesOf<D extends Dependencies | NamedDependencies> = {
  -readonly [K in keyof D]: D[K] extends Injection<infer V>
    ? V
    : D[K] extends Token<infer T>
      ? T
      : D[K] extends abstract new (
            ...args: never[]
          ) => infer T
        ? T
        : never;
};

/** What must be closed when the process ends. */
interface ResourceSpec<T, D extends Dependencies> {
  /** Appears in the error of a failed close. */
  readonly name: string;
  readonly needs: D;
  /** Must not open anything yet. */
  readonly make: (...values: ValuesOf<D>) => T;
  /** Called after the close is registered, so that a half-opened resource is closed too. */
  readonly open?: (made: T, ...values: ValuesOf<D>) => Promise<void>;
  readonly close: (made: T) => Promise<void> | void;
}

/** How a module declares its providers. Each dependency is written once and checked against the parameter it fills. */
export interface Providing {
  /** `identifier` is the class itself, made by its constructor. */
  provide<T, P extends unknown[]>(implementation: new (...args: P) => T, needs: NoInfer<DependenciesOf<P>>): void;
  /** A port, implemented by a class. */
  implement<T, P extends unknown[]>(
    port: Identifier<T>,
    implementation: new (...args: P) => NoInfer<T>,
    needs: NoInfer<DependenciesOf<P>>,
  ): void;
  /** Made by a function, which may be async. */
  create<I extends Identifier<unknown>, const D extends Dependencies>(
    identifier: I,
    needs: D,
    factory: (...values: ValuesOf<D>) => ProvidedBy<I> | Promise<ProvidedBy<I>>,
  ): void;
  /** Made by a function that takes one object. For many dependencies, whose order would say nothing. */
  assemble<I extends Identifier<unknown>, const D extends NamedDependencies>(
    identifier: I,
    needs: D,
    factory: (values: ValuesOf<D>) => ProvidedBy<I> | Promise<ProvidedBy<I>>,
  ): void;
  /** Made, then opened, and closed with the process's `Resources`. */
  resource<T, R extends T, const D extends Dependencies>(identifier: Identifier<T>, spec: ResourceSpec<R, D>): void;
  value<I extends Identifier<unknown>>(identifier: I, value: ProvidedBy<I>): void;
  /** Another name of what `target` names. */
  alias<T>(identifier: Identifier<T>, target: Identifier<NoInfer<T>>): void;
}

/** One declared provider, readable without a container. */
export interface Provider {
  readonly identifier: Identifier<unknown>;
  readonly needs: Dependencies;
  readonly make: (...values: never[]) => unknown;
}

/** A container module that tells what it provides, so that a test can check the whole graph without building it. */
export class ProviderSet extends ContainerModule {
  constructor(readonly providers: readonly Provider[]) {
    super(({ bind }) => {
      for (const provider of providers) bindTo(bind(provider.identifier as ServiceIdentifier), provider);
    });
  }
}

/** A layer's module. */
export function providers(declare: (providing: Providing) => void): ProviderSet {
  const declared: Provider[] = [];
  const add = (identifier: Identifier<unknown>, needs: Dependencies, make: (...values: never[]) => unknown) =>
    declared.push({ identifier, needs, make });
  declare({
    provide: (implementation, needs) => {
      add(implementation, needs, constructed(implementation));
    },
    implement: (port, implementation, needs) => {
      add(port, needs, constructed(implementation));
    },
    create: (identifier, needs, factory) => {
      add(identifier, needs, factory);
    },
    assemble: (identifier, needs, factory) => {
      const names = Object.keys(needs);
      const named = (...values: unknown[]) => Object.fromEntries(names.map((name, i) => [name, values[i]]));
      add(identifier, Object.values(needs), (...values) => factory(named(...values) as Parameters<typeof factory>[0]));
    },
    resource: (identifier, { name, needs, make, open, close }) => {
      type Values = Parameters<typeof make>;
      const register = (resources: Resources, ...values: Values) => {
        const made = make(...values);
        resources.add(name, async () => close(made));
        return made;
      };
      // Only a resource with `open` is async, because everything that needs an async provider becomes async too.
      const opened = async (resources: Resources, ...values: Values) => {
        const made = register(resources, ...values);
        await open?.(made, ...values);
        return made;
      };
      add(identifier, [Resources, ...needs], open ? opened : register);
    },
    value: (identifier, value) => {
      add(identifier, [], () => value);
    },
    alias: (identifier, target) => {
      add(identifier, [target], (made: unknown) => made);
    },
  });
  return new ProviderSet(declared);
}

function constructed<P extends unknown[]>(implementation: new (...args: P) => unknown): (...args: P) => unknown {
  return (...args) => new implementation(...args);
}

function bindTo(binding: BindToFluentSyntax<unknown>, { needs, make }: Provider): void {
  const options = needs.map(injectionOf).map(({ kind, identifier }) => {
    const serviceIdentifier = identifier as ServiceIdentifier;
    if (kind === 'one') return { serviceIdentifier };
    return kind === 'all'
      ? { serviceIdentifier, optional: true as const, isMultiple: true as const }
      : { serviceIdentifier, optional: true as const };
  });
  binding.toResolvedValue(make as (...values: unknown[]) => unknown, options as never);
}

interface Need {
  readonly kind: 'one' | 'optional' | 'all';
  readonly identifier: Identifier<unknown>;
}

function injectionOf(dependency: Dependency<unknown>): Need {
  if (typeof dependency === 'symbol' || typeof dependency === 'function')
    return { kind: 'one', identifier: dependency };
  return dependency as Injection<unknown>;
}

/**
 * Checks a process's object graph without making anything.
 *
 * @returns one sentence for each missing or ambiguous provider, each cycle, and each provider that `root` does not
 * reach
 */
export function wiringErrors(sets: readonly ProviderSet[], root: Identifier<unknown>): string[] {
  const byIdentifier = new Map<Identifier<unknown>, Provider[]>();
  for (const provider of sets.flatMap((set) => set.providers)) {
    const same = byIdentifier.get(provider.identifier);
    if (same) same.push(provider);
    else byIdentifier.set(provider.identifier, [provider]);
  }
  const errors = new Set<string>();
  const reached = new Set<Identifier<unknown>>();
  const visit = ({ kind, identifier }: Need, path: readonly Identifier<unknown>[]): void => {
    const found = byIdentifier.get(identifier) ?? [];
    const needer = path.length === 0 ? 'the process' : nameOf(path[path.length - 1]!);
    if (found.length === 0 && kind === 'one')
      errors.add(`${needer} needs ${nameOf(identifier)}, which no module provides`);
    if (found.length > 1 && kind !== 'all') {
      errors.add(`${needer} needs one ${nameOf(identifier)}, but ${found.length} are provided`);
    }
    if (path.includes(identifier)) {
      const cycle = [...path.slice(path.indexOf(identifier)), identifier];
      errors.add(`cycle: ${cycle.map(nameOf).join(' → ')}`);
      return;
    }
    if (reached.has(identifier)) return;
    reached.add(identifier);
    for (const provider of found) for (const need of provider.needs) visit(injectionOf(need), [...path, identifier]);
  };
  visit({ kind: 'one', identifier: root }, []);
  for (const identifier of byIdentifier.keys()) {
    if (!reached.has(identifier)) errors.add(`${nameOf(identifier)} is provided, but nothing needs it`);
  }
  return [...errors];
}

function nameOf(identifier: Identifier<unknown>): string {
  return typeof identifier === 'symbol' ? ((identifier as symbol).description ?? 'a symbol') : identifier.name;
}
