import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { projectRoot } from '../internal/local/project.js';

interface Report {
  modules: { source: string }[];
  summary: { violations: { from: string; to: string; rule: { name: string } }[] };
}

/** What dependency-cruiser finds in a tree. */
function cruise(root: string, folders: string[]): Promise<Report> {
  const program = join(projectRoot, 'node_modules/.bin/depcruise');
  const config = join(projectRoot, '.dependency-cruiser.cjs');
  return new Promise((resolve, reject) => {
    // It exits with the number of violations.
    execFile(
      program,
      ['--config', config, '--output-type', 'json', ...folders],
      { cwd: root, maxBuffer: 256 * 1024 * 1024, timeout: 120_000 },
      (error, stdout) => (stdout === '' ? reject(error) : resolve(JSON.parse(stdout) as Report)),
    );
  });
}

describe('layers', function () {
  this.timeout(150_000);

  it('hold in every file', async () => {
    const { modules, summary } = await cruise(projectRoot, ['cmd', 'internal', 'gen', 'test', 'bench']);
    const broken = summary.violations.map(({ rule, from, to }) => `${rule.name}: ${from} → ${to}`);
    assert.deepEqual(broken, []);
    // A tool that sees nothing finds nothing wrong.
    const own = modules.filter(({ source }) => /^(cmd|internal)\//.test(source));
    assert.ok(own.length > 80, `only ${own.length} modules seen`);
    for (const layer of ['kratos', 'biz', 'data', 'service', 'server', 'conf', 'local']) {
      assert.ok(
        own.some(({ source }) => source.startsWith(`internal/${layer}/`)),
        `nothing seen of ${layer}`,
      );
    }
  });

  it('are seen to be broken', async () => {
    const root = mkdtempSync(join(tmpdir(), 'kaimai-layers-'));
    const files: Record<string, string> = {
      'internal/biz/order.ts':
        "import '../data/order.js';\nimport 'pg';\nimport { Container } from 'inversify';\nexport const a = Container;\n",
      'internal/kratos/app/wiring.ts': 'export const providers = 1;\n',
      'internal/biz/usecase.ts': "import '../kratos/app/wiring.js';\n",
      'internal/biz/clock.ts': "import type { Order } from '../service/order.js';\nexport type A = Order;\n",
      'internal/data/order.ts': "import '../server/http.js';\n",
      'internal/service/order.ts': "import '../data/order.js';\nexport interface Order { id: bigint }\n",
      'internal/server/http.ts': "import '../data/order.js';\n",
      'internal/server/x.test.ts': 'export const x = 1;\n',
      'internal/server/y.ts': "import './x.test.js';\nimport './missing.js';\nimport 'mocha';\n",
      'internal/conf/load.ts': "import '../biz/order.js';\n",
      'internal/kratos/app/app.ts': "import '../../service/order.js';\n",
      'internal/local/up.ts': "import '../biz/order.js';\nimport '../../cmd/kaimai/main.js';\n",
      'cmd/kaimai/main.ts': 'export const main = 1;\n',
    };
    try {
      for (const name of ['package.json', 'tsconfig.json', 'node_modules']) {
        symlinkSync(join(projectRoot, name), join(root, name));
      }
      for (const [file, text] of Object.entries(files)) {
        mkdirSync(dirname(join(root, file)), { recursive: true });
        writeFileSync(join(root, file), text);
      }
      const { summary } = await cruise(root, ['cmd', 'internal']);
      const found = new Set(summary.violations.map(({ rule, from }) => `${rule.name} ${from}`));
      const expected = [
        'layer-biz internal/biz/order.ts',
        'layer-biz internal/biz/clock.ts',
        'biz-knows-no-technology internal/biz/order.ts',
        'only-wire-builds-containers internal/biz/order.ts',
        'only-modules-declare-providers internal/biz/usecase.ts',
        'layer-data internal/data/order.ts',
        'layer-service internal/service/order.ts',
        'layer-server internal/server/http.ts',
        'layer-conf internal/conf/load.ts',
        'layer-kratos internal/kratos/app/app.ts',
        'layer-local internal/local/up.ts',
        'nobody-imports-a-command internal/local/up.ts',
        'no-cycles internal/data/order.ts',
        'nothing-unresolved internal/server/y.ts',
        'no-tests-in-the-product internal/server/y.ts',
        'no-development-packages-in-the-product internal/server/y.ts',
      ];
      assert.deepEqual(
        expected.filter((violation) => !found.has(violation)),
        [],
      );
    } finally {
      rmSync(root, { recursive: true, force: true });
    }
  });
});
