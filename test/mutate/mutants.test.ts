import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { mutantsOf, mutate } from './mutants.js';
import { ImportGraph } from './selection.js';

/** Every mutated text of a file. */
function mutations(file: string, text: string): string[] {
  return mutantsOf(file, text).map((mutant) => mutate(text, mutant));
}

describe('mutants of TypeScript', () => {
  it('negate conditions, swap operators, change constants and drop statements', () => {
    assert.deepEqual(mutations('a.ts', 'if (a < b) stop();'), [
      'if (!(a < b)) stop();',
      'if (a <= b) stop();',
      'if (a < b) ;',
    ]);
    assert.deepEqual(mutations('a.ts', 'const a = b ?? 0;'), ['const a = b;', 'const a = b ?? 1;']);
    assert.deepEqual(mutations('a.ts', 'const a = Math.min(b, 5n);'), [
      'const a = Math.max(b, 5n);',
      'const a = Math.min(b, (5n + 1n));',
    ]);
    assert.deepEqual(mutations('a.ts', 'function a() { throw b; }'), ['function a() { ; }']);
    assert.deepEqual(mutations('a.ts', 'const a = b && true;'), ['const a = b || true;', 'const a = b && false;']);
  });

  it('leave log lines, types, texts, assertions and resource bounds alone', () => {
    const text = `
      type A = 1 | 2;
      const WAIT_MS = 5_000;
      const a = 'x' + b;
      function f() { this.logger.info('x'); throw new Error('never'); }`;
    assert.deepEqual(mutations('a.ts', text), []);
  });

  it('change the SQL in template literals, and no other template literal', () => {
    assert.deepEqual(mutations('a.ts', 'const a = `SELECT 1 FROM t WHERE a < $1 FOR UPDATE`;'), [
      'const a = `SELECT 1 FROM t WHERE a <= $1 FOR UPDATE`;',
      'const a = `SELECT 1 FROM t WHERE a < $1 `;',
    ]);
    assert.deepEqual(mutations('a.ts', 'const a = `a < b`;'), []);
  });
});

describe('mutants of Lua', () => {
  it('swap operators and drop writes, but not in comments', () => {
    const text = "-- a == b\nif a == b then\n  redis.call('DEL', k)\nend\n";
    assert.deepEqual(mutations('a.lua', text), [
      "-- a == b\nif a ~= b then\n  redis.call('DEL', k)\nend\n",
      '-- a == b\nif a == b then\n  \nend\n',
    ]);
  });
});

describe('mutants of SQL', () => {
  it('drop constraints', () => {
    assert.deepEqual(mutations('a.sql', 'CREATE TABLE t (n int CHECK (n > 0)); -- CHECK (x)'), [
      'CREATE TABLE t (n int ); -- CHECK (x)',
      'CREATE TABLE t (n int CHECK (n >= 0)); -- CHECK (x)',
    ]);
  });

  it('have the line of the file', () => {
    assert.deepEqual(
      mutantsOf('a.sql', '\nSELECT 1\nWHERE a IS NULL').map((m) => m.line),
      [3],
    );
  });
});

describe('the selection of tests for a mutant', () => {
  const root = mkdtempSync(join(tmpdir(), 'kaimai-selection-'));
  after(() => rmSync(root, { recursive: true, force: true }));

  it('has the tests that import the file, the nearest first and those with servers last', () => {
    const files: Record<string, string> = {
      'internal/biz/order.js': 'export const a = 1;',
      'internal/biz/order.test.js': "import { a } from './order.js';",
      'internal/biz/other.test.js': "import { a } from './other.js';",
      'internal/biz/other.js': 'export const a = 1;',
      'internal/data/order.js': "import { a } from '../biz/order.js';",
      'internal/data/order.test.js': "import { b } from './order.js';",
      'test/support/servers.js': 'export const useServers = 1;',
      'test/integration/order.test.js':
        "import { a } from '../../internal/biz/order.js';\nimport { useServers } from '../support/servers.js';",
      'cmd/main.js': '',
      'gen/x.js': '',
    };
    for (const [file, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, file)), { recursive: true });
      writeFileSync(join(root, file), text);
    }
    assert.deepEqual(new ImportGraph(root).testsOf('internal/biz/order.ts'), [
      { file: 'internal/biz/order.test.js', distance: 1, needsServers: false },
      { file: 'internal/data/order.test.js', distance: 2, needsServers: false },
      { file: 'test/integration/order.test.js', distance: 1, needsServers: true },
    ]);
  });
});
