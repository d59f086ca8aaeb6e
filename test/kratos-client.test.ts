import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { ErrorInfo } from '../gen/google/rpc/error_details.js';
import { Status } from '../gen/google/rpc/status.js';
import { isOrderAlreadyPaid, ORDER_ALREADY_PAID } from '../gen/order/v1/errors.js';
import {
  CreateProductRequest,
  type GetProductRequest,
  ProductServiceService,
  type UpdateProductRequest,
} from '../gen/product/v1/product.js';
import { ALL_REASONS } from '../gen/reasons.js';
import { loadDescriptors } from '../internal/conf/descriptors.js';
import { KratosError } from '../internal/kratos/errors/error.js';
import { grpcCodeOf, httpCodeOf } from '../internal/kratos/errors/kratos-status.js';
import { invalidArgument } from '../internal/kratos/errors/reasons.js';
import { decodeStatus, reasonTable } from '../internal/kratos/errors/rpc-status.js';
import { SilentLogger } from '../internal/kratos/log/logger.js';
import { recovery } from '../internal/kratos/middleware/recovery.js';
import { bindService, Dispatcher } from '../internal/kratos/transport/dispatcher.js';
import { GrpcListener } from '../internal/kratos/transport/grpc/listener.js';
import { HttpListener } from '../internal/kratos/transport/http/listener.js';
import { validation } from '../internal/kratos/transport/validation.js';
import { projectRoot } from '../internal/local/project.js';
import { auth, headerAuthenticator } from '../internal/server/middleware/auth.js';

/** `transport/http/status/status.go` of Kratos v2.9: ToGRPCCode and FromGRPCCode. Anything else is UNKNOWN or 500. */
const TO_GRPC: Readonly<Record<number, number>> = {
  ...{ 200: 0, 400: 3, 401: 16, 403: 7, 404: 5, 409: 10, 412: 9, 429: 8 },
  ...{ 499: 1, 500: 13, 501: 12, 503: 14, 504: 4 },
};
const FROM_GRPC = [200, 499, 500, 400, 504, 404, 409, 403, 429, 412, 409, 400, 501, 500, 503, 500, 401];

/** What `errors.FromError` and the HTTP client of Kratos make of a reply: they read nothing else of it. */
interface KratosView {
  readonly code: number;
  readonly reason: string;
  readonly message: string;
  readonly metadata: Readonly<Record<string, string>>;
}

function fromGrpc(err: ServiceError): KratosView {
  const [bytes] = err.metadata.get('grpc-status-details-bin');
  const details = bytes === undefined ? [] : Status.decode(bytes as Buffer).details;
  const info = details.find((d) => d.typeUrl.endsWith('/google.rpc.ErrorInfo'));
  const { reason, metadata } = info ? ErrorInfo.decode(info.value) : { reason: '', metadata: {} };
  return { code: FROM_GRPC[err.code] ?? 500, reason, message: err.details, metadata };
}

