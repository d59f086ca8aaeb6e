/** The reference `http-limit`: a node:http server with cluster workers that parses the same JSON and answers a constant. */
import cluster from 'node:cluster';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';

const { values } = parseArgs({ options: { addr: { type: 'string' }, workers: { type: 'string', default: '1' } } });
const REPLY = JSON.stringify({
  code: 'QUEUED',
  message: 'Purchase accepted; your order is being created',
  data: { seckillId: '1001-1700000000000-0' },
});
const HEADERS = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(REPLY) };

if (cluster.isPrimary) {
  for (let i = 0; i < Number(values.workers); i++) cluster.fork();
  process.once('SIGTERM', () => cluster.disconnect(() => process.exit(0)));
} else {
  const server = createServer((req, res) => {
    const chunks: Buffer[] = [];
    req.on('data', (chunk: Buffer) => chunks.push(chunk));
    req.on('end', () => {
      const { itemId } = JSON.parse(Buffer.concat(chunks).toString()) as { itemId?: string };
      res.writeHead(itemId === undefined ? 400 : 200, HEADERS);
      res.end(REPLY);
    });
  });
  const [host, port] = (values.addr ?? '127.0.0.1:0').split(':');
  server.listen(Number(port), host);
  process.once('SIGTERM', () => {
    server.close();
    server.closeAllConnections();
  });
}
