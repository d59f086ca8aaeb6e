import assert from 'node:assert/strict';
import { createServer, type Server, type Socket } from 'node:net';
import { isDeadlineExceeded, isUnavailable, unavailable } from '../../gen/common/v1/errors.js';
import { InstanceServiceService } from '../../gen/instance/v1/instance.js';
import { isProductNotFound, productNotFound } from '../../gen/product/v1/errors.js';
import { ALL_REASONS } from '../../gen/reasons.js';
import { loadDescriptors } from '../../internal/conf/descriptors.js';
import { KratosError } from '../../internal/kratos/errors/error.js';
import { deadline } from '../../internal/kratos/middleware/deadline.js';
import { recovery } from '../../internal/kratos/middleware/recovery.js';
import type { CallContext } from '../../internal/kratos/transport/call-context.js';
import { bindService, Dispatcher } from '../../internal/kratos/transport/dispatcher.js';
import { GrpcClient } from '../../internal/kratos/transport/grpc/client.js';
import { GrpcListener } from '../../internal/kratos/transport/grpc/listener.js';
import { auth, headerAuthenticator } from '../../internal/server/middleware/auth.js';

const TOKEN = 'a-token-for-this-test';
const CALLER = { metadata: { 'x-internal-token': TOKEN }, reasons: ALL_REASONS };
const GET = InstanceServiceService.getInstanceRequest;

describe('A gRPC client', () => {
  const { registry } = loadDescriptors();
  let calls: CallContext[];
  let handle: (ctx: CallContext) => Promise<never>;
  let listener: GrpcListener;
  let client: GrpcClient;

  beforeEach(async () => {
    calls = [];
    handle = async () => {
      throw productNotFound('no such product', { metadata: { id: '404' } });
    };
    const answer = (_: unknown, ctx: CallContext): Promise<never> => {
      calls.push(ctx);
      return handle(ctx);
    };
    const service = {
      createInstance: answer,
      grantInstance: answer,
      getInstanceRequest: answer,
      reportInstance: answer,
      reportInstances: answer,
    };
    const dispatcher = new Dispatcher(
      registry,
      [bindService(InstanceServiceService, service)],
      [
        recovery(),
        deadline({ grpcTimeoutMs: 5_000, httpTimeoutMs: 5_000 }),
        auth(headerAuthenticator({ internalToken: TOKEN, adminToken: '', bffToken: '', adminByRole: true }), registry),
      ],
    );
    listener = new GrpcListener({ addr: '127.0.0.1:0', maxMessageBytes: 65536 }, dispatcher);
    await listener.start();
    client = new GrpcClient({ addr: `127.0.0.1:${listener.port}`, ...CALLER, timeoutMs: 5_000 });
  });

  afterEach(async () => {
    client.close();
    await listener.stop(AbortSignal.timeout(2_000));
  });

  it('sends the metadata of client and call, and receives the reason of an error', async () => {
    await assert.rejects(client.call(GET, { instanceId: 1n }, { metadata: { 'x-user-id': '9' } }), (err) => {
      assert.ok(isProductNotFound(err));
      assert.equal(err.httpCode, 404);
      assert.deepEqual(err.metadata, { id: '404' });
      return true;
    });
    assert.equal(calls[0]?.identity.role, 'INTERNAL');
    assert.match(calls[0]?.identity.userId ?? '', /0009$/);
  });

  it('sends a deadline earlier than its own, and no call that cannot finish in time', async () => {
    let leftMs = Number.POSITIVE_INFINITY;
    handle = async (ctx) => {
      leftMs = (ctx.deadlineAtMs ?? Number.POSITIVE_INFINITY) - Date.now();
      throw productNotFound('no such product');
    };
    await assert.rejects(client.call(GET, { instanceId: 1n }, { deadlineAtMs: Date.now() + 2_000 }), isProductNotFound);
    // 20 ms of the caller's time are reserved for the reply; the wire has whole milliseconds.
    assert.ok(leftMs <= 1_981, `${leftMs} ms were left`);
    await assert.rejects(client.call(GET, { instanceId: 1n }, { deadlineAtMs: Date.now() + 5 }), isDeadlineExceeded);
    assert.equal(calls.length, 1);
  });

  it('cancels a call when its own caller cancels', async () => {
    const entered = new Promise<CallContext>((resolve) => {
      handle = (ctx) => {
        resolve(ctx);
        return new Promise((_, reject) => ctx.signal.addEventListener('abort', () => reject(ctx.signal.reason)));
      };
    });
    const controller = new AbortController();
    const waiting = client.call(GET, { instanceId: 1n }, { signal: controller.signal });
    const { signal } = await entered;
    const told = new Promise((resolve) => signal.addEventListener('abort', resolve));
    controller.abort();
    await assert.rejects(waiting, (err) => err instanceof KratosError && err.reason === 'CANCELLED');
    await told;
  });

  it('retries idempotent calls only, and only if the service is unavailable', async () => {
    handle = async () => {
      throw calls.length < 3 ? unavailable('starting') : productNotFound('there now');
    };
    await assert.rejects(client.call(GET, { instanceId: 1n }, { idempotent: true }), isProductNotFound);
    assert.equal(calls.length, 3);
    calls.length = 0;
    await assert.rejects(client.call(GET, { instanceId: 1n }), isUnavailable);
    assert.equal(calls.length, 1);
    calls.length = 0;
    handle = async () => {
      throw unavailable('for good');
    };
    await assert.rejects(client.call(GET, { instanceId: 1n }, { idempotent: true }), isUnavailable);
    assert.equal(calls.length, 3);
  });

  it('sends few calls to a service that always fails', async () => {
    handle = async () => {
      throw unavailable('for good');
    };
    for (let i = 0; i < 100; i++) await assert.rejects(client.call(GET, { instanceId: 1n }), isUnavailable);
    assert.ok(calls.length < 70, `${calls.length} of 100 calls were sent`);
  });

  it('fails with UNAVAILABLE if nothing listens, and with DEADLINE_EXCEEDED if nothing answers', async () => {
    const unreachable = new GrpcClient({ addr: '127.0.0.1:1', ...CALLER, timeoutMs: 2_000 });
    await assert.rejects(unreachable.call(GET, { instanceId: 1n }), isUnavailable);
    unreachable.close();

    const sockets: Socket[] = [];
    const mute: Server = createServer((socket) => sockets.push(socket));
    await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve));
    const { port } = mute.address() as { port: number };
    const patient = new GrpcClient({ addr: `127.0.0.1:${port}`, ...CALLER, timeoutMs: 200 });
    await assert.rejects(patient.call(GET, { instanceId: 1n }, { idempotent: true }), isDeadlineExceeded);
    patient.close();
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => mute.close(resolve));
  });
});