describe('A Kratos client', () => {
  const { registry } = loadDescriptors();
  let grpc: GrpcListener;
  let http: HttpListener;
  let client: Client;

  before(async () => {
    const unused = () => Promise.reject(new Error('not asked for in this test'));
    const service = {
      getProduct: ({ id }: GetProductRequest) => {
        const spec = ALL_REASONS[Number(id) - 1];
        assert.ok(spec);
        return Promise.reject(new KratosError(spec, 'refused', { metadata: { item_id: '7' } }));
      },
      updateProduct: (_: UpdateProductRequest) => {
        const violations = [
          { field: 'price_fen', description: 'the price_fen must stay' },
          { field: '', description: 'second' },
        ];
        return Promise.reject(invalidArgument('price_fen: the price_fen must stay', { violations }));
      },
      createProduct: unused,
      createProductSpec: unused,
      listProducts: unused,
    };
    const dispatcher = new Dispatcher(
      registry,
      [bindService(ProductServiceService, service)],
      [
        recovery(),
        auth(
          headerAuthenticator({
            internalToken: 'a-token-for-this-test',
            adminToken: '',
            bffToken: '',
            adminByRole: true,
          }),
          registry,
        ),
      ],
      validation(registry),
    );
    grpc = new GrpcListener({ addr: '127.0.0.1:0', maxMessageBytes: 2_000 }, dispatcher);
    const options = {
      ...{ addr: '127.0.0.1:0', envelope: false, strictBody: true, strictQuery: true, maxBodyBytes: 65_536 },
      ...{ errorShape: 'reason', corsOrigins: [], timeoutMs: 5_000, forwardHeaders: ['x-user-role'] },
    };
    http = new HttpListener(options, registry, dispatcher, new SilentLogger(), () => false);
    await grpc.start();
    await http.start();
    client = new Client(`127.0.0.1:${grpc.port}`, credentials.createInsecure());
  });

  after(async () => {
    client.close();
    await grpc.stop(AbortSignal.timeout(2_000));
    await http.stop(AbortSignal.timeout(2_000), Date.now() + 2_000);
  });

  const callGrpc = (path: string, request: Buffer) =>
    new Promise<ServiceError>((resolve, reject) => {
      const metadata = new Metadata();
      metadata.set('x-user-role', 'ADMIN');
      const same = (b: Buffer) => b;
      client.makeUnaryRequest(path, same, same, request, metadata, (err) =>
        err ? resolve(err) : reject(new Error('there was no error')),
      );
    });

  async function callHttp(
    method: string,
    path: string,
    body?: unknown,
  ): Promise<KratosView & { violations?: unknown }> {
    const response = await fetch(`http://127.0.0.1:${http.port}${path}`, {
      method,
      headers: { connection: 'close', 'content-type': 'application/json', 'x-user-role': 'ADMIN' },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    const reply = (await response.json()) as KratosView;
    assert.equal(reply.code, response.status);
    return reply;
  }

  it('reads from the gRPC code of every reason the HTTP status that is declared', () => {
    assert.ok(ALL_REASONS.length > 40);
    for (const { reason, httpCode, grpcCode } of ALL_REASONS) {
      assert.equal(FROM_GRPC[grpcCode], httpCode, `${reason} leaves as gRPC code ${grpcCode}`);
      assert.equal(FROM_GRPC[TO_GRPC[httpCode] ?? 2], httpCode, `${reason} is forwarded by a Kratos service`);
    }
  });

  it('converts by a table of which ours is a part', () => {
    for (let http = 100; http < 600; http++) {
      const grpc = grpcCodeOf(http);
      if (grpc === undefined) continue;
      assert.equal(grpc, TO_GRPC[http]);
      assert.equal(httpCodeOf(grpc), http);
    }
    for (let code = 0; code <= 16; code++) {
      // 9 is 400 in older versions of Kratos.
      if (code !== 9 && code !== 0) assert.equal(httpCodeOf(code), FROM_GRPC[code]);
    }
    assert.equal(httpCodeOf(9), undefined);
  });

  it('gets the same code, reason and metadata of every error over gRPC and over HTTP', async () => {
    for (const [i, spec] of ALL_REASONS.entries()) {
      const request = Buffer.from(ProductServiceService.getProduct.requestSerialize({ id: BigInt(i + 1) }));
      const expected = { code: spec.httpCode, reason: spec.reason, message: 'refused', metadata: { item_id: '7' } };
      const error = await callGrpc(ProductServiceService.getProduct.path, request);
      assert.deepEqual(fromGrpc(error), expected);
      assert.deepEqual(await callHttp('GET', `/v1/products/${i + 1}`), expected);
      const [details] = error.metadata.get('grpc-status-details-bin');
      const ours = decodeStatus(error.code, error.details, details as Buffer, reasonTable(ALL_REASONS));
      assert.equal(isOrderAlreadyPaid(ours), spec === ORDER_ALREADY_PAID);
    }
  });

  it('gets the field violations as metadata, and on the JSON edge with JSON names', async () => {
    const update = Buffer.from(
      ProductServiceService.updateProduct.requestSerialize({ id: 7n, version: 1n } as UpdateProductRequest),
    );
    const grpcView = fromGrpc(await callGrpc(ProductServiceService.updateProduct.path, update));
    assert.deepEqual(JSON.parse(grpcView.metadata.violations ?? ''), [
      { field: 'price_fen', description: 'the price_fen must stay' },
      { field: '', description: 'second' },
    ]);
    const json = await callHttp('PATCH', '/v1/products/7', { version: '1' });
    const inJson = [
      { field: 'priceFen', description: 'the priceFen must stay' },
      { field: '', description: 'second' },
    ];
    assert.deepEqual(json.violations, inJson);
    assert.deepEqual(JSON.parse(json.metadata.violations ?? ''), inJson);
    assert.equal(json.message, 'priceFen: the priceFen must stay');
  });

  it('gets the path of a field that breaks a rule in the names of its protocol', async () => {
    const path = ProductServiceService.createProduct.path;
    const request = CreateProductRequest.fromPartial({ name: 'p', specId: -1n, priceFen: -1n });
    const bytes = Buffer.from(ProductServiceService.createProduct.requestSerialize(request));
    const inGrpc = JSON.parse(fromGrpc(await callGrpc(path, bytes)).metadata.violations ?? '') as { field: string }[];
    assert.ok(inGrpc.some((v) => v.field === 'price_fen'));
    const json = await callHttp('POST', '/v1/products', { name: 'p', specId: '-1', priceFen: '-1' });
    const fields = (json.violations as { field: string }[]).map((v) => v.field);
    assert.deepEqual(
      fields,
      [...inGrpc].map((v) => v.field.replace(/_([a-z])/g, (_, c: string) => c.toUpperCase())),
    );
    assert.ok(json.message.startsWith(`${fields[0]}: `));
  });

  it('gets a reason if a message is larger than the server accepts', async () => {
    const view = fromGrpc(await callGrpc(ProductServiceService.getProduct.path, Buffer.alloc(2_001)));
    assert.deepEqual(view, {
      code: 429,
      reason: 'MESSAGE_TOO_LARGE',
      message: 'the message is larger than 2000 bytes',
      metadata: { max_bytes: '2000' },
    });
  });

  it('can be generated from every proto: each names its Go package', () => {
    const files = ['api', 'third_party', 'internal'].flatMap((folder) =>
      readdirSync(join(projectRoot, folder), { recursive: true, encoding: 'utf8' })
        .filter((name) => name.endsWith('.proto'))
        .map((name) => join(folder, name)),
    );
    assert.ok(files.length > 25);
    const without = files.filter(
      (f) => !/^option go_package = "[^"]+";$/m.test(readFileSync(join(projectRoot, f), 'utf8')),
    );
    assert.deepEqual(without, []);
  });
});
