import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './testdata/library.js';

const directory = join(root, 'internal/kratos/transport/transcoder');

function dependencies(path: string): Record<string, string> {
  return (JSON.parse(readFileSync(path, 'utf8')) as { dependencies: Record<string, string> }).dependencies;
}

describe('The transcoder package', () => {
  const own = dependencies(join(directory, 'package.json'));

  it('imports only itself, Node and the dependencies in its package.json', () => {
    const sources = readdirSync(directory).filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'));
    assert.ok(sources.length > 20);
    for (const name of sources) {
      const text = readFileSync(join(directory, name), 'utf8');
      for (const [, from] of text.matchAll(/from '([^']+)'/g)) {
        const known = Object.keys(own).some((dependency) => from === dependency || from!.startsWith(`${dependency}/`));
        assert.ok(known || from!.startsWith('node:') || /^\.\/[a-z-]+\.js$/.test(from!), `${name} imports ${from}`);
      }
    }
  });

  it('lists the dependency versions it is tested with', () => {
    const tested = dependencies(join(root, 'package.json'));
    for (const [name, version] of Object.entries(own)) assert.equal(tested[name], version, name);
  });
});
