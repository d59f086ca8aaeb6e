import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { projectRoot } from '../internal/local/project.js';

describe('The check for breaking changes', () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'kaimai-breaking-'));
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  // A git hook sets variables that point to another repository.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('GIT_')));

  function git(...args: string[]): void {
    execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@example.com', ...args], { cwd: dir, env });
  }

  function write(fields: string): void {
    mkdirSync(join(dir, 'api'), { recursive: true });
    writeFileSync(join(dir, 'buf.yaml'), 'version: v2\nmodules:\n  - path: api\nbreaking:\n  use:\n    - WIRE_JSON\n');
    writeFileSync(join(dir, 'api/a.proto'), `syntax = "proto3";\npackage a;\nmessage Order {\n${fields}\n}\n`);
  }

  function check(): { code: number | null; out: string } {
    const run = spawnSync(join(projectRoot, '.ci/breaking'), { cwd: dir, env, encoding: 'utf8', timeout: 240_000 });
    return { code: run.status, out: run.stdout + run.stderr };
  }

  it('passes and says so if there is no release', () => {
    write('int64 id = 1;');
    assert.deepEqual(check(), { code: 0, out: 'buf breaking: not a git checkout, so no release to compare with\n' });
    git('init', '-q');
    git('add', '.');
    git('commit', '-qm', 'first');
    git('tag', 'visual-identity');
    assert.match(check().out, /no release yet/);
    assert.equal(check().code, 0);
  });

  it('compares the protos with the newest release', () => {
    write('int64 id = 1;\nstring name = 2;');
    git('init', '-q');
    git('add', '.');
    git('commit', '-qm', 'first');
    git('tag', 'v0.9.0');
    write('int64 id = 1;\nstring name = 2;\nstring remark = 3;');
    git('commit', '-qam', 'second');
    git('tag', 'v0.10.0');
    assert.deepEqual(check(), { code: 0, out: 'buf breaking: nothing breaks since v0.10.0\n' });
    // Only v0.10.0 has it, which would not be the newest tag if tags were compared as text.
    write('int64 id = 1;\nstring name = 2;');
    const gone = check();
    assert.notEqual(gone.code, 0);
    assert.match(gone.out, /Previously present field "3" with name "remark"/);
    write('int64 id = 1;\nstring title = 2;\nstring remark = 3;');
    assert.match(check().out, /"name" to "title"/);
  });
});
