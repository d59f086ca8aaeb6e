import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { projectRoot } from '../internal/local/project.js';

/** Files that the build stage copies, by the rules in .dockerignore: a folder or file at the top, or `**` and a name. */
function letIn(): string[] {
  const lines = readFileSync(join(projectRoot, '.dockerignore'), 'utf8').split('\n');
  const rules = lines.filter((line) => line !== '' && !line.startsWith('#'));
  assert.equal(rules[0], '*');
  const allowed = rules.filter((rule) => rule.startsWith('!')).map((rule) => rule.slice(1));
  const excluded = rules.filter((rule) => rule.startsWith('**/')).map((rule) => rule.slice('**/'.length));
  assert.equal(allowed.length + excluded.length + 1, rules.length, 'this test knows no other rules');
  assert.ok(
    allowed.every((name) => !name.includes('/') && !name.includes('*')),
    'this test knows no other rules',
  );
  const names = excluded.map((name) => new RegExp(`(^|/)${name.replaceAll('.', '\\.').replaceAll('*', '[^/]*')}(/|$)`));
  return allowed
    .flatMap((name) =>
      statSync(join(projectRoot, name)).isDirectory()
        ? readdirSync(join(projectRoot, name), { recursive: true, encoding: 'utf8' }).map((path) => join(name, path))
        : [name],
    )
    .filter((path) => statSync(join(projectRoot, path)).isFile() && !names.some((n) => n.test(path)));
}

/** The production packages of package-lock.json, which is what `npm prune --omit=dev` leaves. */
function productionPackages(): string[] {
  const lock = JSON.parse(readFileSync(join(projectRoot, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean; devOptional?: boolean }>;
  };
  return Object.entries(lock.packages).flatMap(([path, { dev, devOptional }]) => {
    const name = /^node_modules\/((@[^/]+\/)?[^/]+)$/.exec(path)?.[1];
    return name && !dev && !devOptional && existsSync(join(projectRoot, path)) ? [name] : [];
  });
}

describe('The image', () => {
  const dockerfile = readFileSync(join(projectRoot, 'Dockerfile'), 'utf8');
  let root: string;
  before(() => {
    root = mkdtempSync(join(tmpdir(), 'kaimai-image-'));
  });
  after(() => rmSync(root, { recursive: true, force: true }));

  it('is built from the files that .dockerignore lets in, and its programs load only what it ships', () => {
    const [build, app] = [join(root, 'build'), join(root, 'app')];
    for (const path of letIn()) {
      mkdirSync(dirname(join(build, path)), { recursive: true });
      cpSync(join(projectRoot, path), join(build, path));
      // Older than the installed packages, or make would install them again.
      utimesSync(join(build, path), 0, 0);
    }
    symlinkSync(join(projectRoot, 'node_modules'), join(build, 'node_modules'));
    const command = /^RUN (make .*)$/m.exec(dockerfile)?.[1];
    assert.ok(command, 'the Dockerfile runs make');
    execFileSync('bash', ['-c', command], { cwd: build, stdio: 'pipe' });
    const built = readdirSync(join(build, 'dist'), { recursive: true, encoding: 'utf8' });
    assert.deepEqual(
      built.filter((path) => /\.test\.|testdata|^(test|bench)/.test(path)),
      [],
    );

    // The last stage.
    mkdirSync(app);
    const copied = [...dockerfile.matchAll(/^COPY (--from=build \/app\/)?(\S+) \.\/(\S*)$/gm)].slice(-5);
    assert.deepEqual(
      copied.map((c) => c[2]),
      ['package.json', 'node_modules', 'dist', 'configs', 'migrations'],
    );
    for (const [, , name] of copied) {
      if (name && name !== 'node_modules') cpSync(join(build, name), join(app, name), { recursive: true });
    }
    for (const name of productionPackages()) {
      mkdirSync(dirname(join(app, 'node_modules', name)), { recursive: true });
      symlinkSync(join(projectRoot, 'node_modules', name), join(app, 'node_modules', name));
    }
    const run = (...args: string[]) => execFileSync(process.execPath, args, { cwd: app, encoding: 'utf8' });
    assert.match(run('dist/cmd/kaimai/main.js', '--help'), /migrate/);
    assert.match(execFileSync(join(app, 'dist/cmd/kaimai/main.js'), ['--help'], { encoding: 'utf8' }), /audit/);
    for (const name of ['product', 'resource']) {
      const check = `await import('./dist/cmd/${name}/wire.js');
        const { loadBootstrap } = await import('./dist/internal/conf/load.js');
        console.log(loadBootstrap('configs/${name}.yaml', {}).data.database.role)`;
      assert.equal(run('--input-type=module', '-e', check), `kaimai_${name}\n`);
    }
  });

  it('runs as a numeric user behind an init', () => {
    const last = dockerfile.slice(dockerfile.lastIndexOf('\nFROM '));
    assert.match(last, /^USER \d+:\d+$/m);
    assert.match(last, /^ENTRYPOINT \["tini", "--"\]$/m);
  });
});
