import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { projectRoot } from '../../../internal/local/project.js';
import { DemoClient } from './client.js';

const FILES = join(projectRoot, 'internal/kratos/transport/tls/testdata');
const file = (name: string) => join(FILES, name);

describe('The client of the command line', () => {
  const CLIENT = { ca: file('ca.pem'), cert: file('client.pem'), key: file('client.key') };
  let server: Server;
  let url: string;

  before(async () => {
    const [ca, cert, key] = ['ca.pem', 'server.pem', 'server.key'].map((name) => readFileSync(file(name)));
    server = createServer({ ca, cert, key, requestCert: true }, (req, res) => {
      req.resume().on('end', () => {
        res.setHeader('connection', 'close');
        res.end(JSON.stringify({ method: req.method, token: req.headers['x-admin-token'] }));
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  after(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });

  it('connects with a certificate and the token of operators', async () => {
    const client = new DemoClient(url, { adminToken: 'the-token' }, CLIENT);
    assert.deepEqual(await client.admin('POST', '/', {}), { method: 'POST', token: 'the-token' });
  });

  it('says why it does not connect', async () => {
    await assert.rejects(new DemoClient(url).admin('GET', '/'), /does not answer \(.*certificate/);
    await assert.rejects(new DemoClient(url, {}, { ca: CLIENT.ca }).admin('GET', '/'), /does not answer/);
  });
});
