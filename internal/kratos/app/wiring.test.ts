import assert from 'node:assert/strict';
import { Container } from 'inversify';
import { Resources } from './resources.js';
import { type Token, token } from './token.js';
import { all, optional, type ProviderSet, providers, wiringErrors } from './wiring.js';

abstract class Clock {
  abstract now(): number;
}

class FixedClock extends Clock {
  constructor(private readonly ms: number) {
    super();
  }
  override now(): number {
    return this.ms;
  }
}

abstract class Listener {
  abstract readonly name: string;
}

interface Limit {
  readonly units: number;
}

class Shop {
  constructor(
    readonly clock: Clock,
    readonly limit: Limit,
    readonly title = 'untitled',
  ) {}
}

class Hall {
  constructor(
    readonly shop: Shop,
    readonly listeners: readonly Listener[],
    readonly manager?: Manager,
  ) {}
}

class Manager {
  readonly kind = 'manager';
}

const START_MS: Token<number> = token('StartMs');
const LIMIT: Token<Limit> = token('Limit');
const TITLE: Token<string> = token('Title');

function load(...sets: ProviderSet[]): Container {
  const container = new Container({ defaultScope: 'Singleton' });
  container.load(...sets);
  return container;
}

const constants = providers(({ value }) => {
  value(START_MS, 7);
  value(LIMIT, { units: 3 });
});
const shop = providers(({ implement, provide }) => {
  implement(Clock, FixedClock, [START_MS]);
  provide(Shop, [Clock, LIMIT]);
});

describe('wiring', () => {
  it('makes a class from the providers of its constructor parameters, once', () => {
    const container = load(constants, shop);
    const made = container.get(Shop);
    assert.equal(made.clock.now(), 7);
    assert.deepEqual(made.limit, { units: 3 });
    assert.equal(made.title, 'untitled');
    assert.equal(container.get(Shop), made);
  });

  it('fills a list with every provider and an optional parameter with the only one', () => {
    const hall = providers(({ provide, value }) => {
      provide(Hall, [Shop, all(Listener), optional(Manager)]);
      provide(Manager, []);
      value(Listener, { name: 'a' });
      value(Listener, { name: 'b' });
    });
    const made = load(constants, shop, hall).get(Hall);
    assert.deepEqual(
      made.listeners.map((l) => l.name),
      ['a', 'b'],
    );
    assert.equal(made.manager?.kind, 'manager');
  });

  it('fills a list without providers with nothing and leaves out an optional parameter', () => {
    const hall = providers(({ provide }) => provide(Hall, [Shop, all(Listener), optional(Manager)]));
    const made = load(constants, shop, hall).get(Hall);
    assert.deepEqual(made.listeners, []);
    assert.equal(made.manager, undefined);
  });

  it('gives a factory its dependencies by name', () => {
    const hall = providers(({ assemble, value }) => {
      assemble(Hall, { manager: optional(Manager), listeners: all(Listener), shop: Shop }, (parts) => {
        return new Hall(parts.shop, parts.listeners, parts.manager);
      });
      value(Listener, { name: 'a' });
    });
    const made = load(constants, shop, hall).get(Hall);
    assert.equal(made.shop.clock.now(), 7);
    assert.equal(made.listeners.length, 1);
    assert.equal(made.manager, undefined);
  });

  it('awaits an async factory for all that need it', async () => {
    const late = providers(({ create, provide }) => {
      create(Clock, [START_MS], async (ms) => new FixedClock(ms + 1));
      provide(Shop, [Clock, LIMIT]);
    });
    const made = await load(constants, late).getAsync(Shop);
    assert.equal(made.clock.now(), 8);
  });

  it('gives an alias the instance of its target', () => {
    const aliased = providers(({ provide, alias }) => {
      provide(FixedClock, [START_MS]);
      alias(Clock, FixedClock);
    });
    const container = load(constants, aliased);
    assert.equal(container.get(Clock), container.get(FixedClock));
  });

  it('closes a resource whose opening failed', async () => {
    const calls: string[] = [];
    const resources = new Resources();
    const failing = providers(({ value, resource }) => {
      value(Resources, resources);
      resource(Clock, {
        name: 'clock',
        needs: [START_MS],
        make: (ms) => new FixedClock(ms),
        open: async (_, ms) => {
          calls.push(`open ${ms}`);
          throw new Error('no clock');
        },
        close: (clock) => void calls.push(`close ${clock.now()}`),
      });
    });
    await assert.rejects(load(constants, failing).getAsync(Clock), /no clock/);
    await resources.close();
    assert.deepEqual(calls, ['open 7', 'close 7']);
  });

  it('keeps a resource without an opening synchronous, and closes it', async () => {
    const closed: number[] = [];
    const resources = new Resources();
    const quiet = providers(({ value, resource }) => {
      value(Resources, resources);
      resource(Clock, {
        name: 'clock',
        needs: [START_MS],
        make: (ms) => new FixedClock(ms),
        close: (clock) => void closed.push(clock.now()),
      });
    });
    assert.equal(load(constants, quiet).get(Clock).now(), 7);
    await resources.close();
    assert.deepEqual(closed, [7]);
  });
});

