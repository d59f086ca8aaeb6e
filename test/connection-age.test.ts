import assert from 'node:assert/strict';
import { Agent, get } from 'node:http';
import { credentials, Metadata } from '@grpc/grpc-js';
import { Product, ProductServiceClient, ProductServiceService } from '../gen/product/v1/product.js';
import { loadDescriptors } from '../internal/conf/descriptors.js';
import { SilentLogger } from '../internal/kratos/log/logger.js';
import { bindService, Dispatcher } from '../internal/kratos/transport/dispatcher.js';
import { GrpcListener } from '../internal/kratos/transport/grpc/listener.js';
import { HttpListener } from '../internal/kratos/transport/http/listener.js';
import { TcpBalancer } from '../internal/local/balancer.js';
import { eventually } from './support/wait.js';

const CLIENTS = 6;
const AGE_MS = 300;

interface Replica {
  readonly grpc: GrpcListener;
  readonly http: HttpListener;
}

describe('Connections of a limited age behind a TCP balancer', () => {
  const { registry } = loadDescriptors();
  let replicas: Replica[];
  let balancers: { grpc: TcpBalancer; http: TcpBalancer };
  let calling: boolean;
  let callers: Promise<void>[];
  let failures: unknown[];
  let answered: number;
  let served: Map<Replica, number>;

  beforeEach(async () => {
    [replicas, callers, failures, answered, calling] = [[], [], [], 0, true];
    served = new Map();
    balancers = {
      grpc: await TcpBalancer.start(() => replicas.map(({ grpc }) => `127.0.0.1:${grpc.port}`)),
      http: await TcpBalancer.start(() => replicas.map(({ http }) => `127.0.0.1:${http.port}`)),
    };
  });
  afterEach(async () => {
    calling = false;
    await Promise.all(callers);
    await Promise.all(
      replicas.flatMap(({ grpc, http }) => [
        grpc.stop(AbortSignal.timeout(2_000)),
        http.stop(AbortSignal.timeout(2_000), Date.now() + 2_000),
      ]),
    );
    await balancers.grpc.close();
    await balancers.http.close();
  });

  async function addReplica(maxConnectionAgeMs: number): Promise<Replica> {
    const unused = () => Promise.reject(new Error('not asked for in this test'));
    const service = {
      getProduct: async ({ id }: { id: bigint }) => {
        served.set(replica, (served.get(replica) ?? 0) + 1);
        return Product.create({ id, name: 'plan' });
      },
      ...{ updateProduct: unused, createProduct: unused, createProductSpec: unused, listProducts: unused },
    };
    const dispatcher = new Dispatcher(registry, [bindService(ProductServiceService, service)], []);
    const http = {
      ...{ addr: '127.0.0.1:0', envelope: false, strictBody: true, strictQuery: true, maxBodyBytes: 65_536 },
      ...{ errorShape: 'reason', corsOrigins: [], timeoutMs: 5_000, forwardHeaders: [], maxConnectionAgeMs },
    };
    const replica: Replica = {
      grpc: new GrpcListener({ addr: '127.0.0.1:0', maxMessageBytes: 65_536, maxConnectionAgeMs }, dispatcher),
      http: new HttpListener(http, registry, dispatcher, new SilentLogger(), () => false),
    };
    await replica.grpc.start();
    await replica.http.start();
    replicas.push(replica);
    return replica;
  }

  /** Clients with a connection each, that call one after the other and count what gets no answer. */
  function startCallers(): void {
    const keepCalling = async (call: () => Promise<unknown>, close: () => void) => {
      while (calling)
        await call().then(
          () => answered++,
          (err: unknown) => failures.push(err),
        );
      close();
    };
    for (let i = 0; i < CLIENTS; i++) {
      const client = new ProductServiceClient(balancers.grpc.address, credentials.createInsecure(), {
        'grpc.use_local_subchannel_pool': 1,
      });
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      callers.push(
        keepCalling(
          () =>
            new Promise((resolve, reject) => {
              const options = { deadline: Date.now() + 10_000 };
              client.getProduct({ id: 7n }, new Metadata(), options, (err, reply) =>
                err ? reject(err) : resolve(reply),
              );
            }),
          () => client.close(),
        ),
        keepCalling(
          () =>
            new Promise((resolve, reject) => {
              get(`http://${balancers.http.address}/v1/products/7`, { agent }, (reply) => {
                reply.resume();
                reply.on('end', () =>
                  reply.statusCode === 200 ? resolve(0) : reject(new Error(`${reply.statusCode}`)),
                );
              }).on('error', reject);
            }),
          () => agent.destroy(),
        ),
      );
    }
  }

  const connections = ({ grpc, http }: Replica) => [grpc.openConnections, http.openConnections];

  it('come to a new replica, over gRPC and JSON, and no call is lost on the way', async () => {
    const old = await addReplica(AGE_MS);
    startCallers();
    await eventually('all are connected', () => connections(old).every((n) => n >= CLIENTS));
    const added = await addReplica(AGE_MS);
    await eventually('the new replica has connections of both kinds', () => connections(added).every((n) => n > 0));
    const before = served.get(added) ?? 0;
    await eventually('it serves', () => (served.get(added) ?? 0) > before + 100);
    assert.deepEqual(failures, []);
  });

  it('stay where they are without a limit', async () => {
    const old = await addReplica(0);
    startCallers();
    await eventually('all are connected', () => connections(old).every((n) => n >= CLIENTS));
    const added = await addReplica(0);
    const before = answered;
    await eventually('they call on', () => answered > before + 500);
    assert.deepEqual(connections(added), [0, 0]);
    assert.deepEqual(failures, []);
  });
});
