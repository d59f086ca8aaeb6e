import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { eventually } from '../../test/support/wait.js';
import { projectRoot } from './project.js';
import { SourceWatcher } from './source-watcher.js';

const PRODUCT_MAIN = "export { shared } from '../../internal/shared.js';\n";

describe('The source watcher', () => {
  const root = mkdtempSync(join(tmpdir(), 'kaimai-watch-'));
  const controller = new AbortController();
  const restarts: string[] = [];
  const reports: string[] = [];
  let migrations = 0;
  let watching: Promise<void>;

  function save(file: string, text: string): void {
    const path = join(root, file);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }

  /** The restarts since the last call, once there is one. */
  async function nextRestart(): Promise<string> {
    return eventually('a restart', () => restarts.shift());
  }

  async function nextReport(pattern: RegExp): Promise<string> {
    return eventually(`a report like ${pattern}`, () => reports.find((text) => pattern.test(text)));
  }

  before(async () => {
    symlinkSync(join(projectRoot, 'node_modules'), join(root, 'node_modules'));
    const compilerOptions = { outDir: 'dist', rootDir: '.', module: 'NodeNext', types: [], strict: true };
    const include = ['cmd', 'internal', 'test'];
    save('tsconfig.json', JSON.stringify({ compilerOptions, include }));
    save('package.json', '{"type":"module"}');
    save('Makefile', 'assets:\n\t@! grep broken internal/sale.lua >&2\n\t@cp internal/sale.lua dist/sale.lua\n');
    save('internal/shared.ts', 'export const shared: number = 1;\n');
    save('internal/shared.test.ts', 'export {};\n');
    save('cmd/product/main.ts', PRODUCT_MAIN);
    save('cmd/resource/main.ts', "void import('../../internal/shared.js');\n");
    save('internal/sale.lua', 'return 1');
    save('configs/product.yaml', 'a: 1');
    save('migrations/001.sql', 'SELECT 1');
    const watcher = new SourceWatcher({
      root,
      restart: (services, why) => void restarts.push(`${[...services].sort().join(' ')}: ${why}`),
      migrate: async () => void migrations++,
      report: (message) => void reports.push(message),
    });
    watching = watcher.run(controller.signal);
    await nextReport(/Watching for changes/);
    // What the first compilation writes is new.
    assert.match(await nextRestart(), /^product resource: .* and 2 more$/);
  });

  after(async () => {
    controller.abort();
    await watching;
    rmSync(root, { recursive: true, force: true });
  });

  it('restarts both services for shared code, and one service for its own', async () => {
    save('internal/shared.ts', 'export const shared: number = 2;\n');
    assert.match(await nextRestart(), /^product resource: internal\/shared\.ts/);
    save('cmd/product/main.ts', `${PRODUCT_MAIN}export const own = 1;\n`);
    assert.equal(await nextRestart(), 'product: cmd/product/main.ts');
  });

  it('restarts only the services that load the file', async () => {
    save('cmd/product/own.ts', 'export const own = 1;\n');
    save('cmd/product/main.ts', `${PRODUCT_MAIN}export { own } from './own.js';\n`);
    // The compiler may come to the first file before the second, which loads it, is there.
    assert.match(await nextRestart(), /^product: cmd\/product\/(own|main)\.ts( and 1 more)?$/);
    save('cmd/product/own.ts', 'export const own = 2;\n');
    assert.match(await nextRestart(), /^product: cmd\/product\/own\.ts/);
  });

  it('restarts nothing for a test', async () => {
    save('internal/shared.test.ts', 'export const changed = 1;\n');
    await eventually('the compiled test', () =>
      readFileSync(join(root, 'dist/internal/shared.test.js'), 'utf8').includes('changed'),
    );
    save('cmd/product/main.ts', `${PRODUCT_MAIN}export const own = 2;\n`);
    assert.equal(await nextRestart(), 'product: cmd/product/main.ts');
  });

  it('shows a compile error and restarts nothing until it is fixed', async () => {
    save('internal/shared.ts', "export const shared: number = 'three';\n");
    assert.match(await nextReport(/TS2322/), /internal\/shared\.ts(.|\n)*\n1 error\. The old code keeps running\.$/);
    assert.deepEqual(restarts, []);
    assert.match(readFileSync(join(root, 'dist/internal/shared.js'), 'utf8'), /shared = 2/);
    save('internal/shared.ts', 'export const shared: number = 3;\n');
    assert.equal(await nextRestart(), 'product resource: internal/shared.ts');
  });

  it('copies a Lua script and restarts both services, and keeps the old one when that fails', async () => {
    save('internal/sale.lua', 'return 2');
    assert.equal(await nextRestart(), 'product resource: internal/sale.lua');
    assert.equal(readFileSync(join(root, 'dist/sale.lua'), 'utf8'), 'return 2');
    save('internal/sale.lua', 'broken');
    await nextReport(/^broken(.|\n)*The old code keeps running\.$/);
    assert.equal(readFileSync(join(root, 'dist/sale.lua'), 'utf8'), 'return 2');
    save('internal/sale.lua', 'return 3');
    assert.equal(await nextRestart(), 'product resource: internal/sale.lua');
  });

  it('restarts the service whose configuration changed', async () => {
    save('configs/product.yaml', 'a: 2');
    assert.equal(await nextRestart(), 'product: configs/product.yaml');
  });

  it('migrates when a migration is added', async () => {
    assert.equal(migrations, 0);
    save('migrations/002.sql', 'SELECT 2');
    await eventually('the migration', () => migrations === 1);
  });
});