describe('wiring errors', () => {
  it('are none for a whole graph', () => {
    assert.deepEqual(wiringErrors([constants, shop], Shop), []);
  });

  it('name a missing provider and who needs it', () => {
    assert.deepEqual(wiringErrors([shop], Shop), [
      'Clock needs StartMs, which no module provides',
      'Shop needs Limit, which no module provides',
    ]);
    assert.deepEqual(wiringErrors([], Shop), ['the process needs Shop, which no module provides']);
  });

  it('accept a missing provider of a list or an optional parameter', () => {
    const hall = providers(({ provide }) => provide(Hall, [Shop, all(Listener), optional(Manager)]));
    assert.deepEqual(wiringErrors([constants, shop, hall], Hall), []);
  });

  it('name an ambiguous provider, also of an optional parameter', () => {
    const twice = providers(({ value, provide }) => {
      value(START_MS, 8);
      provide(Hall, [Shop, all(Listener), optional(Manager)]);
      provide(Manager, []);
      provide(Manager, []);
    });
    assert.deepEqual(wiringErrors([constants, shop, twice], Hall), [
      'Clock needs one StartMs, but 2 are provided',
      'Hall needs one Manager, but 2 are provided',
    ]);
  });

  it('accept several providers of a list', () => {
    const hall = providers(({ provide, value }) => {
      provide(Hall, [Shop, all(Listener)]);
      value(Listener, { name: 'a' });
      value(Listener, { name: 'b' });
    });
    assert.deepEqual(wiringErrors([constants, shop, hall], Hall), []);
  });

  it('name a cycle', () => {
    const cyclic = providers(({ create }) => {
      create(Clock, [Shop], (s) => s.clock);
      create(Shop, [Clock, LIMIT], (clock, limit) => new Shop(clock, limit));
    });
    const limit = providers(({ value }) => value(LIMIT, { units: 1 }));
    assert.deepEqual(wiringErrors([cyclic, limit], Shop), ['cycle: Shop → Clock → Shop']);
  });

  it('name a provider that nothing needs', () => {
    const unused = providers(({ value }) => value(TITLE, 'a title'));
    assert.deepEqual(wiringErrors([constants, shop, unused], Shop), ['Title is provided, but nothing needs it']);
  });
});

// tsc is the test: an expected error that does not occur fails the build.
describe('wiring at compile time', () => {
  it('refuses a wrong, a missing and an extra dependency', () => {
    const declared = providers(({ provide, implement, create, assemble, resource, value, alias }) => {
      // @ts-expect-error a dependency is missing
      provide(Shop, [Clock]);
      // @ts-expect-error the dependencies are in the wrong order
      provide(Shop, [LIMIT, Clock]);
      // @ts-expect-error a token of another type
      provide(FixedClock, [TITLE]);
      // @ts-expect-error one dependency too many
      provide(FixedClock, [START_MS, TITLE]);
      // @ts-expect-error an abstract class cannot be constructed
      provide(Clock, []);
      // @ts-expect-error an optional dependency may be undefined, which the parameter is not
      provide(FixedClock, [optional(START_MS)]);
      // @ts-expect-error a list for a parameter that takes one
      provide(FixedClock, [all(START_MS)]);
      // @ts-expect-error one for a parameter that takes a list
      provide(Hall, [Shop, Listener]);
      // @ts-expect-error a class that does not implement the port
      implement(Clock, Manager, []);
      // @ts-expect-error a missing dependency of an implementation
      implement(Clock, FixedClock, []);
      // @ts-expect-error a factory whose parameter does not fit its dependency
      create(Clock, [TITLE], (ms: number) => new FixedClock(ms));
      // @ts-expect-error a factory that makes something else
      create(Clock, [START_MS], () => new Manager());
      // @ts-expect-error a dependency that was not asked for by name
      assemble(Clock, { ms: START_MS }, ({ title }) => new FixedClock(title));
      // @ts-expect-error an async factory that makes something else
      create(Clock, [START_MS], async () => new Manager());
      // @ts-expect-error a resource that does not implement its port
      resource(Clock, { name: 'clock', needs: [], make: () => new Manager(), close: () => {} });
      // @ts-expect-error a value of another type
      value(START_MS, '7');
      // @ts-expect-error a target that does not implement the port
      alias(Clock, Manager);
      // The same forms with the right dependencies compile.
      provide(Shop, [Clock, LIMIT, TITLE]);
      provide(Shop, [Clock, LIMIT, optional(TITLE)]);
      alias(Clock, FixedClock);
    });
    assert.ok(declared.providers.length > 0);
  });
});
