import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { HealthService } from '../../gen/grpc/health/v1/health.js';
import { Product, ProductServiceService } from '../../gen/product/v1/product.js';
import { ALL_REASONS } from '../../gen/reasons.js';
import { loadDescriptors } from '../../internal/conf/descriptors.js';
import { Health } from '../../internal/kratos/app/health.js';
import { SilentLogger } from '../../internal/kratos/log/logger.js';
import type { Discovery, Instances } from '../../internal/kratos/registry/discovery.js';
import { EtcdRegistry } from '../../internal/kratos/registry/etcd.js';
import type { ServiceInstance } from '../../internal/kratos/registry/service-registry.js';
import { bindService, Dispatcher } from '../../internal/kratos/transport/dispatcher.js';
import { GrpcClient } from '../../internal/kratos/transport/grpc/client.js';
import { GrpcHealthService } from '../../internal/kratos/transport/grpc/health-service.js';
import { GrpcListener } from '../../internal/kratos/transport/grpc/listener.js';
import { useOwnEtcd } from '../support/own-etcd.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const NAME = 'kaimai.product';
const GET = ProductServiceService.getProduct;
const unused = () => Promise.reject(new Error('not asked for in this test'));

/** A service whose reply names the instance. */
class Instance {
  calls = 0;
  readonly health = new Health([], new SilentLogger());
  private readonly listener: GrpcListener;

  constructor(
    readonly id: string,
    readonly weight: number,
  ) {
    const service = {
      getProduct: async () => {
        this.calls++;
        return Product.create({ name: id });
      },
      createProduct: unused,
      createProductSpec: unused,
      updateProduct: unused,
      listProducts: unused,
    };
    const dispatcher = new Dispatcher(
      loadDescriptors().registry,
      [
        bindService(ProductServiceService, service),
        bindService(HealthService, new GrpcHealthService(this.health, ['product.v1.ProductService'])),
      ],
      [],
    );
    this.listener = new GrpcListener({ addr: '127.0.0.1:0', maxMessageBytes: 65_536 }, dispatcher);
    this.health.serving = true;
  }

  async start(): Promise<this> {
    await this.listener.start();
    return this;
  }

  stop(): Promise<void> {
    return this.listener.stop(AbortSignal.timeout(1_000));
  }

  get entry(): ServiceInstance {
    return {
      id: this.id,
      name: NAME,
      version: '0',
      metadata: { weight: String(this.weight) },
      endpoints: [`grpc://127.0.0.1:${this.listener.port}`, 'http://127.0.0.1:1'],
    };
  }
}

/** A registry that the test controls. */
class Told implements Discovery {
  watchers = 0;
  private found: Instances | undefined;
  private readonly listeners = new Set<(found: Instances) => void>();

  publish(...instances: Instance[]): void {
    this.found = { kind: 'known', instances: instances.map((i) => i.entry) };
    for (const listener of this.listeners) listener(this.found);
  }

  watch(name: string, listener: (found: Instances) => void): () => void {
    assert.equal(name, NAME);
    this.watchers++;
    this.listeners.add(listener);
    setImmediate(() => {
      if (this.found && this.listeners.has(listener)) listener(this.found);
    });
    return () => {
      this.watchers--;
      this.listeners.delete(listener);
    };
  }
}

function clientOf(discovery: Discovery): GrpcClient {
  return new GrpcClient({
    addr: `discovery:///${NAME}`,
    discovery,
    reasons: ALL_REASONS,
    timeoutMs: 5_000,
  });
}

async function whoAnswers(client: GrpcClient): Promise<string> {
  return (await client.call(GET, { id: 1n })).name;
}

/** Resolves when `count` consecutive calls were answered only by these instances, and by each of them. */
async function answeredBy(client: GrpcClient, ...names: string[]): Promise<void> {
  await eventually(`only ${names.join(', ')} answer`, async () => {
    const seen = new Set<string>();
    for (let i = 0; i < 20; i++) seen.add(await whoAnswers(client));
    return seen.size === names.length && names.every((name) => seen.has(name));
  });
}

describe('Calls to discovery:/// addresses', () => {
  let a: Instance;
  let b: Instance;
  let told: Told;
  let client: GrpcClient;

  beforeEach(async () => {
    [a, b] = [await new Instance('a', 300).start(), await new Instance('b', 100).start()];
    told = new Told();
    told.publish(a, b);
    client = clientOf(told);
  });
  afterEach(async () => {
    client.close();
    await Promise.all([a.stop(), b.stop()]);
    await eventually('there are no watchers', () => told.watchers === 0);
  });

  it('are distributed by weight', async () => {
    await answeredBy(client, 'a', 'b');
    [a.calls, b.calls] = [0, 0];
    for (let i = 0; i < 400; i++) await whoAnswers(client);
    assert.ok(Math.abs(a.calls - 300) <= 2, `${a.calls} to ${b.calls}`);
    assert.equal(a.calls + b.calls, 400);
  });

  it('avoid an instance that reports NOT_SERVING until it serves again', async () => {
    await answeredBy(client, 'a', 'b');
    a.health.serving = false;
    await answeredBy(client, 'b');
    a.calls = 0;
    for (let i = 0; i < 50; i++) await whoAnswers(client);
    assert.equal(a.calls, 0);
    a.health.serving = true;
    await answeredBy(client, 'a', 'b');
  });

  it('go to instances that are not serving if there are no others', async () => {
    await answeredBy(client, 'a', 'b');
    a.health.serving = false;
    b.health.serving = false;
    for (let i = 0; i < 20; i++) await whoAnswers(client);
  });

  it('avoid an instance that is down, and use it again when it is back', async () => {
    await answeredBy(client, 'a', 'b');
    const { entry } = b;
    await b.stop();
    await answeredBy(client, 'a');
    told.publish(a);
    for (let i = 0; i < 20; i++) assert.equal(await whoAnswers(client), 'a');
    b = await new Instance('b', 100).start();
    assert.notDeepEqual(b.entry, entry);
    told.publish(a, b);
    await answeredBy(client, 'a', 'b');
  });

  it('fail immediately with UNAVAILABLE while no instance is known', async () => {
    const unreachable = clientOf({
      watch: (_, listener) => {
        setImmediate(listener, { kind: 'unknown', error: 'no instances' });
        return () => undefined;
      },
    });
    await assert.rejects(whoAnswers(unreachable), { reason: 'UNAVAILABLE', message: /no instances/ });
    unreachable.close();
  });
});

