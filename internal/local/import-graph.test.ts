import assert from 'node:assert/strict';
import { join } from 'node:path';
import { ImportGraph } from './import-graph.js';
import { projectRoot } from './project.js';

describe('The import graph', () => {
  const graph = new ImportGraph(join(projectRoot, 'dist'));

  it('follows static and dynamic imports of a program, and leaves out what it does not load', () => {
    const product = graph.filesOf('cmd/product/main.js');
    for (const file of ['cmd/product/main.js', 'cmd/product/wire.js', 'internal/service/product.js']) {
      assert.ok(product.has(file), file);
    }
    assert.ok(!product.has('cmd/resource/wire.js'));
    assert.ok(![...product].some((file) => file.endsWith('.test.js')));
    const resource = graph.filesOf('cmd/resource/main.js');
    assert.ok(resource.has('internal/service/instance-log.js'));
    assert.ok(!resource.has('internal/service/product.js'));
  });

  it('names the packages of a program', () => {
    const packages = graph.packagesOf('cmd/product/main.js');
    for (const name of ['pg', 'inversify', '@grpc/grpc-js']) assert.ok(packages.has(name), name);
    assert.ok(![...packages].some((name) => name.startsWith('node:') || name.startsWith('.')));
  });
});
