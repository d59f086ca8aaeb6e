import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { isUnavailable } from '../gen/common/v1/errors.js';
import { Product, ProductServiceService } from '../gen/product/v1/product.js';
import { ALL_REASONS } from '../gen/reasons.js';
import { loadDescriptors } from '../internal/conf/descriptors.js';
import { SilentLogger } from '../internal/kratos/log/logger.js';
import { bindService, Dispatcher } from '../internal/kratos/transport/dispatcher.js';
import { GrpcClient } from '../internal/kratos/transport/grpc/client.js';
import { GrpcListener } from '../internal/kratos/transport/grpc/listener.js';
import { HttpListener } from '../internal/kratos/transport/http/listener.js';
import { ServerTls } from '../internal/kratos/transport/tls/server-tls.js';
import { projectRoot } from '../internal/local/project.js';
import { eventually } from './support/wait.js';

const FILES = join(projectRoot, 'internal/kratos/transport/tls/testdata');
const file = (name: string) => join(FILES, name);
const POLL_MS = 10;

describe('Listeners and clients with TLS', () => {
  let dir: string;
  let clientCa: string;
  let grpc: GrpcListener;
  let http: HttpListener;

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'kaimai-tls-'));
    install('server');
    clientCa = '';
  });
  afterEach(async () => {
    await grpc.stop(AbortSignal.timeout(2_000));
    await http.stop(AbortSignal.timeout(2_000), Date.now() + 2_000);
    rmSync(dir, { recursive: true });
  });

  function install(name: string): void {
    copyFileSync(file(`${name}.pem`), join(dir, 'cert.pem'));
    copyFileSync(file(`${name}.key`), join(dir, 'key.pem'));
  }

  async function listen(host = '127.0.0.1'): Promise<void> {
    const { registry } = loadDescriptors();
    const unused = () => Promise.reject(new Error('not asked for in this test'));
    const service = {
      getProduct: async ({ id }: { id: bigint }) => Product.create({ id, name: 'plan' }),
      updateProduct: unused,
      createProduct: unused,
      createProductSpec: unused,
      listProducts: unused,
    };
    const dispatcher = new Dispatcher(registry, [bindService(ProductServiceService, service)], []);
    const tls = () => {
      return new ServerTls(
        { cert: join(dir, 'cert.pem'), key: join(dir, 'key.pem'), clientCa },
        new SilentLogger(),
        POLL_MS,
      );
    };
    grpc = new GrpcListener({ addr: `${host}:0`, maxMessageBytes: 65_536, tls: tls() }, dispatcher);
    const options = {
      ...{ addr: '127.0.0.1:0', envelope: false, strictBody: true, strictQuery: true, maxBodyBytes: 65_536 },
      ...{ errorShape: 'reason', corsOrigins: [], timeoutMs: 5_000, forwardHeaders: [], tls: tls() },
    };
    http = new HttpListener(options, registry, dispatcher, new SilentLogger(), () => false);
    await grpc.start();
    await http.start();
  }

  async function askGrpc(
    tls: { ca?: string; cert?: string; key?: string; serverName?: string },
    host = '127.0.0.1',
  ): Promise<string> {
    const client = new GrpcClient({
      addr: `${host}:${grpc.port}`,
      reasons: ALL_REASONS,
      timeoutMs: 5_000,
      tls: { ca: file('ca.pem'), cert: '', key: '', serverName: '', ...tls },
    });
    try {
      return (await client.call(ProductServiceService.getProduct, { id: 7n })).name;
    } finally {
      client.close();
    }
  }

  function askHttp(own: { cert?: Buffer; key?: Buffer } = {}): Promise<string> {
    const url = `https://127.0.0.1:${http.port}/v1/products/7`;
    return new Promise((resolve, reject) => {
      const req = request(url, { ca: readFileSync(file('ca.pem')), agent: false, ...own }, (res) => {
        let text = '';
        res.setEncoding('utf8').on('data', (part: string) => {
          text += part;
        });
        res.on('end', () => resolve((JSON.parse(text) as { name: string }).name));
      });
      req.on('error', reject).end();
    });
  }

  const client = { cert: file('client.pem'), key: file('client.key') };
  const clientFiles = { cert: readFileSync(client.cert), key: readFileSync(client.key) };

  it('serve clients that trust the certificate, and no others', async () => {
    await listen();
    assert.equal(await askGrpc({}), 'plan');
    assert.equal(await askGrpc({ serverName: 'shop.test' }), 'plan');
    assert.equal(await askHttp(), 'plan');
    await assert.rejects(askGrpc({ serverName: 'other.test' }), isUnavailable);
    await assert.rejects(askGrpc({ ca: 'system' }), isUnavailable);
    await assert.rejects(askGrpc({ ca: '' }), isUnavailable);
    await assert.rejects(fetch(`https://127.0.0.1:${http.port}/v1/products/7`));
  });

  it('serve clients that call an address, if the certificate has that address', async () => {
    await listen();
    assert.equal(await askGrpc({}, 'dns:///127.0.0.1'), 'plan');
    await grpc.stop(AbortSignal.timeout(2_000));
    await http.stop(AbortSignal.timeout(2_000), Date.now() + 2_000);
    await listen('127.0.0.2');
    await assert.rejects(askGrpc({}, '127.0.0.2'), isUnavailable);
    assert.equal(await askGrpc({ serverName: 'shop.test' }, '127.0.0.2'), 'plan');
  });

  it('require a certificate of clients if client_ca is set', async () => {
    clientCa = file('ca.pem');
    await listen();
    assert.equal(await askGrpc(client), 'plan');
    assert.equal(await askHttp(clientFiles), 'plan');
    await assert.rejects(askGrpc({}), isUnavailable);
    await assert.rejects(askHttp());
  });

  it('use a renewed certificate without a restart, and keep the previous one while the files do not match', async () => {
    await listen();
    const fingerprint = (port: number) =>
      new Promise<string>((resolve, reject) => {
        const socket = connect(
          { port, host: '127.0.0.1', ca: readFileSync(file('ca.pem')), ALPNProtocols: ['h2', 'http/1.1'] },
          () => {
            resolve(socket.getPeerCertificate().fingerprint256);
            socket.destroy();
          },
        );
        socket.on('error', reject);
      });
    const both = () => Promise.all([fingerprint(grpc.port), fingerprint(http.port)]);
    const before = await both();
    writeFileSync(join(dir, 'key.pem'), readFileSync(file('renewed.key')));
    await new Promise((resolve) => setTimeout(resolve, 5 * POLL_MS));
    assert.deepEqual(await both(), before);
    install('renewed');
    await eventually('both listeners have the renewed certificate', async () => {
      const now = await both();
      return now[0] === now[1] && now[0] !== before[0];
    });
    assert.equal(await askGrpc({}), 'plan');
    assert.equal(await askHttp(), 'plan');
  });
});
