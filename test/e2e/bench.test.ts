import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ID } from '../../bench/goals.js';
import { projectRoot } from '../../internal/local/project.js';

const TIMEOUT_MS = 900_000;

interface Result {
  figures: Record<string, { values: number[] }>;
  notMeasured: Record<string, string>;
  generators: { ghz: string; json: string };
}

describe('The bench', function () {
  this.timeout(TIMEOUT_MS);

  it('measures its figures in a short round, and leaves no processes behind', async () => {
    const out = mkdtempSync(join(tmpdir(), 'kaimai-bench-test-'));
    try {
      const program = join(projectRoot, 'dist/bench/main.js');
      // Without the instances on Kubernetes: test/kubernetes creates those.
      const parts = 'rates,settlement,orders,calls,carts,joins,memory';
      const args = ['--enable-source-maps', program, '--short', '--only', parts, '--out', out];
      const { stdout } = await promisify(execFile)(process.execPath, args, {
        cwd: projectRoot,
        timeout: TIMEOUT_MS - 30_000,
        // The bench must not measure servers that were given to the test run.
        env: { PATH: process.env.PATH },
      });
      const file = readdirSync(out).find((name) => name.endsWith('.json'));
      assert.ok(file, stdout);
      const { figures, notMeasured } = JSON.parse(readFileSync(join(out, file), 'utf8')) as Result;
      for (const id of [
        ID.rpc,
        ID.purchase,
        ID.stream,
        ID.soldOut,
        ID.settled,
        ID.pg,
        ID.completed,
        ID.hotSku,
        ID.cartPut,
        ID.cartGet,
        ID.cartsSaved,
        ...[ID.joinListInside, ID.ownListInside, ID.ownAccessInside, ID.ownStatisticsInside],
        ...[ID.joinList, ID.ownList, ID.ownAccess, ID.ownStatistics, ID.storage],
      ]) {
        assert.equal(figures[id]?.values.length, 1, `${id}: ${notMeasured[id]}\n${stdout}`);
        assert.ok(
          figures[id].values.every((v) => v > 0 && Number.isFinite(v)),
          id,
        );
      }
      assert.deepEqual(figures[ID.completedShare]?.values, [1]);
      assert.match(readFileSync(join(out, file.replace('.json', '.svg')), 'utf8'), /<rect/);
    } finally {
      rmSync(out, { recursive: true, force: true });
    }
  });
});
