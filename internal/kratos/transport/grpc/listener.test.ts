import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:http2';
import { connect as connectSocket, type Socket } from 'node:net';
import { Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { Registry } from 'prom-client';
import { HealthCheckResponse, HealthService } from '../../../../gen/grpc/health/v1/health.js';
import { ServerReflectionService } from '../../../../gen/grpc/reflection/v1/reflection.js';
import { InstanceServiceService } from '../../../../gen/instance/v1/instance.js';
import { isProductNotFound, productNotFound } from '../../../../gen/product/v1/errors.js';
import { Product, ProductServiceService } from '../../../../gen/product/v1/product.js';
import { ALL_REASONS } from '../../../../gen/reasons.js';
import { loadDescriptors } from '../../../conf/descriptors.js';
import { auth, headerAuthenticator } from '../../../server/middleware/auth.js';
import { Health } from '../../app/health.js';
import type { HealthProbe } from '../../app/health-probe.js';
import type { KratosError } from '../../errors/error.js';
import { decodeStatus, reasonTable } from '../../errors/rpc-status.js';
import { type LogFields, Logger, SilentLogger } from '../../log/logger.js';
import { Metrics } from '../../metrics/metrics.js';
import { deadline } from '../../middleware/deadline.js';
import { logging } from '../../middleware/logging.js';
import { metrics } from '../../middleware/metrics.js';
import { recovery } from '../../middleware/recovery.js';
import type { CallContext, ServiceOf } from '../call-context.js';
import { bindService, Dispatcher } from '../dispatcher.js';
import { validation } from '../validation.js';
import { GrpcHealthService } from './health-service.js';
import { GrpcListener } from './listener.js';
import { GrpcReflectionService } from './reflection-service.js';

const KNOWN = reasonTable(ALL_REASONS);

const TOKEN = 'a-token-for-this-test';
const USER = '00000000-0000-8000-8000-00000000007b';

/** A ProductService whose behaviour depends on the requested product id. */
class Shelf implements ServiceOf<typeof ProductServiceService> {
  lastContext: CallContext | undefined;
  release: (() => void) | undefined;
  entered: () => void = () => undefined;

  async getProduct({ id }: { id: bigint }, ctx: CallContext): Promise<Product> {
    this.lastContext = ctx;
    if (id === 404n) throw productNotFound('no such product', { metadata: { id: '404' } });
    if (id === 500n) throw new Error('the password is hunter2');
    if (id === 504n) {
      await new Promise<void>((resolve) => {
        this.release = resolve;
        this.entered();
      });
    }
    ctx.replyHeaders.set('x-served-by', 'shelf');
    return Product.create({ id, name: '名' });
  }
  async createProduct(): Promise<Product> {
    return Product.create();
  }
  async createProductSpec(): Promise<never> {
    throw new Error('not asked for in this test');
  }
  async updateProduct(): Promise<never> {
    throw new Error('not asked for in this test');
  }
  async listProducts() {
    return { products: [], total: 0n };
  }
}

/** Answers every method with the identity of its caller. */
const instances = {
  createInstance: async () => {
    throw productNotFound('reached');
  },
  grantInstance: async () => {
    throw productNotFound('reached');
  },
  getInstanceRequest: async () => {
    throw productNotFound('reached');
  },
  reportInstances: async () => {
    throw productNotFound('reached');
  },
  reportInstance: async () => {
    throw productNotFound('reached');
  },
};

class Lines extends Logger {
  override readonly debugs = true;
  readonly lines: { readonly level: string; readonly message: string; readonly fields: LogFields }[] = [];
  override debug(message: string, fields: LogFields = {}): void {
    this.lines.push({ level: 'debug', message, fields });
  }
  override info(message: string, fields: LogFields = {}): void {
    this.lines.push({ level: 'info', message, fields });
  }
  override warn(message: string, fields: LogFields = {}): void {
    this.lines.push({ level: 'warn', message, fields });
  }
  override error(message: string, fields: LogFields = {}): void {
    this.lines.push({ level: 'error', message, fields });
  }
  override child(): Logger {
    return this;
  }
}

for (const fastUnary of [true, false]) describeListener(fastUnary);

function describeListener(fastUnary: boolean): void {
  describe(`gRPC listener ${fastUnary ? 'with' : 'without'} its own unary calls`, () => {
    const { registry, set } = loadDescriptors();
    let up = true;
    const probe: HealthProbe = {
      name: 'postgres',
      critical: true,
      check: async () => {
        if (!up) throw new Error('connection refused');
      },
    };
    let shelf: Shelf;
    let lines: Lines;
    let prom: Registry;
    let health: Health;
    let dispatcher: Dispatcher;
    let listener: GrpcListener;
    let client: Client;

    beforeEach(async () => {
      up = true;
      shelf = new Shelf();
      lines = new Lines();
      prom = new Registry();
      health = new Health([probe], new SilentLogger());
      const names = ['product.v1.ProductService', 'grpc.health.v1.Health'];
      dispatcher = new Dispatcher(
        registry,
        [
          bindService(ProductServiceService, shelf),
          bindService(InstanceServiceService, instances),
          bindService(HealthService, new GrpcHealthService(health, names)),
          bindService(ServerReflectionService, new GrpcReflectionService(registry, set, names)),
        ],
        [
          recovery(),
          logging(lines),
          metrics(new Metrics(prom, 'test')),
          deadline({ grpcTimeoutMs: 5_000, httpTimeoutMs: 5_000 }),
          auth(
            headerAuthenticator({ internalToken: TOKEN, adminToken: '', bffToken: '', adminByRole: true }),
            registry,
          ),
        ],
        validation(registry),
      );
      listener = new GrpcListener({ addr: '127.0.0.1:0', maxMessageBytes: 65536, fastUnary }, dispatcher);
      await health.start();
      await listener.start();
      health.serving = true;
      client = new Client(`127.0.0.1:${listener.port}`, credentials.createInsecure());
    });

    afterEach(async () => {
      client.close();
      shelf.release?.();
      await listener.stop(AbortSignal.timeout(2_000));
      await health.stop();
    });

    interface Answer {
      readonly reply: Buffer | undefined;
      readonly error: (ServiceError & { known: KratosError }) | undefined;
      readonly headers: Metadata | undefined;
    }

    function send(path: string, request: Uint8Array, headers: Record<string, string> = {}, deadlineMs = 5_000) {
      const metadata = new Metadata();
      for (const [k, v] of Object.entries(headers)) metadata.set(k, v);
      return new Promise<Answer>((resolve) => {
        let got: Metadata | undefined;
        const same = (b: Buffer) => b;
        const call = client.makeUnaryRequest(
          path,
          same,
          same,
          Buffer.from(request),
          metadata,
          { deadline: Date.now() + deadlineMs },
          (err, reply) => {
            const details = err?.metadata?.get('grpc-status-details-bin')[0];
            const error = err
              ? Object.assign(err, { known: decodeStatus(err.code, err.details, details as Buffer | undefined, KNOWN) })
              : undefined;
            resolve({ reply, error, headers: got });
          },
        );
        call.on('metadata', (m: Metadata) => {
          got = m;
        });
      });
    }

    const GET = ProductServiceService.getProduct;
    const CREATE = InstanceServiceService.createInstance;
    const GRANT = InstanceServiceService.grantInstance;
    const get = (id: bigint, headers?: Record<string, string>, deadlineMs?: number) =>
      send(GET.path, GET.requestSerialize({ id }), headers, deadlineMs);

    /** So that the deadline of a call does not count the time to connect. */
    const connected = async () => assert.equal((await get(7n)).error, undefined);

    it('serves a call with reply headers and the identity in its context', async () => {
      const { reply, headers } = await get(7n, { 'x-user-id': '123', 'x-request-id': 'r-1' });
      assert.deepEqual(Product.decode(reply as Buffer).name, '名');
      assert.deepEqual(headers?.get('x-served-by'), ['shelf']);
      assert.deepEqual(shelf.lastContext?.identity, { role: 'USER', userId: USER });
      assert.equal(shelf.lastContext?.metadata('x-request-id'), 'r-1');
      assert.ok((shelf.lastContext?.deadlineAtMs ?? 0) > Date.now());
      const line = lines.lines.at(-1);
      assert.equal(line?.level, 'debug');
      assert.equal(line?.fields.operation, GET.path);
    });

    it('sends the reason, domain, metadata and violations of an error to the client', async () => {
      const { error } = await get(404n);
      assert.equal(error?.code, status.NOT_FOUND);
      assert.ok(isProductNotFound(error?.known));
      assert.deepEqual(error?.known.metadata, { id: '404' });
      assert.equal(error?.known.httpCode, 404);

      const invalid = await get(0n);
      assert.equal(invalid.error?.code, status.INVALID_ARGUMENT);
      assert.equal(invalid.error?.known.violations[0]?.field, 'id');
      assert.match(invalid.error?.known.violations[0]?.description ?? '', /greater than 0/);
    });

    it('hides unexpected errors from the caller, and logs them with their cause', async () => {
      const { error } = await get(500n);
      assert.equal(error?.code, status.INTERNAL);
      assert.equal(error?.details, 'internal error');
      const line = lines.lines.at(-1);
      assert.equal(line?.level, 'error');
      assert.match(String(line?.fields.err), /hunter2/);
    });

    it('answers bytes that are not a valid message with INVALID_ARGUMENT', async () => {
      const { error } = await send(GET.path, Buffer.from([0x0f, 0xff, 0xff]));
      assert.equal(error?.code, status.INVALID_ARGUMENT);
    });

    it('rejects messages above the limit and unknown methods', async () => {
      const big = await send(GET.path, Buffer.alloc(70_000));
      assert.equal(big.error?.code, status.RESOURCE_EXHAUSTED);
      const unknown = await send('/product.v1.ProductService/Nothing', Buffer.alloc(0));
      assert.equal(unknown.error?.code, status.UNIMPLEMENTED);
    });

    it('admits only callers with the role of an RPC', async () => {
      const request = GRANT.requestSerialize({ productId: 1n, userId: '1', source: '', sourceId: 'x' });
      const internal = CREATE.requestSerialize({ productId: 1n, userId: '1', source: 'X', sourceId: 'x', orderId: 0n });
      const codeOf = async (path: string, bytes: Uint8Array, headers: Record<string, string>) =>
        (await send(path, bytes, headers)).error?.code;
      const admin = { 'x-user-role': 'ADMIN' };
      const service = { 'x-internal-token': TOKEN };
      const user = { 'x-user-id': '5' };
      assert.equal(await codeOf(GRANT.path, request, {}), status.UNAUTHENTICATED);
      assert.equal(await codeOf(GRANT.path, request, user), status.PERMISSION_DENIED);
      assert.equal(await codeOf(GRANT.path, request, service), status.PERMISSION_DENIED);
      assert.equal(await codeOf(GRANT.path, request, admin), status.NOT_FOUND);
      assert.equal(await codeOf(CREATE.path, internal, admin), status.PERMISSION_DENIED);
      assert.equal(await codeOf(CREATE.path, internal, service), status.NOT_FOUND);
      assert.equal(await codeOf(CREATE.path, internal, { 'x-internal-token': `${TOKEN}x` }), status.UNAUTHENTICATED);
      const bad = await get(1n, { 'x-user-id': 'ann' });
      assert.equal(bad.error?.code, status.INVALID_ARGUMENT);
      assert.equal(bad.error?.known.violations[0]?.field, 'x-user-id');
    });

    it('ends a call at its deadline and aborts its handler', async () => {
      const entered = new Promise<void>((resolve) => {
        shelf.entered = resolve;
      });
      await connected();
      const answer = get(504n, {}, 500);
      await entered;
      const signal = shelf.lastContext?.signal;
      assert.ok(signal);
      assert.equal((await answer).error?.code, status.DEADLINE_EXCEEDED);
      if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
      // The client counts from an earlier moment than the server, and its cancellation may come first.
      assert.match((signal.reason as KratosError).reason, /^(DEADLINE_EXCEEDED|CANCELLED)$/);
    });

    it('waits for handlers whose caller has disconnected when it drains, and aborts them at the deadline', async () => {
      const entered = new Promise<void>((resolve) => {
        shelf.entered = resolve;
      });
      await connected();
      const answer = get(504n, {}, 500);
      await entered;
      await answer;
      assert.equal(dispatcher.inFlight, 1);
      await dispatcher.drain(AbortSignal.timeout(50));
      assert.equal(dispatcher.inFlight, 1);
      // Without a deadline, only the end of the handler ends it.
      const drained = dispatcher.drain(new AbortController().signal);
      shelf.release?.();
      await drained;
      assert.equal(dispatcher.inFlight, 0);
    });

    it('counts calls by operation, code and reason', async () => {
      await get(7n);
      await get(404n);
      const text = await prom.metrics();
      assert.match(
        text,
        /test_server_handled_total\{operation="\/product\.v1\.ProductService\/GetProduct",transport="grpc",code="OK",reason=""\} 1/,
      );
      assert.match(text, /code="NOT_FOUND",reason="PRODUCT_NOT_FOUND"\} 1/);
      assert.match(text, /test_server_in_flight\{operation="\/product\.v1\.ProductService\/GetProduct"\} 0/);
    });

    it('reports its health as a dependency changes, and ends the watch when it stops', async () => {
      const check = async (service: string) => {
        const { reply, error } = await send(
          HealthService.check.path,
          HealthService.check.requestSerialize({ service }),
        );
        return error ? error.code : HealthCheckResponse.decode(reply as Buffer).status;
      };
      assert.equal(await check(''), 1);
      assert.equal(await check('product.v1.ProductService'), 1);
      assert.equal(await check('unknown.v1.Nothing'), status.NOT_FOUND);

      const watch = client.makeServerStreamRequest(
        HealthService.watch.path,
        HealthService.watch.requestSerialize,
        HealthService.watch.responseDeserialize,
        { service: '' },
      );
      const [first] = (await once(watch, 'data')) as [HealthCheckResponse];
      assert.equal(first.status, 1);
      up = false;
      const [second] = (await once(watch, 'data')) as [HealthCheckResponse];
      assert.equal(second.status, 2);
      assert.equal(await check(''), 2);
      assert.equal(await check('liveness'), 1);
      const ended = once(watch, 'error') as Promise<[ServiceError]>;
      const stopped = listener.stop(AbortSignal.timeout(5_000));
      assert.equal((await ended)[0].code, status.UNAVAILABLE);
      await stopped;
    });

    it('keeps a connection open after GOAWAY until the client has read it', async () => {
      const socket = connectSocket(listener.port, '127.0.0.1');
      try {
        socket.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), http2Frame(SETTINGS)]));
        const frames = readFrames(socket);
        assert.equal((await frames.next()).value, `${SETTINGS}/0`);
        const stopped = listener.stop(AbortSignal.timeout(5_000));
        for await (const frame of frames) if (frame === `${GOAWAY}/0`) break;
        // A call that the client sent before it read GOAWAY must not meet a closed socket, whose reset says nothing.
        socket.write(http2Frame(PING, Buffer.alloc(8)));
        for await (const frame of frames) if (frame === `${PING}/${ACK}`) break;
        socket.end();
        await stopped;
      } finally {
        socket.destroy();
      }
    });

    it('continues to serve calls after it has asked for new connections', async () => {
      const session = connect(`http://127.0.0.1:${listener.port}`);
      await once(session, 'connect');
      const closed = once(session, 'goaway');
      listener.drain();
      await closed;
      session.destroy();
      const { error } = await send(
        ProductServiceService.getProduct.path,
        ProductServiceService.getProduct.requestSerialize({ id: 7n }),
      );
      assert.equal(error, undefined);
    });

    it('returns each file with its imports to reflection clients', async () => {
      const method = ServerReflectionService.serverReflectionInfo;
      const call = client.makeBidiStreamRequest(method.path, method.requestSerialize, method.responseDeserialize);
      const ask = async (messageRequest: Parameters<typeof method.requestSerialize>[0]['messageRequest']) => {
        call.write({ host: '', messageRequest });
        const [reply] = (await once(call, 'data')) as [ReturnType<typeof method.responseDeserialize>];
        return reply.messageResponse;
      };
      const listed = await ask({ $case: 'listServices', value: '' });
      assert.deepEqual(listed?.$case === 'listServicesResponse' && listed.value.service.map((s) => s.name), [
        'grpc.health.v1.Health',
        'product.v1.ProductService',
      ]);
      const symbols = ['product.v1.ProductService', 'product.v1.ProductService.GetProduct', 'product.v1.Product.name'];
      for (const symbol of [...symbols, 'product.v1.Product.ENABLED', 'auth.v1.role']) {
        const file = await ask({ $case: 'fileContainingSymbol', value: symbol });
        assert.equal(file?.$case, 'fileDescriptorResponse', symbol);
      }
      const file = await ask({ $case: 'fileContainingSymbol', value: 'product.v1.Product' });
      assert.ok(file?.$case === 'fileDescriptorResponse' && file.value.fileDescriptorProto.length > 5);
      assert.equal((await ask({ $case: 'fileContainingSymbol', value: 'x.Y' }))?.$case, 'errorResponse');
      assert.equal((await ask({ $case: 'fileByFilename', value: 'x.proto' }))?.$case, 'errorResponse');
      call.end();
      await once(call, 'end');
    });
  });
}

const SETTINGS = 4;
const PING = 6;
const GOAWAY = 7;
const ACK = 1;

/** A frame of the connection itself, without flags. */
function http2Frame(type: number, payload = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header[3] = type;
  return Buffer.concat([header, payload]);
}

/** Each frame as type/flags. @throws when the peer ends the connection */
async function* readFrames(socket: Socket): AsyncGenerator<string> {
  let rest = Buffer.alloc(0);
  while (true) {
    while (rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
      yield `${rest[3]}/${rest[4]}`;
      rest = rest.subarray(9 + rest.readUIntBE(0, 3));
    }
    const chunk = socket.read() as Buffer | null;
    if (chunk) rest = Buffer.concat([rest, chunk]);
    else if (socket.readableEnded || socket.destroyed) throw new Error('the peer ended the connection');
    else await Promise.race([once(socket, 'readable'), once(socket, 'end'), once(socket, 'close')]);
  }
}
