import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { send } from './testdata/library.js';

describe('A transcoder server in cluster workers', () => {
  it('shares one address, and exits when stopped', async () => {
    const main = fork(fileURLToPath(new URL('./testdata/cluster-main.js', import.meta.url)), { silent: true });
    try {
      const [line] = (await once(main.stdout!, 'data')) as [Buffer];
      const port = Number(line.toString());
      const workers = new Set<string>();
      for (let i = 0; i < 20; i++) {
        const reply = await send(port, { path: '/v1/books/7' });
        workers.add((JSON.parse(reply.body.toString()) as { title: string }).title);
      }
      assert.equal(workers.size, 2);
      main.kill('SIGTERM');
      assert.deepEqual(await once(main, 'exit'), [0, null]);
    } finally {
      main.kill('SIGKILL');
    }
  });
});