describe('EtcdRegistry', () => {
  const servers = useServers('etcd');
  const open: EtcdRegistry[] = [];

  function registry(ttlMs = 5_000): EtcdRegistry {
    const made = new EtcdRegistry(
      { endpoints: [servers.etcdUrl], prefix: servers.etcdPrefix, ttlMs },
      new SilentLogger(),
    );
    open.push(made);
    return made;
  }

  function instance(id: string): ServiceInstance {
    return { id, name: NAME, version: '0', metadata: {}, endpoints: [`grpc://${id}:1`] };
  }

  /** The last update of a watcher: the ids, or the error. */
  function follow(by: EtcdRegistry): { ids: readonly string[] | string } {
    const last: { ids: readonly string[] | string } = { ids: [] };
    by.watch(NAME, (found) => {
      last.ids = found.kind === 'known' ? found.instances.map((i) => i.id).sort() : found.error;
    });
    return last;
  }

  afterEach(() => Promise.all(open.splice(0).map((r) => r.close())));

  it('lists an instance until it deregisters', async () => {
    const [one, two] = [registry(), registry()];
    const seen = follow(registry());
    await eventually('the watcher sees no instance', () => /no instance of kaimai\.product/.test(String(seen.ids)));
    await one.register(instance('one'));
    await eventually('one', () => String(seen.ids) === 'one');
    await two.register(instance('two'));
    await eventually('both', () => String(seen.ids) === 'one,two');
    await one.deregister();
    await eventually('two alone', () => String(seen.ids) === 'two');
    await two.deregister();
    const late = follow(registry());
    await eventually('the watcher sees no instance', () => /no instance/.test(String(late.ids)));
    // A client that knew instances keeps the last one.
    assert.equal(String(seen.ids), 'two');
  });

  it('registers again after its lease was lost', async () => {
    const one = registry(2_000);
    await one.register(instance('one'));
    const seen = follow(registry());
    await eventually('one', () => String(seen.ids) === 'one');
    await revokeAll(servers.etcdUrl);
    const late = registry();
    await eventually('one again', () => {
      const found = follow(late);
      return eventually('told', () => String(found.ids) === 'one', { timeoutMs: 500 }).then(() => true);
    });
  });
});

/** Revokes every lease, which removes the entries. */
async function revokeAll(url: string): Promise<void> {
  const post = async (path: string, body: unknown) => {
    const reply = await fetch(`${url}/v3/${path}`, { method: 'POST', body: JSON.stringify(body) });
    return (await reply.json()) as { leases?: { ID: string }[] };
  };
  const { leases = [] } = await post('lease/leases', {});
  assert.ok(leases.length > 0);
  for (const { ID } of leases) await post('lease/revoke', { ID });
}

describe('EtcdRegistry while etcd is down', () => {
  const etcd = useOwnEtcd();
  let a: Instance;
  let b: Instance;

  function registry(): EtcdRegistry {
    return new EtcdRegistry({ endpoints: [etcd.url], prefix: '/kaimai/services', ttlMs: 2_000 }, new SilentLogger());
  }

  beforeEach(async () => {
    [a, b] = [await new Instance('a', 100).start(), await new Instance('b', 100).start()];
  });
  afterEach(() => Promise.all([a.stop(), b.stop()]));

  it('neither stops nor slows its users when etcd is down, and recovers by itself', async () => {
    const [byA, byB, caller] = [registry(), registry(), registry()];
    await byA.register(a.entry);
    const client = clientOf(caller);
    await answeredBy(client, 'a');

    await etcd.kill();
    // Longer than the lifetime of the entries.
    const until = performance.now() + 2_500;
    while (performance.now() < until) {
      assert.equal(await whoAnswers(client), 'a');
      await sleep(20);
    }
    // It starts meanwhile, and is found as soon as etcd is back.
    let isRegistered = false;
    void byB.register(b.entry).then(() => {
      isRegistered = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    assert.ok(isRegistered, 'it waits for etcd');

    await etcd.restart();
    await answeredBy(client, 'a', 'b');

    await etcd.pause();
    assert.ok(['a', 'b'].includes(await whoAnswers(client)));
    // Bounded even if etcd accepts connections and does not answer.
    await byB.deregister();
    await etcd.resume();

    await etcd.kill();
    await byA.deregister();
    client.close();
    await Promise.all([byA.close(), byB.close(), caller.close()]);
  });
});
