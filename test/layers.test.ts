import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { projectRoot } from '../internal/local/project.js';

interface Report {
  modules: { source: string; dependencies: { resolved: string }[] }[];
  summary: { violations: { from: string; to: string; rule: { name: string } }[] };
}

/** The report of dependency-cruiser on a tree. */
function cruise(root: string, folders: string[]): Promise<Report> {
  const program = join(projectRoot, 'node_modules/.bin/depcruise');
  const config = join(projectRoot, '.dependency-cruiser.cjs');
  return new Promise((resolve, reject) => {
    // It exits with the number of violations.
    execFile(
      program,
      ['--config', config, '--output-type', 'json', ...folders],
      { cwd: root, maxBuffer: 256 * 1024 * 1024, timeout: 280_000 },
      (error, stdout) => (stdout === '' ? reject(error) : resolve(JSON.parse(stdout) as Report)),
    );
  });
}

/** Writes files into a tree that has the project's settings. */
function plant(root: string, files: Readonly<Record<string, string>>): void {
  for (const name of ['package.json', 'tsconfig.json', 'node_modules']) {
    symlinkSync(join(projectRoot, name), join(root, name));
  }
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, file)), { recursive: true });
    writeFileSync(join(root, file), text);
  }
}

const NOT_PRODUCT = /\.test\.ts$|\/testdata\/|-module\.ts$/;

/**
 * The folder that a file of a layer belongs to, undefined for a file of another layer. In biz and data a folder is one
 * noun or engine, and each file at the top counts as a folder of its own; in kratos every directory counts.
 */
function folderOf(layer: string, file: string): string | undefined {
  const prefix = `internal/${layer}/`;
  if (!file.startsWith(prefix)) return undefined;
  const path = file.slice(prefix.length);
  return layer === 'kratos' ? dirname(path) : path.split('/')[0];
}

/** Imports between folders of a layer that are part of a cycle of folders, as `from → to`. */
function folderCycles(layer: string, modules: Report['modules']): string[] {
  const imports = new Map<string, Map<string, string>>();
  for (const { source, dependencies } of modules) {
    for (const { resolved } of dependencies) {
      if (NOT_PRODUCT.test(source) || NOT_PRODUCT.test(resolved)) continue;
      const [from, to] = [folderOf(layer, source), folderOf(layer, resolved)];
      if (from === undefined || to === undefined || from === to) continue;
      const targets = imports.get(from) ?? new Map<string, string>();
      imports.set(from, targets.set(to, `${source} → ${resolved}`));
    }
  }
  const reaches = (start: string, end: string): boolean => {
    const seen = new Set([start]);
    for (const folder of seen) for (const target of imports.get(folder)?.keys() ?? []) seen.add(target);
    return seen.has(end);
  };
  return [...imports].flatMap(([from, targets]) =>
    [...targets].filter(([to]) => reaches(to, from)).map(([, example]) => example),
  );
}

const FOLDERED_LAYERS = ['biz', 'data', 'kratos'];

describe('layers', () => {
  it('are kept by every file, and no folders of a layer import each other', async () => {
    const { modules, summary } = await cruise(projectRoot, ['api', 'cmd', 'internal', 'gen', 'test', 'bench']);
    const broken = summary.violations.map(({ rule, from, to }) => `${rule.name}: ${from} → ${to}`);
    assert.deepEqual(broken, []);
    // A tool that sees no files reports no violations.
    const own = modules.filter(({ source }) => /^(cmd|internal)\//.test(source));
    assert.ok(own.length > 80, `only ${own.length} modules seen`);
    for (const layer of ['kratos', 'biz', 'data', 'service', 'server', 'conf', 'local']) {
      assert.ok(
        own.some(({ source }) => source.startsWith(`internal/${layer}/`)),
        `nothing seen of ${layer}`,
      );
    }
    for (const layer of FOLDERED_LAYERS) assert.deepEqual(folderCycles(layer, modules), [], layer);
  });

  it('are reported when they are broken', async () => {
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
      'internal/kratos/errors/reasons.ts': "import '../../../gen/common/v1/errors.js';\n",
      'internal/kratos/app/process.ts': "import '../../conf/load.js';\n",
      'internal/kratos/transport/call.ts': "import type { A } from '../../biz/clock.js';\nexport type B = A;\n",
      'internal/kratos/transport/wire.ts': "import '../../../gen/google/rpc/status.js';\n",
      'gen/common/v1/errors.ts': 'export const REASONS = 1;\n',
      'gen/google/rpc/status.ts': 'export const OK = 0;\n',
      'internal/local/up.ts': "import '../biz/order.js';\nimport '../../cmd/kaimai/main.js';\n",
      'cmd/kaimai/main.ts': 'export const main = 1;\n',
      'api/seckill/v1/client/client.ts': "import '../../../../internal/service/order.js';\n",
    };
    try {
      plant(root, files);
      const { summary } = await cruise(root, ['api', 'cmd', 'internal', 'gen']);
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
        'layer-kratos internal/kratos/errors/reasons.ts',
        'layer-kratos internal/kratos/app/process.ts',
        'layer-kratos internal/kratos/transport/call.ts',
        'layer-local internal/local/up.ts',
        'no-imports-of-commands internal/local/up.ts',
        'clients-need-only-the-protos api/seckill/v1/client/client.ts',
        'no-cycles internal/data/order.ts',
        'nothing-unresolved internal/server/y.ts',
        'no-tests-in-the-product internal/server/y.ts',
        'no-development-packages-in-the-product internal/server/y.ts',
      ];
      assert.deepEqual(
        expected.filter((violation) => !found.has(violation)),
        [],
      );
      // The protos of gRPC, Google and Kratos are open to the framework.
      assert.ok(!found.has('layer-kratos internal/kratos/transport/wire.ts'));
    } finally {
      rmSync(root, { recursive: true, force: true });
    }
  });

  it('are reported when folders import each other, although no files do', async () => {
    const root = mkdtempSync(join(tmpdir(), 'kaimai-layers-'));
    const files: Record<string, string> = {
      'internal/biz/order/order.ts': "import '../stock.js';\n",
      'internal/biz/stock.ts': "import './seckill/sale.js';\n",
      'internal/biz/seckill/sale.ts': 'export const sale = 1;\n',
      'internal/biz/seckill/settle.ts': "import '../order/payment.js';\n",
      'internal/biz/seckill/settle.test.ts': "import '../user/user.js';\n",
      'internal/biz/order/payment.ts': 'export const payment = 1;\n',
      'internal/biz/user/user.ts': "import '../order/payment.js';\n",
      'internal/kratos/transport/grpc/listener.ts': "import '../../app/server.js';\n",
      'internal/kratos/transport/grpc/client.ts': 'export const client = 1;\n',
      'internal/kratos/app/app.ts': "import '../transport/grpc/client.js';\n",
      'internal/kratos/app/server.ts': 'export const server = 1;\n',
    };
    try {
      plant(root, files);
      const { modules, summary } = await cruise(root, ['internal']);
      assert.deepEqual(
        summary.violations.filter(({ rule }) => rule.name === 'no-cycles'),
        [],
      );
      assert.deepEqual(folderCycles('biz', modules).sort(), [
        'internal/biz/order/order.ts → internal/biz/stock.ts',
        'internal/biz/seckill/settle.ts → internal/biz/order/payment.ts',
        'internal/biz/stock.ts → internal/biz/seckill/sale.ts',
      ]);
      assert.deepEqual(folderCycles('kratos', modules).sort(), [
        'internal/kratos/app/app.ts → internal/kratos/transport/grpc/client.ts',
        'internal/kratos/transport/grpc/listener.ts → internal/kratos/app/server.ts',
      ]);
    } finally {
      rmSync(root, { recursive: true, force: true });
    }
  });
});
